"""Which rule takes an episode: the first that matches, and those after it if it says ``continue``, as in Alertmanager.

A rule with ``severity: all`` stands beside this order: it also gets what an earlier rule took, and takes nothing away
from later ones. So the rules that one writes first do what they say: what is critical to Slack, all to the log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from app.alerting import time_intervals
from app.alerting.matchers import parse
from app.alerting.time_intervals import TimeInterval
from app.errors import ConfigurationError
from app.scoring import severity
from app.settings import AlertingSettings, RuleSettings
from app.settings.alerting import seconds
from app.settings.sources import GivenSettings, Keys, near

LOG = "log"  # the channel that is always there
ALL = "all"  # of severity
EACH = "..."  # of group_by, as Alertmanager has it: each episode its own message
DEFAULT = "default"  # name of the rule that is there without rules

Named = dict[str, list[TimeInterval]]


class Condition(NamedTuple):
    """What a rule wants of one label."""

    label: str
    words: str  # as its settings say it: source: pump-*
    holds: Callable[[str], bool]


@dataclass(frozen=True)
class Route:
    """A rule, ready for use."""

    name: str  # rules[0]
    channels: tuple[str, ...]
    group_by: tuple[str, ...] = ()  # labels whose episodes share a message; none, or ("...",): each its own
    group_wait_s: float = 0.0
    group_interval_s: float = 300.0
    repeat_interval_s: float = 14_400.0  # 0: never
    conditions: tuple[Condition, ...] = ()
    severities: tuple[str, ...] = severity.NAMES  # that it takes
    all: bool = False  # severity: all
    continues: bool = False
    mutes: tuple[tuple[str, TimeInterval], ...] = ()  # in words, and what they mean
    actives: tuple[tuple[str, TimeInterval], ...] = ()

    def muted(self, at: float) -> str:
        """The time interval that mutes the rule at this time (epoch s), in words; "" if none does."""
        if self.actives and not any(interval.covers(at) for _, interval in self.actives):
            return f"outside {' and '.join(dict.fromkeys(words for words, _ in self.actives))}"
        return next((words for words, interval in self.mutes if interval.covers(at)), "")

    def leaves_nothing_to(self, later: Route) -> bool:
        """Whether it surely takes all that a later rule matches."""
        if self.continues or self.all or later.all or not set(self.severities) >= set(later.severities):
            return False
        wanted, others = (
            {one.words for one in route.conditions} - {_one_of(route.severities).words} for route in (self, later)
        )
        return wanted <= others


class Explained(NamedTuple):
    route: Route
    taken: bool
    why: str


@dataclass(frozen=True)
class Routes:
    """All rules, in order."""

    routes: tuple[Route, ...]

    @classmethod
    def of(cls, alerting: AlertingSettings, given: GivenSettings | None = None) -> Routes:
        """Of the settings; without rules one that sends all to the log.

        Parameters
        ----------
        given
            Where each value was given, for messages: ``settings._given``.

        Raises
        ------
        ConfigurationError
            With a line for each problem.
        """
        given = GivenSettings(given.values, given.origins) if given else GivenSettings()
        intervals: Named = {}
        for i, named in enumerate(alerting.time_intervals):
            at: Keys = ("alerting", "time_intervals", i)
            if named.name in intervals:
                given.problem((*at, "name"), f"must be given once, got {named.name!r} again")
            intervals[named.name] = _intervals(named.time_intervals, (*at, "time_intervals"), given)
        rules = alerting.rules or [RuleSettings.model_validate({"channels": [LOG]})]
        routes = [_route(i, rule, alerting, intervals, given) for i, rule in enumerate(rules)]
        if given.problems:
            raise ConfigurationError("\n".join(map(str, given.problems)))
        return cls(tuple(routes) if alerting.rules else (replace(routes[0], name=DEFAULT),))

    def taking(self, labels: Mapping[str, str]) -> list[Route]:
        """The rules that take an episode with these labels (``Event.named``), in order."""
        return [route for route, taken, _ in self.explain(labels) if taken]

    def explain(self, labels: Mapping[str, str]) -> list[Explained]:
        """Whether each rule takes an episode with these labels, and why."""
        found, taker = [], ""
        for route in self.routes:
            failed = next((one for one in route.conditions if not one.holds(labels.get(one.label, ""))), None)
            if failed:
                value = labels.get(failed.label) or "not there"
                found.append(Explained(route, False, f"{failed.label} is {value}, wanted: {failed.words}"))
            elif taker and not route.all:
                found.append(Explained(route, False, f"{taker} took it, and does not say continue"))
            else:
                found.append(Explained(route, True, "; ".join(one.words for one in route.conditions) or "takes all"))
                if not route.continues and not route.all:
                    taker = taker or route.name
        return found

    def warnings(self) -> list[str]:
        """Rules that never take an episode, as an earlier one takes all that they match; in words, for a warning."""
        found = []
        for i, route in enumerate(self.routes):
            before = next((one for one in self.routes[:i] if one.leaves_nothing_to(route)), None)
            if before:
                found.append(
                    f"alerting.{route.name} never takes an episode: alerting.{before.name} takes all that it matches, "
                    "and does not say continue"
                )
        return found


def _route(i: int, rule: RuleSettings, alerting: AlertingSettings, intervals: Named, given: GivenSettings) -> Route:
    """A rule for use. What is wrong in it is added to the problems of ``given``."""
    at: Keys = ("alerting", "rules", i)
    channels = [LOG, *alerting.channels]
    for j, name in enumerate(rule.channels):
        if name not in channels:
            what = f"must be a channel of alerting.channels ({', '.join(channels)}), got {name!r}{near(name, channels)}"
            given.problem((*at, "channels", j), what)
    for j, name in enumerate(rule.group_by):
        if not name or (name == EACH and len(rule.group_by) > 1) or name in rule.group_by[:j]:
            given.problem((*at, "group_by", j), f"must be different names of labels, or only {EACH}, got {name!r}")
    if not seconds(rule.group_interval):
        given.problem((*at, "group_interval"), f"must be above 0, got {rule.group_interval!r}")
    severities = [] if rule.severity == [ALL] else rule.severity
    inline = [(str(one), one) for one in _intervals(rule.mute, (*at, "mute"), given)]
    return Route(
        name=f"rules[{i}]",
        channels=tuple(dict.fromkeys(rule.channels)),
        group_by=tuple(rule.group_by),
        group_wait_s=seconds(rule.group_wait),
        group_interval_s=seconds(rule.group_interval),
        repeat_interval_s=seconds(rule.repeat_interval),
        conditions=tuple(_conditions(rule, severities, at, given)),
        severities=tuple(severities or severity.NAMES),
        all=rule.severity == [ALL],
        continues=rule.continue_,
        mutes=(*inline, *_named(rule.mute_time_intervals, intervals, (*at, "mute_time_intervals"), given)),
        actives=_named(rule.active_time_intervals, intervals, (*at, "active_time_intervals"), given),
    )


def _conditions(rule: RuleSettings, severities: Sequence[str], at: Keys, given: GivenSettings) -> list[Condition]:
    for word in severities:
        if word not in severity.NAMES:
            what = f"must be only {ALL}, or some of {', '.join(severity.NAMES)}, got {word!r}"
            given.problem((*at, "severity"), what + near(word, severity.NAMES))
    found = [_one_of(severities)] if severities else []
    patterns = [("source", rule.source), ("metric", rule.metric), ("kind", rule.kind), *rule.labels.items()]
    found += [_like(label, pattern) for label, pattern in patterns if pattern not in (None, "*")]
    for j, text in enumerate(rule.matchers):
        try:
            found += [Condition(one.name, str(one), one.matches) for one in parse(text)]
        except ConfigurationError as error:
            given.problem((*at, "matchers", j), str(error))
    return found


def _one_of(words: Sequence[str]) -> Condition:
    return Condition("severity", f"severity: {' or '.join(words)}", frozenset(words).__contains__)


def _like(label: str, pattern: str) -> Condition:
    return Condition(label, f"{label}: {pattern}", lambda value: fnmatchcase(value, pattern))


def _intervals(mappings: Sequence[Any], at: Keys, given: GivenSettings) -> list[TimeInterval]:
    found = []
    for i, mapping in enumerate(mappings):
        interval, problems = time_intervals.read(mapping)
        found.append(interval)
        for keys, what in problems:
            given.problem((*at, i, *keys), what)
    return found


def _named(
    names: Sequence[str], intervals: Named, at: Keys, given: GivenSettings
) -> tuple[tuple[str, TimeInterval], ...]:
    for i, name in enumerate(names):
        if name not in intervals:
            known = f" ({', '.join(intervals)})" if intervals else ""
            what = f"must be a name in alerting.time_intervals{known}, got {name!r}{near(name, intervals)}"
            given.problem((*at, i), what)
    return tuple((name, interval) for name in names for interval in intervals.get(name, []))
