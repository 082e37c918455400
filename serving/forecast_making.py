"""Forecasts made ahead of whoever looks: by jobs, kept until the records have moved on.

A page asks `look`: it gets what is kept, and whether that is still good. Where it is not, or nothing is kept,
`ask_for` adds a job, and what is kept goes on being shown with its instant. The first job of a home replays
the past before (see `models.forecasting.learned`); how far it has come is in a file beside the lessons.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from crm_core.access import Scope
from crm_core.errors import CRMError, HopelessJobError, NotEnoughDataError
from crm_core.jobs import Job, JobState, enqueue, list_jobs
from crm_core.kept_forecasts import Basis, KeptForecast, find_kept, keep, newest_change
from crm_core.promotions import Promotion, find_champion
from crm_core.records import Deal, User
from crm_core.store import Store
from crm_core.tokens import check_works_here
from serving.forecasts import (
    LEARN_AGAIN_AFTER,
    Part,
    Question,
    find_lessons,
    forecast_for,
    learn_lessons,
    owners_seen_by,
)
from serving.home import Home
from serving.settings import Settings

if TYPE_CHECKING:
    from models.bundle import ModelBundle
    from models.forecasting.learned import Learned

FORECAST = "forecast"
"""The kind of job that makes and keeps one."""

GOOD_FOR = timedelta(minutes=1)
"""For so long a forecast is good whatever was written meanwhile."""

GOOD_AT_MOST = timedelta(hours=1)
"""For so long it is good if nothing was written: chances move with time alone as well."""

MOVES_KEPT = 8
"""Deals that moved a period most, kept with it."""

DEALS_KEPT = 10
"""Open deals that bring most, kept with a period."""

_TASK = "win_probability"
_learning = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Making:
    """A job that makes a forecast: its state, why it failed, and how far the replaying of the past is."""

    state: str
    error: str | None
    since: datetime
    step: str | None = None
    done: int = 0
    of: int = 0

    @property
    def goes_on(self) -> bool:
        """Say whether there will be a forecast without anybody's doing."""
        return self.state in {JobState.WAITING, JobState.RUNNING}


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What is kept of a part (None: nothing), whether it is still good, and the newest job about it."""

    scope: str
    told: Mapping[str, Any] | None
    made_at: datetime | None
    is_good: bool
    making: Making | None


def look(home: Home, session: Session, user: User, part: Part, now: datetime) -> Looked:
    """Return what is kept of the part that somebody asks about, within their rights as they are now.

    Raises AccessDeniedError as `seen_by` of `serving.forecasts` does.
    """
    scope = scope_of(session, user, part)
    kept = find_kept(session, scope)
    is_good = kept is not None and _is_good(session, kept, now)
    newest = [] if is_good else list_jobs(session, topic=_topic(scope), limit=1)
    return Looked(
        scope=scope,
        told=None if kept is None else kept.content,
        made_at=None if kept is None else kept.made_at,
        is_good=is_good,
        making=_making(home, newest[0]) if newest else None,
    )


def _is_good(session: Session, kept: KeptForecast, now: datetime) -> bool:
    age = now - kept.made_at
    if age <= GOOD_FOR:
        return True
    basis = _basis(session)
    return age <= GOOD_AT_MOST and (basis.log_id, basis.champion) == (kept.log_id, kept.champion)


def _basis(session: Session) -> Basis:
    version = select(Promotion.model_version).where(Promotion.task == _TASK)
    champion = version.order_by(Promotion.id.desc()).limit(1).scalar_subquery()
    log_id, served = session.execute(select(newest_change(), champion)).one()
    return Basis(log_id=log_id, champion=served or "")


def _making(home: Home, job: Job) -> Making:
    step = read_progress(home) if job.state == JobState.RUNNING else {}
    return Making(state=job.state, error=job.last_error, since=job.created_at, **step)


def scope_of(session: Session, user: User, part: Part) -> str:
    """Return what stands for the deals somebody may see, of the part they name, and what of these."""
    reader, owners = owners_seen_by(session, user, part)
    told = {
        "who": None if reader.right("deal").read is Scope.ALL else user.id,
        "owners": None if owners is None else owners.tolist(),
        "part": [part.owner_id, part.team_id],
        "reps": reader.may_read_field("deal", "rep_probability"),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def ask_for(store: Store, user: User, part: Part, scope: str, *, anyway: bool = False) -> None:
    """Have a forecast made, unless that is under way; after a failure not at once, except with `anyway`."""
    with store.transaction() as transaction:
        session, now = transaction.session, transaction.now
        newest = list_jobs(session, topic=_topic(scope), limit=1)
        if newest and not _may_begin(newest[0], now, anyway=anyway):
            return
        payload = {"user_id": user.id, "owner_id": part.owner_id, "team_id": part.team_id}
        enqueue(session, FORECAST, payload, now=now, topic=_topic(scope))


def _may_begin(newest: Job, now: datetime, *, anyway: bool) -> bool:
    if newest.state == JobState.DEAD:
        return anyway or now - (newest.ended_at or newest.created_at) >= GOOD_AT_MOST
    return newest.state == JobState.DONE


def _topic(scope: str) -> str:
    return f"{FORECAST}:{scope}"


class ForecastMaker:
    """Does the jobs: makes the forecast that a person may see of a part, and keeps it."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home_folder

    def __call__(self, store: Store, job: Job) -> None:
        """Make it; a second time it is made again and kept in the same place."""
        try:
            self._make(store, job.payload)
        except CRMError as error:
            raise HopelessJobError(str(error)) from error

    def _make(self, store: Store, payload: Mapping[str, Any]) -> None:
        with store.reading() as session:
            user = session.get_one(User, payload["user_id"])
            session.expunge(user)
        check_works_here(user)
        part = Part(owner_id=payload["owner_id"], team_id=payload["team_id"])
        make_and_keep(self._home, store, user, part)


