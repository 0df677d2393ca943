"""Which rules take an episode, and what is wrong with rules."""

from datetime import datetime

import pytest

from app.alerting.routes import Routes
from app.errors import ConfigurationError
from app.settings import load

CHANNELS = "  channels: {slack: {}, email: {}, pager: {type: webhook}}\n"


@pytest.fixture
def routes(tmp_path):
    """The routes of the section ``alerting`` of a file."""

    def made(text, channels=CHANNELS):
        path = tmp_path / "anomaly.yaml"
        path.write_text(f"alerting:\n{text}{channels}")
        settings = load(path, environ={})
        return Routes.of(settings.alerting, settings._given)

    return made


def told(routes, **labels):
    return [(route.name, *route.channels) for route in routes.taking(labels)]


def at(text):
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def test_the_rules_that_one_writes_first_do_what_they_say(routes):
    first = routes("  rules: [{severity: critical, channels: [slack, email]}, {severity: all, channels: [log]}]\n")
    assert told(first, severity="critical") == [("rules[0]", "slack", "email"), ("rules[1]", "log")]
    assert told(first, severity="low") == [("rules[1]", "log")]
    assert first.warnings() == []


def test_without_rules_all_goes_to_the_log():
    [route] = Routes.of(load(environ={}).alerting).routes
    assert (route.name, route.channels, route.group_by, route.group_wait_s) == ("default", ("log",), (), 0.0)
    assert (route.group_interval_s, route.repeat_interval_s, route.muted(0.0)) == (300.0, 14_400.0, "")
    assert Routes.of(load(environ={}).alerting).taking({}) == [route]


RULES = """
  rules:
    - {source: "pump-*", severity: [high, critical], channels: [pager], continue: true}
    - {source: "pump-*", kind: "s*", channels: [slack]}
    - {metric: temperature, labels: {room: "a?", line: 3}, channels: [email]}
    - {severity: all, source: pump-7, channels: [log, log]}
    - {matchers: 'site=~"(north|south)", severity!=low', channels: [slack]}
"""


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"source": "pump-1", "severity": "critical", "kind": "stuck"}, [0, 1]),
        ({"source": "pump-1", "severity": "critical", "kind": "value"}, [0]),
        ({"source": "pump-1", "severity": "low", "kind": "stuck"}, [1]),
        ({"source": "pump-7", "severity": "low", "kind": "stuck"}, [1, 3]),
        ({"source": "pump-7", "severity": "low", "kind": "value"}, [3]),
        ({"source": "Pump-1", "severity": "critical", "kind": "stuck"}, []),
        ({"metric": "temperature", "room": "a1", "line": "3"}, [2]),
        ({"metric": "temperature", "room": "a1"}, []),
        ({"metric": "temperature", "room": "a1", "line": "3", "site": "north", "source": "pump-7"}, [2, 3]),
        ({"site": "north", "severity": "high"}, [4]),
        ({"site": "north", "severity": "low"}, []),
        ({"site": "north", "severity": "high", "source": "pump-7", "kind": "x"}, [0, 3, 4]),
    ],
)
def test_the_first_rule_takes_and_those_after_it_if_it_continues(routes, labels, expected):
    found = routes(RULES)
    assert [route.name for route in found.taking(labels)] == [f"rules[{i}]" for i in expected]
    assert [i for i, (_, taken, _) in enumerate(found.explain(labels)) if taken] == expected


def test_each_rule_says_why(routes):
    found = routes(RULES)
    assert [why for *_, why in found.explain({"source": "pump-7", "severity": "high", "kind": "stuck"})] == [
        "severity: high or critical; source: pump-*",
        "source: pump-*; kind: s*",
        "metric is not there, wanted: metric: temperature",
        "source: pump-7",
        'site is not there, wanted: site=~"(north|south)"',
    ]
    assert found.routes[3].channels == ("log",)
    plain = routes("  rules: [{channels: [log]}, {severity: low, channels: [slack]}]\n")
    assert [why for *_, why in plain.explain({"severity": "low"})] == [
        "takes all",
        "rules[0] took it, and does not say continue",
    ]


