"""``faust-anomaly alerts route``: who is notified of an episode, and why."""

import json

import pytest
from click.testing import CliRunner

from app.cli import main
from app.wire.episodes import Event

SETTINGS = """
alerting:
  rules:
    - {severity: critical, channels: [slack, email], mute: [{weekdays: [sunday]}]}
    - {source: "mill-*", labels: {room: b}, channels: [slack], continue: true}
    - {severity: all, channels: [log], mute: [{times: [{start_time: 22:00, end_time: 24:00}]}]}
    - {severity: critical, source: "pump-*", channels: [log]}
  channels: {slack: {}, email: {}}
"""
SATURDAY = ["--at", "2026-11-28T10:00:00Z"]
EVENT = {
    "event": "opened", "episode": "raw-data:3:7:0", "kind": "value", "severity": "critical", "source": "pump-7",
    "timestamp": 1.0, "opened_at": 1.0, "points": 1, "peak_score": 1.0, "labels": {"room": "b", "line": 3},
}  # fmt: skip


@pytest.fixture
def route(tmp_path, monkeypatch):
    path = tmp_path / "anomaly.yaml"
    path.write_text(SETTINGS)
    monkeypatch.delenv("ANOMALY_CONFIG", raising=False)
    return lambda *words: CliRunner().invoke(main, ["alerts", "route", "--config", str(path), *words])


def test_each_rule_is_a_line_that_says_why(route):
    got = route(json.dumps({"source": "pump-7", "severity": "critical"}), *SATURDAY)
    assert (got.exit_code, got.stdout.splitlines()) == (
        0,
        [
            "rules[0]  yes  slack, email  severity: critical",
            "rules[1]  no   slack         source is pump-7, wanted: source: mill-*",
            "rules[2]  yes  log           takes all",
            "rules[3]  no   log           rules[0] took it, and does not say continue",
            "notified: slack, email, log",
        ],
    )
    assert got.stderr.startswith("warning: alerting.rules[3] never takes an episode")


@pytest.mark.parametrize(
    "words", [["source=mill-1", "severity=low", 'room="b"'], ['{"source": "mill-1", "labels": {"room": "b"}}']]
)
def test_labels_are_given_as_json_or_as_amtool_takes_them(route, words):
    assert route(*words, *SATURDAY).stdout.splitlines()[-1] == "notified: slack, log"


def test_an_event_of_the_topic_is_taken_as_it_is(route):
    assert route(json.dumps(EVENT), *SATURDAY).stdout.splitlines()[-1] == "notified: slack, email, log"
    assert set(EVENT) < set(Event.__struct_fields__)


def test_what_is_muted_now_is_told(route):
    sunday = route("source=pump-7", "severity=critical", "--at", "2026-11-29T10:00:00Z").stdout.splitlines()
    assert sunday[0].endswith("severity: critical; muted now: sunday") and sunday[-1] == "notified: log"
    night = route("source=pump-7", "severity=low", "--at", "2026-11-27T22:30:00Z").stdout.splitlines()
    assert night[2].endswith("takes all; muted now: 22:00-24:00") and night[-1] == "nobody is notified: it is muted"


def test_without_rules_the_log_is_told(monkeypatch):
    monkeypatch.delenv("ANOMALY_CONFIG", raising=False)
    got = CliRunner().invoke(main, ["alerts", "route", "source=pump-7"])
    assert got.stdout.splitlines() == ["default  yes  log  takes all", "notified: log"]


def test_nobody_is_told_if_no_rule_takes_it(tmp_path):
    path = tmp_path / "anomaly.yaml"
    path.write_text("alerting: {rules: [{source: a, channels: [log]}]}")
    got = CliRunner().invoke(main, ["alerts", "route", "source=b", "--config", str(path)])
    assert got.exit_code == 0 and got.stdout.splitlines()[-1] == "nobody is notified: no rule takes it"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["severity=critcal"], "severity: must be one of low, medium, high, critical, got 'critcal'"),
        (['{"sevrity": "low"}'], "sevrity: no such field of an episode; did you mean severity?"),
        (['{"severity": "low"'], "must be one JSON object with source, metric, severity, kind and labels"),
        (['{"labels": 3}'], "Expected `object`, got `int`"),
        (["source"], "or labels as source=pump-7, got 'source'"),
        (["severity=\udcff"], "got '?'"),
        (["source!=a"], "or labels as source=pump-7, got 'source!=a'"),
        ([], "Missing argument 'EPISODE...'"),
    ],
)
def test_a_question_that_is_none_is_refused_in_words(route, words, said):
    got = route(*words)
    assert got.exit_code == 2 and said in got.stderr


@pytest.mark.parametrize("command", [["alerts", "route", "a=b"], ["settings"]])
def test_wrong_rules_are_told_with_their_lines(tmp_path, command):
    path = tmp_path / "anomaly.yaml"
    path.write_text("alerting:\n  rules:\n    - {channels: [slack], matchers: ['a=~(']}\n")
    got = CliRunner().invoke(main, [*command, "--config", str(path)])
    assert got.exit_code == 2 and got.stderr.count(f"({path}:3): must be") == 2