def make_and_keep(home: Home, store: Store, user: User, part: Part) -> None:
    """Make the forecast that somebody may see of a part, learning from the past first where that is due."""
    with store.reading() as session:
        scope, basis = scope_of(session, user, part), _basis(session)
    learned = lessons(home, store)
    now = store.clock.now()
    told = forecast_for(store, learned, _champion(home, store), Question(user=user, as_of=now, part=part))
    with store.transaction() as transaction:
        content = kept_of(told) | {"past_shares": past_shares(learned)}
        keep(transaction.session, scope, content, basis=basis, now=now)


def _champion(home: Home, store: Store) -> ModelBundle | None:
    """Return the model in charge; without one, a plain one is made for the forecast."""
    from serving.modelling import load_bundle_of

    with store.reading() as session:
        if find_champion(session, _TASK) is None:
            return None
    return load_bundle_of(home, store, _TASK)


def kept_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a forecast: without names, and of its deals the largest."""
    periods = [
        one
        | {
            "by_team": [_nameless(part) for part in one["by_team"]],
            "by_owner": [_nameless(part) for part in one["by_owner"]],
            "deals": _largest([deal for deal in one["deals"] if not deal["won"]], "expected", DEALS_KEPT),
        }
        for one in told["periods"]
    ]
    moved = [one | {"deals": one["deals"][:MOVES_KEPT]} for one in told["moved"]]
    return {**told, "periods": periods, "moved": moved}


def past_shares(learned: Learned) -> dict[str, list[dict[str, Any]]]:
    """Return past ranges and what came as shares of what was expected: they tell no sum of the company."""
    return {
        case: [_shares(one) for one in replays if one["expected"] > 0]
        for case, replays in learned.replays.items()
    }


def _shares(replay: Mapping[str, Any]) -> dict[str, Any]:
    of = replay["expected"]
    low, high = replay["ranges"]["80"]
    shares = {"low": low / of, "high": high / of, "came": replay["came"] / of}
    return {"period": replay["period"], **{name: round(value, 4) for name, value in shares.items()}}


def _nameless(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "name"}


def _largest(rows: list[dict[str, Any]], by: str, count: int) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: -row[by])[:count]


# ---------------------------------------------------------------- learning from the past


def lessons(home: Home, store: Store) -> Learned:
    """Return what past forecasts taught; where that is too old, one thread replays them again."""
    with _learning:
        learned = find_lessons(home, store.clock.now(), LEARN_AGAIN_AFTER)
        if learned is not None:
            return learned
        progress = _Progress(home, of=_steps(store))
        try:
            return learn_lessons(home, store, store.clock.now(), progress.say)
        finally:
            progress.end()


def _steps(store: Store) -> int:
    """Return about how many steps replaying takes: a model a quarter, and reading before that."""
    with store.reading() as session:
        first = session.scalar(select(func.min(Deal.recorded_at)))
    if first is None:
        raise NotEnoughDataError("there are no deals: nothing can be forecast")
    return 2 + int((store.clock.now() - first) / timedelta(days=91))


class _Progress:
    """Writes down how far the replaying is, for pages to show."""

    def __init__(self, home: Home, *, of: int) -> None:
        self._path, self._of, self._done = progress_file(home), of, 0

    def say(self, step: str) -> None:
        """Write down a step."""
        told = {"step": step, "done": min(self._done, self._of), "of": self._of}
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(told), encoding="utf-8")
        beside.replace(self._path)
        self._done += 1

    def end(self) -> None:
        """Leave nothing behind."""
        self._path.unlink(missing_ok=True)


def progress_file(home: Home) -> Path:
    """Return where it is written how far the replaying of the past is."""
    return home.folder / "forecast-progress.json"


def read_progress(home: Home) -> dict[str, Any]:
    """Return the step, how many are done and of how many; nothing while none is under way."""
    try:
        told: dict[str, Any] = json.loads(progress_file(home).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: told[name] for name in ("step", "done", "of")}
