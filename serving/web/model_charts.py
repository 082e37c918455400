"""The pictures of a model's page, from what its reports keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from serving.web.charts import Axis, Band, Bars, Chart, Dots, Level, Line, draw
from serving.web.cost_of_errors import CostOfErrors
from serving.web.language import gettext as _
from serving.web.shown_as import day, number, percent
from serving.web.words import word

_MOST_FEATURES = 4


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """How right a version was: said against came, how many were called so, gain, and by period."""

    calibration: Chart | None
    called: Chart | None
    gain: Chart | None
    periods: Chart | None


@dataclass(frozen=True, kw_only=True)
class DriftPictures:
    """What has moved: scores by week, calibration and inputs by day of asking, and the inputs that moved."""

    scores: Chart | None
    calibration: Chart | None
    inputs: Chart | None
    features: Sequence[Chart]


def pictures_of(horizon: Mapping[str, Any]) -> Pictures:
    """Return the pictures of a report's horizon; those are None for which it keeps nothing."""
    return Pictures(
        calibration=calibration_chart([(_("This model"), horizon.get("bins") or ())]),
        called=_called(horizon.get("called") or ()),
        gain=_gain(horizon.get("found") or ()),
        periods=_periods(horizon.get("parts") or ()),
    )


def calibration_chart(models: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> Chart | None:
    """Return what was said against what came, in bins of about equal count, of one or more models."""
    bins = [one for _name, each in models for one in each if "happened" in one]
    if not bins:
        return None
    top = max(max(one["said"], one["happened"] + one["give_or_take"]) for one in bins)
    marks = [
        Dots(
            name=name,
            points=[
                (
                    one["said"],
                    one["happened"],
                    max(0.0, one["happened"] - one["give_or_take"]),
                    min(1.0, one["happened"] + one["give_or_take"]),
                )
                for one in each
            ],
        )
        for name, each in models
    ]
    right = Line(name=_("As said"), points=[(0.0, 0.0), (top, top)], reference=True)
    return draw(
        _("Said and came true"),
        x=Axis(label=_("Said"), show=percent_of_axis, low=0, high=top),
        y=Axis(label=_("Came true"), show=percent_of_axis, low=0),
        marks=[right, *marks],
    )


def percent_of_axis(value: float) -> str:
    """Return a share as an axis shows it."""
    return percent(value, 0 if value in (0, 1) or value >= 0.1 else 1)


def _called(called: Sequence[Mapping[str, Any]]) -> Chart | None:
    points = [(_span(one), one["questions"]) for one in called]
    return draw(
        _("How many were called so"),
        x=Axis(label=_("Said")),
        y=Axis(label=_("Questions"), show=number),
        marks=[Bars(name=_("Questions"), points=points)],
    )


def _span(one: Mapping[str, Any]) -> str:
    return f"{percent(one['low'], 0)} – {percent(one['high'], 0)}"  # noqa: RUF001  a dash, as one sets it


def _gain(found: Sequence[float]) -> Chart | None:
    if len(found) < 2:
        return None
    steps = [index / (len(found) - 1) for index in range(len(found))]
    return draw(
        _("Found by working down the list"),
        x=Axis(label=_("Share of the list worked"), show=_whole_percent, low=0, high=1),
        y=Axis(label=_("Share of all that came true"), show=_whole_percent, low=0, high=1),
        marks=[
            Line(name=_("By chance"), points=[(0.0, 0.0), (1.0, 1.0)], reference=True),
            Line(name=_("This model"), points=list(zip(steps, found, strict=True))),
        ],
    )


def _whole_percent(value: float) -> str:
    return percent(value, 0)


def _periods(parts: Sequence[Mapping[str, Any]]) -> Chart | None:
    told = [
        (part["level"], part["metrics"]["model"])
        for part in parts
        if part["field"] == "period" and part["metrics"]
    ]
    if len(told) < 2:
        return None
    came = [
        (level, each["base_rate"]["value"], each["base_rate"]["low"], each["base_rate"]["high"])
        for level, each in told
    ]
    return draw(
        _("Said and came true by time of asking"),
        x=Axis(label=_("Asked in")),
        y=Axis(label=_("Share"), show=percent_of_axis),
        marks=[
            Line(name=_("Said"), points=[(level, each["mean_probability"]["value"]) for level, each in told]),
            Dots(name=_("Came true"), points=came),
        ],
    )


def mondays_chart(report: Mapping[str, Any] | None) -> Chart | None:
    """Return what was said of all records open on each Monday, and what came of them."""
    mondays: Sequence[Mapping[str, Any]] = (report or {}).get("mondays") or ()
    days = [date.fromisoformat(monday["monday"]) for monday in mondays]
    return draw(
        _("Each Monday: how many were expected, and how many came"),
        x=Axis(label=_("Monday"), show=day),
        y=Axis(label=_("Records"), show=_whole, low=0),
        marks=[
            Line(
                name=_("Said"),
                points=[(at, monday["said"]) for at, monday in zip(days, mondays, strict=True)],
            ),
            Line(
                name=_("Came"),
                points=[(at, monday["came"]) for at, monday in zip(days, mondays, strict=True)],
            ),
        ],
        wide=True,
    )


def _whole(value: float) -> str:
    return number(value, 0 if value == int(value) or value >= 10 else 1)


def replays_chart(report: Mapping[str, Any] | None) -> Chart | None:
    """Return the AUC of the model made at each past cut-off, on what was asked until the next."""
    cutoffs: Sequence[Mapping[str, Any]] = (report or {}).get("cutoffs") or ()
    points = [
        (datetime.fromisoformat(each["cutoff"]).date(), auc["value"], auc["low"], auc["high"])
        for each in cutoffs
        if (auc := each["metrics"].get("auc")) and auc["value"] is not None
    ]
    return draw(
        _("AUC of models made at past cut-offs"),
        x=Axis(label=_("Made on"), show=day),
        y=Axis(label="AUC", show=_two_digits, low=min([0.5, *(p[2] or p[1] for p in points)]), high=1),
        marks=[Dots(name=_("AUC"), points=points), Level(name=_("By chance"), value=0.5)],
    )


def _two_digits(value: float) -> str:
    return number(value, 2)


def drift_pictures(watch: Mapping[str, Any] | None, watches: Sequence[Mapping[str, Any]]) -> DriftPictures:
    """Return what has moved, from the newest report on the champion and the figures of those before."""
    return DriftPictures(
        scores=_scores((watch or {}).get("scores") or ()),
        calibration=_over_time(watches, "calibration", _("What came, per what was said"), (0.8, 1.25)),
        inputs=_over_time(watches, "inputs", _("How far what is said has moved (PSI)"), (0.1, 0.25)),
        features=_features(watch),
    )


def _scores(weeks: Sequence[Mapping[str, Any]]) -> Chart | None:
    days = [date.fromisoformat(week["monday"]) for week in weeks]
    return draw(
        _("Scores by week: the mean, and where eight in ten lie"),
        x=Axis(label=_("Week from"), show=day),
        y=Axis(label=_("Probability"), show=percent_of_axis, low=0),
        marks=[
            Band(
                name=_("Eight in ten"),
                points=[(at, week["low"], week["high"]) for at, week in zip(days, weeks, strict=True)],
            ),
            Line(name=_("Mean"), points=[(at, week["mean"]) for at, week in zip(days, weeks, strict=True)]),
        ],
    )


def _over_time(
    watches: Sequence[Mapping[str, Any]], kind: str, title: str, levels: tuple[float, float]
) -> Chart | None:
    told = [
        (datetime.fromisoformat(each["asked_at"]), found["value"])
        for each in watches
        if (found := each["findings"].get(kind)) and found["value"] and found["value"]["value"] is not None
    ]
    if not told:
        return None
    names = (_("Worth a look from here"), _("Act from here"))
    if kind == "calibration":
        names = (_("Act below"), _("Act above"))
    points = [(at, value["value"], value["low"], value["high"]) for at, value in told]
    return draw(
        title,
        x=Axis(label=_("Asked on"), show=_day_of),
        y=Axis(label=_("Times as often") if kind == "calibration" else _("Index"), show=_two_digits, low=0),
        marks=[
            Dots(name=_("Found"), points=points),
            *(Level(name=name, value=level) for name, level in zip(names, levels, strict=True)),
        ],
    )


def _day_of(value: datetime) -> str:
    return day(value.date())


def _features(watch: Mapping[str, Any] | None) -> list[Chart]:
    findings = {each["kind"]: each for each in (watch or {}).get("findings", ())}
    moved = findings.get("inputs", {}).get("evidence", {}).get("features", ())
    drawn = [_feature(each) for each in moved[:_MOST_FEATURES]]
    return [chart for chart in drawn if chart is not None]


def _feature(shift: Mapping[str, Any]) -> Chart | None:
    from serving.web.watch_card import bin_name

    bins = [bin_name(name) for name in shift["bins"]]
    return draw(
        word("feature_group", shift["feature"]),
        x=Axis(label=_("Value")),
        y=Axis(label=_("Share of the records"), show=_whole_percent, low=0),
        marks=[
            Bars(name=_("Before the model was made"), points=list(zip(bins, shift["before"], strict=True))),
            Bars(name=_("Since"), points=list(zip(bins, shift["after"], strict=True))),
        ],
    )


def cost_chart(costs: CostOfErrors | None) -> Chart | None:
    """Return what every cut costs, by how much of the list is contacted."""
    if costs is None:
        return None
    points = list({cut.share: (cut.share, cut.cost) for cut in costs.cuts}.values())
    few = points[:: max(1, len(points) // 50)]
    if few[-1] != points[-1]:
        few.append(points[-1])
    return draw(
        _("Cost by how much of the list is contacted"),
        x=Axis(label=_("Share of the list contacted"), show=_whole_percent, low=0, high=1),
        y=Axis(label=_("Cost"), show=_whole, low=0),
        marks=[
            Line(name=_("Cost"), points=few),
            Level(name=_("At the best cut"), value=costs.best.cost),
        ],
    )
