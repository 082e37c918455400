"""The feature sets of the tasks: what is declared, its fingerprint, and its documentation."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from sqlalchemy import select
from sqlalchemy.orm import Session

from crm_core.columns import dump_json
from crm_core.errors import FeatureError, OutcomeFieldError
from crm_core.fields import FieldDeclaration, FieldKind, Known, list_fields
from crm_core.recall import recalled
from crm_core.store import Store
from features.account import ACCOUNT_FEATURES
from features.custom_records import linked_features
from features.deal import DEAL_FEATURES
from features.declaration import Feature
from features.facts import Plan
from features.field_features import DaysUntil, FieldValue
from features.lead import LEAD_FEATURES
from features.wording import Noun

MEANING = 2
"""Grows when declarations stay and what they compute changes, so that no older model is fed by them."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Features that are one reason, with their positions among the explained ones."""

    name: str
    features: tuple[Feature, ...]
    positions: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """The features of one task, all of one record type."""

    name: str
    record_type: str
    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        """Refuse two features of one name, and features of another record."""
        for feature in self.features:
            if feature.record != self.record_type:
                raise FeatureError(
                    f"{feature.name} is of {feature.record}, {self.name} asks about {self.record_type}"
                )
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise FeatureError(f"{self.name} declares {', '.join(twice)} more than once")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns, in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def plan(self) -> Plan:
        """Return what has to be read."""
        return Plan.of(
            self.record_type,
            (need for feature in self.features for need in feature.needs()),
            (ask for feature in self.features for ask in feature.asks()),
        )

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256 of everything that decides what the columns hold."""
        content = {
            "meaning": MEANING,
            "record_type": self.record_type,
            "features": [feature.declaration() for feature in self.features],
        }
        return hashlib.sha256(dump_json(content).encode()).hexdigest()

    @cached_property
    def source_fields(self) -> frozenset[str]:
        """Return every field that is read, as `record.field`."""
        return frozenset(field for feature in self.features for field in feature.source_fields)

    def get(self, name: str) -> Feature:
        """Return a feature by its name."""
        found = self._by_name.get(name)
        if found is None:
            raise FeatureError(f"{self.name} has no feature {name!r}")
        return found

    @cached_property
    def _by_name(self) -> dict[str, Feature]:
        return dict(zip(self.names, self.features, strict=True))

    def grouped(self, names: tuple[str, ...]) -> list[Group]:
        """Return the groups of features that are one reason each, in the order of their first one."""
        found = self._grouped.get(names)
        if found is None:
            members: dict[str, list[int]] = {}
            for position, name in enumerate(names):
                members.setdefault(self.get(name).group, []).append(position)
            found = self._grouped[names] = [
                Group(
                    name=group, features=tuple(self.get(names[at]) for at in places), positions=tuple(places)
                )
                for group, places in members.items()
            ]
        return found

    @cached_property
    def _grouped(self) -> dict[tuple[str, ...], list[Group]]:
        return {}

    def select(self, names: Iterable[str]) -> FeatureSet:
        """Return the set with these features only, in this order."""
        return replace(self, features=tuple(self.get(name) for name in names))

    def without_groups(self, *groups: str) -> FeatureSet:
        """Return the set without the features of these groups."""
        return replace(self, features=tuple(f for f in self.features if f.group not in groups))

    def without_fields(self, unusable: frozenset[str]) -> FeatureSet:
        """Return the set without what reads fields (`record.field`) that cannot be inputs."""
        left = (feature.without_fields(unusable) for feature in self.features)
        return replace(self, features=tuple(feature for feature in left if feature is not None))


FEATURE_SETS: dict[str, FeatureSet] = {
    "lead_scoring": FeatureSet(name="lead_scoring", record_type="lead", features=LEAD_FEATURES),
    "win_probability": FeatureSet(name="win_probability", record_type="deal", features=DEAL_FEATURES),
    "churn": FeatureSet(name="churn", record_type="account", features=ACCOUNT_FEATURES),
}
"""The built-in features by the name of their task."""


def feature_set_for(store: Store, task_name: str, *, retired: bool = False) -> FeatureSet:
    """Return what a task may look at in this store: built-in features and custom fields known in time.

    Features of fields that an import declared as written at the outcome, or as having no history, are left
    out. So are those of retired fields, unless asked for: a model that reads them still serves.
    """
    with store.reading() as session:
        return feature_set_in(session, task_name, retired=retired)


def feature_set_in(session: Session, task_name: str, *, retired: bool = False) -> FeatureSet:
    """Return the same from an open session."""
    if task_name not in FEATURE_SETS:
        raise FeatureError(f"no feature set {task_name!r}; expected one of {', '.join(FEATURE_SETS)}")
    base = FEATURE_SETS[task_name].without_fields(unusable_fields(session))
    fields = [each for each in list_fields(session, base.record_type) if retired or each.retired_at is None]
    custom = [feature for feature in map(_custom_feature, fields) if feature is not None]
    linked = linked_features(session, base.record_type, retired=retired)
    return replace(base, features=(*base.features, *custom, *linked))


def unusable_fields(session: Session) -> frozenset[str]:
    """Return the fields (`record.field`) declared as known at the outcome or at no known time."""
    return recalled(session, "unusable fields", lambda: _read_unusable_fields(session))


def _read_unusable_fields(session: Session) -> frozenset[str]:
    query = select(FieldDeclaration.record_type, FieldDeclaration.name).where(
        FieldDeclaration.known.in_((Known.OUTCOME, Known.UNKNOWN))
    )
    return frozenset(f"{record_type}.{name}" for record_type, name in session.execute(query))


def check_usable(session: Session, feature_set: FeatureSet) -> None:
    """Raise OutcomeFieldError naming the fields of `feature_set` that the store declares as no inputs."""
    refused = sorted(feature_set.source_fields & unusable_fields(session))
    if refused:
        names = ", ".join(refused)
        raise OutcomeFieldError(
            f"{feature_set.name} reads {names}: known only at the outcome, or at no known time"
        )


def describe() -> str:
    """Return the documentation of every built-in feature, in Markdown."""
    return "\n\n".join(_describe(feature_set) for feature_set in FEATURE_SETS.values())


def _describe(feature_set: FeatureSet) -> str:
    head = ["| feature | unit | a rep reads | missing | group | reads |", "|---|---|---|---|---|---|"]
    rows = [
        f"| `{one.name}` | {one.unit} | {one.sentence_en} / {one.sentence_zh} "
        f"| {one.nan_meaning} | {one.group} | {_fields(one)} |"
        for one in feature_set.features
    ]
    title = f"### {feature_set.name} ({feature_set.record_type}, {len(rows)} features)"
    return "\n".join((title, "", *head, *rows))


def _fields(feature: Feature) -> str:
    return ", ".join(f"`{field}`" for field in feature.source_fields) or "the question alone"


def _custom_feature(field: FieldDeclaration) -> Feature | None:
    if not field.name.startswith("custom.") or field.known not in (Known.CREATION, Known.HISTORY):
        return None
    kind = FieldKind(field.kind or FieldKind.TEXT)
    if kind is FieldKind.REFERENCE:
        return None  # the id of another record says nothing by itself
    plain = field.name.removeprefix("custom.").replace("_", " ")
    english = field.label_en or plain
    noun = Noun(one=english, many=english, zh=field.label_zh or field.label_en or plain)
    if kind in (FieldKind.INSTANT, FieldKind.DAY):
        return DaysUntil(record=field.record_type, field=field.name, kind=kind, noun=noun)
    return FieldValue(
        record=field.record_type, field=field.name, kind=kind, noun=noun, labels=_labels_of(field)
    )


def _labels_of(field: FieldDeclaration) -> tuple[tuple[str, str, str], ...]:
    """Return the words of a choice field with their English and Chinese labels."""
    return tuple(
        (
            str(each["value"]),
            str(each.get("label_en") or each["value"]),
            str(each.get("label_zh") or each.get("label_en") or each["value"]),
        )
        for each in field.choices or ()
    )