def test_what_it_knows_of_groups_is_in_seconds(routes):
    text = (
        "  rules: [{channels: [log], group_by: [source], group_wait: 30s, group_interval: 1m, repeat_interval: 1y1w}]\n"
    )
    [route] = routes(text).routes
    found = (route.group_by, route.group_wait_s, route.group_interval_s, route.repeat_interval_s)
    assert found == (("source",), 30.0, 60.0, 372 * 86_400.0)


SPANS = """
  time_intervals:
    - name: weekends
      time_intervals: [{weekdays: [saturday, sunday]}]
    - name: office
      time_intervals:
        - {weekdays: ['monday:friday'], times: [{start_time: 08:00, end_time: 17:00}]}
        - {weekdays: [saturday], times: [{start_time: 09:00, end_time: 12:00}]}
  rules:
    - {channels: [log], mute_time_intervals: [weekends], mute: [{times: [{start_time: 22:00, end_time: 24:00}]}]}
    - {channels: [log], active_time_intervals: [office]}
    - {channels: [log], active_time_intervals: [office, weekends], mute_time_intervals: [weekends]}
"""


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-11-30T10:00", ["", "", ""]),  # a monday
        ("2026-11-30T22:00", ["22:00-24:00", "outside office", "outside office and weekends"]),
        ("2026-11-28T10:00", ["weekends", "", "weekends"]),
        ("2026-11-29T10:00", ["weekends", "outside office", "weekends"]),
    ],
)
def test_a_rule_says_which_interval_mutes_it(routes, time, expected):
    """Times and ranges stand there without quotes, as in the files of Alertmanager's users."""
    assert [route.muted(at(time)) for route in routes(SPANS).routes] == expected


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{channels: [slak]}", "channels[0] (FILE): must be a channel of alerting.channels (log, slack, email, pager)"),
        ("{channels: [slak]}", "got 'slak'; did you mean slack?"),
        ("{channels: []}", "channels (FILE): must be names of channels, got a list of 0"),
        ("{}", "channels (FILE): is missing: must be names of channels"),
        ("{channels: [log], severity: critcal}", "severity (FILE): must be only all, or some of low, medium, high"),
        ("{channels: [log], severity: [all, low]}", "severity (FILE): must be only all, or some of low"),
        ("{channels: [log], severity: 3}", "severity (FILE): must be all, or some of low, medium, high, critical, got"),
        ("{channels: [log], matchers: [a=b, 'c=~(']}", "matchers[1] (FILE): must be a regular expression of RE2"),
        ("{channels: [log], group_by: [a, ...]}", "group_by[1] (FILE): must be different names of labels, or only ..."),
        ("{channels: [log], group_by: [a, a]}", "group_by[1] (FILE): must be different names of labels, or only ..."),
        ("{channels: [log], group_wait: 5}", "group_wait (FILE): must be a duration as Prometheus writes it"),
        ("{channels: [log], group_interval: 0s}", "group_interval (FILE): must be above 0, got '0s'"),
        (
            "{channels: [log], mute: [{weekdays: [sun]}]}",
            "mute[0].weekdays[0] (FILE): must be a day or a range of days",
        ),
        ("{channels: [log], mute: [sunday]}", "mute[0] (FILE): must be time intervals as Alertmanager has them"),
        ("{channels: [log], mute_time_intervals: [x]}", "mute_time_intervals[0] (FILE): must be a name in alerting."),
        (
            "{channels: [log], active_time_intervals: [x]}",
            "active_time_intervals[0] (FILE): must be a name in alerting.",
        ),
        ("{channels: [log], conitnue: true}", "conitnue (FILE): no such setting; did you mean continue?"),
        ("{channels: [log], continue: 1}", "continue (FILE): must be true or false, got 1"),
        (
            "{channels: [log], receiver: a}",
            "receiver (FILE): no such setting; use channels, names in alerting.channels",
        ),
        ("{channels: [log], match: {}}", "match (FILE): no such setting; use matchers: "),
        ("{channels: [log], match_re: {}}", "match_re (FILE): no such setting; use matchers: "),
        ("{channels: [log], routes: []}", "routes (FILE): no such setting; use a list of rules"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(routes, tmp_path, rule, said):
    with pytest.raises(ConfigurationError) as error:
        routes(f"  rules:\n    - channels: [log]\n    - {rule}\n")
    assert f"alerting.rules[1].{said.replace('FILE', f'{tmp_path}/anomaly.yaml:4')}" in str(error.value) or (
        said.startswith("got ") and said in str(error.value)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  receivers: []\n", "alerting.receivers (FILE:2): no such setting; use alerting.channels, by name"),
        ("  route: {}\n", "alerting.route (FILE:2): no such setting; use alerting.rules"),
        ("  inhibit_rules: []\n", "alerting.inhibit_rules (FILE:2): no such setting; use the channel alertmanager"),
        ("  mute_time_intervals: []\n", "alerting.mute_time_intervals (FILE:2): no such setting; use alerting.time_"),
        ("  time_intervals: [{name: a}]\n", "alerting.time_intervals[0].time_intervals (FILE:2): is missing"),
        (
            "  time_intervals: [{name: a, time_intervals: [{location: Berlin}]}]\n",
            "alerting.time_intervals[0].time_intervals[0].location (FILE:2): must be a name as Europe/Berlin or UTC",
        ),
        (
            "  time_intervals:\n    - {name: a, time_intervals: [{}]}\n    - {name: a, time_intervals: [{}]}\n",
            "alerting.time_intervals[1].name (FILE:4): must be given once, got 'a' again",
        ),
    ],
)
def test_words_of_alertmanager_that_are_none_here_say_what_is(routes, tmp_path, text, said):
    with pytest.raises(ConfigurationError) as error:
        routes(text)
    assert said.replace("FILE", f"{tmp_path}/anomaly.yaml") in str(error.value)


