"""The section ``alerting``: who is notified of which episodes, and how."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from app.settings.fields import PATTERN, AllowedAddress, DetectorName, SettingsSection, WebAddress, setting


def _duration(text: str) -> str:
    if not re.fullmatch(r"0|(?=.)([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?", text):
        raise ValueError
    return text


Duration = Annotated[str, AfterValidator(_duration)]
DURATION = "a duration as Prometheus writes it: 30s, 5m, 4h"


def seconds(duration: str) -> float:
    """Of a duration.

    >>> seconds("1h30m"), seconds("500ms"), seconds("0")
    (5400.0, 0.5, 0.0)
    """
    units = {"y": 31_536_000.0, "w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum((int(number) * units[unit] for number, unit in re.findall(r"([0-9]+)(ms|[ywdhms])", duration)), 0.0)


class ChannelSettings(SettingsSection):
    """A channel, with the settings of its type as further fields."""

    model_config = ConfigDict(extra="allow")
    FURTHER: ClassVar[Any] = str  # in variables: the type of the channel interprets the text
    type: DetectorName = setting("", "type of channel; none: the name of this entry", expected="a type of channel")
    messages_per_minute: float | None = setting(
        None,
        "most messages a minute, after a short burst; more are joined into one; none: the default of its type",
        expected="a number above 0",
        above=0.0,
    )

    @property
    def options(self) -> dict[str, Any]:
        """Settings of its type as given; ``app.alerting.channels`` knows them."""
        return dict(self.model_extra or {})

    def __repr_args__(self) -> Any:
        """Without these: secrets are among them."""
        return [("type", self.type), ("messages_per_minute", self.messages_per_minute)]


def _one_or_many(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _label(given: Any) -> Any:
    """As app/wire/episodes.py has a label as text: true, 7, web-1."""
    if isinstance(given, bool):
        return str(given).lower()
    return str(given) if isinstance(given, int | float) else given


Texts = Annotated[list[str], BeforeValidator(_one_or_many)]
LabelPattern = Annotated[str, BeforeValidator(_label)]
SPANS = "time intervals as Alertmanager has them: weekdays, times, days_of_month, months, years, location"


class NamedIntervals(SettingsSection):
    """Time intervals with a name, for rules."""

    INSTEAD: ClassVar[dict[str, str]] = {"time_zone": "location, in each of time_intervals"}
    name: str = setting(..., "name that rules use", expected="a name", min_length=1)
    time_intervals: list[dict[str, Any]] = setting(..., "the intervals", expected=SPANS, min_length=1)


class RuleSettings(SettingsSection):
    """Which episodes go to which channels."""

    model_config = ConfigDict(populate_by_name=True)
    INSTEAD: ClassVar[dict[str, str]] = {
        "receiver": "channels, names in alerting.channels: channels: [slack]",
        "match": 'matchers: [source="pump-7"], or source: and labels:',
        "match_re": 'matchers: [source=~"pump-.*"]',
        "routes": "a list of rules, with the conditions of the outer route in each; trees are for the channel "
        "alertmanager",
        "inhibit_rules": "the channel alertmanager: what inhibits what is said there",
        "time_intervals": "mute_time_intervals or active_time_intervals, names in alerting.time_intervals; or mute",
    }
    channels: list[DetectorName] = setting(..., "names of channels", expected="names of channels", min_length=1)
    severity: Texts = setting(
        [],
        "severities; all: also episodes that an earlier rule took; none: any that no earlier rule took",
        expected="all, or some of low, medium, high, critical",
    )
    source: str | None = setting(None, "pattern of source names", expected=PATTERN, min_length=1)
    metric: str | None = setting(None, "pattern of metrics", expected=PATTERN, min_length=1)
    kind: str | None = setting(None, "pattern of kinds of episodes", expected=PATTERN, min_length=1)
    labels: dict[str, LabelPattern] = setting({}, "patterns of labels, by name", expected="patterns by name")
    matchers: Texts = setting(
        [], "matchers as Alertmanager writes them", expected='as source=~"pump-.*"; operators = != =~ !~'
    )
    continue_: bool = Field(
        False,
        alias="continue",
        description="later rules can match too",
        json_schema_extra={"allowed": "true or false"},
    )
    group_by: list[str] = setting(
        [], "labels whose episodes share a message; none: each its own", expected="names of labels, or ..."
    )
    group_wait: Duration = setting("0s", "wait before the first message of a group", expected=DURATION)
    group_interval: Duration = setting("5m", "wait before a group's next message", expected=DURATION)
    repeat_interval: Duration = setting(
        "4h",
        "time after which the notification of an open episode without acknowledgement is repeated; 0s: never",
        expected=DURATION,
    )
    mute: list[dict[str, Any]] = setting([], "time intervals without notifications", expected=SPANS)
    mute_time_intervals: list[str] = setting([], "the same, as names", expected="names in alerting.time_intervals")
    active_time_intervals: list[str] = setting(
        [], "time intervals with notifications; none: always", expected="names in alerting.time_intervals"
    )


class SilentSettings(SettingsSection):
    """When a source that stops sending is reported."""

    match: str = setting("*", "pattern of source names", expected=PATTERN, min_length=1)
    metric: str | None = setting(
        None,
        "pattern of metrics: only for points that name theirs in the field metric; none: for all points of the source",
        expected=PATTERN,
        min_length=1,
    )
    enabled: bool = setting(True, "report such sources")
    after_s: float = setting(
        300.0,
        "time without a point before it is reported; at least three times the longest usual pause",
        unit="s",
        at_least=10.0,
        at_most=10.0**7,
    )

    def applies_to(self, source: str, metric: str) -> bool:
        """Whether it applies to a series; ``metric`` is "" for a whole source."""
        wanted = self.metric is None or (metric != "" and fnmatchcase(metric, self.metric))
        return wanted and fnmatchcase(source, self.match)


class AlertingSettings(SettingsSection):
    """Who is notified of which episodes, and how."""

    INSTEAD: ClassVar[dict[str, str]] = {
        "route": "alerting.rules, a list: the first that matches takes an episode",
        "routes": "alerting.rules",
        "receivers": "alerting.channels, by name",
        "inhibit_rules": "the channel alertmanager: what inhibits what is said there",
        "mute_time_intervals": "alerting.time_intervals",
        "templates": "nothing: the texts of messages are fixed",
        "global": "the settings of each of alerting.channels",
    }
    enabled: bool = setting(True, "run an alerter in each worker; false: none, or `faust-anomaly alerter`")
    rules: list[RuleSettings] = setting(
        [],
        "which episodes go to which channels: the first rule that matches, and later ones if it says continue; "
        "none: all go to the channel log",
        expected="mappings, each with channels",
    )
    time_intervals: list[NamedIntervals] = setting(
        [], "named time intervals, for rules", expected="mappings, each with name and time_intervals"
    )
    channels: dict[DetectorName, ChannelSettings] = setting(
        {}, "channels by name: type, and the options of the type", expected="channels by name"
    )
    silent: list[SilentSettings] = setting(
        [],
        "sources that stop sending: match, maybe metric, enabled, after_s; the first match wins",
        expected="mappings, each with match, enabled or after_s",
    )
    anomaly_log_file: str | None = setting(
        None,
        "file of the channel log, JSON lines; none: the program's log",
        expected="the path of a file",
        min_length=1,
    )
    view_url: WebAddress | None = setting(
        None, "address of the web view, for links in messages; none: no links", expected="http(s)://host[:port][/path]"
    )
    min_interval_s: float = setting(
        300.0,
        "least time between two notifications of one series and severity",
        unit="s",
        at_least=0.0,
        at_most=86_400.0,
    )
    max_age_s: float = setting(
        3600.0,
        "no notifications of episodes whose last point is older, as in a replay",
        unit="s",
        at_least=1.0,
        at_most=10.0**9,
    )
    give_up_after_s: float = setting(
        86_400.0, "time after which a message is given up if its channel does not accept it", unit="s", at_least=60.0
    )
    allowed_addresses: list[AllowedAddress] = setting(
        [],
        "private hosts and networks that channels may connect to, as 10.0.0.0/8; by default none",
        expected="host names, addresses or networks, separated by commas",
    )