def test_all_problems_are_told_at_once(routes):
    with pytest.raises(ConfigurationError) as error:
        routes("  rules: [{channels: [a], matchers: [b], mute_time_intervals: [c]}, {channels: [d]}]\n")
    assert len(str(error.value).split("\n")) == 4


@pytest.mark.parametrize(
    ("rules", "doubted"),
    [
        ("[{channels: [log]}, {channels: [slack], severity: low}]", [1]),
        ("[{channels: [log], source: '*'}, {channels: [slack]}, {channels: [email]}]", [1, 2]),
        ("[{channels: [log], continue: true}, {channels: [slack]}]", []),
        ("[{channels: [log]}, {channels: [slack], severity: all}]", []),
        ("[{channels: [log], severity: all}, {channels: [slack]}]", []),
        ("[{channels: [log], severity: [low, medium, high, critical]}, {channels: [slack]}]", [1]),
        ("[{channels: [log], severity: [low, high]}, {channels: [slack], severity: low, source: a}]", [1]),
        ("[{channels: [log], severity: low}, {channels: [slack], severity: [low, high]}]", []),
        ("[{channels: [log], source: a}, {channels: [slack], source: a, matchers: [b=c]}]", [1]),
        ("[{channels: [log], matchers: [severity=low]}, {channels: [slack]}]", []),
        ("[{channels: [log], labels: {severity: low}}, {channels: [slack]}]", []),
    ],
)
def test_a_rule_that_never_takes_anything_is_doubted(routes, rules, doubted):
    found = routes(f"  rules: {rules}\n").warnings()
    assert [line.partition(" ")[0] for line in found] == [f"alerting.rules[{i}]" for i in doubted]
