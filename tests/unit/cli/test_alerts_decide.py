"""``faust-anomaly alerts ack``, ``silence``, ``feedback``: what they write; tests/integration has them on a broker."""

import re

import pytest
from click.testing import CliRunner

from app.alerting.current_decisions import CurrentDecisions
from app.cli import alerts_decide, main
from app.kafka import decisions as topic
from app.wire import decisions
from app.wire.decisions import VERDICTS, Acknowledgement, Feedback, Silence

EPISODE = "raw-data:3:5658:0"
NOW = 1_700_000_000.0


@pytest.fixture
def alerts(monkeypatch):
    """Run a command; ``alerts.written`` are the decisions, ``alerts.known`` the silences that there are."""
    written, known = [], {}

    async def write(kafka, decision):
        decisions.decode(decisions.encode(decision))
        written.append(decision)
        if isinstance(decision, Silence):
            known[decision.id] = decision

    async def silences(kafka):
        return known

    monkeypatch.setattr(topic, "write", write)
    monkeypatch.setattr(topic, "silences", silences)
    monkeypatch.setattr(alerts_decide.time, "time", lambda: NOW)
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.delenv("ANOMALY_CONFIG", raising=False)

    def run(*words):
        return CliRunner().invoke(main, ["alerts", *words])

    run.written, run.known = written, known
    return run


def test_an_episode_is_acknowledged_by_who_is_logged_in(alerts):
    got = alerts("ack", EPISODE)
    assert (got.exit_code, got.stdout) == (0, f"acknowledged {EPISODE} by ann\n")
    assert alerts.written == [Acknowledgement(EPISODE, "ann", NOW)]
    alerts("ack", EPISODE, "--by", "bob", "--comment", "on it")
    assert alerts.written[1] == Acknowledgement(EPISODE, "bob", NOW, "on it")


@pytest.mark.parametrize("last", ["silent", "silent-0123456789abcdef", "external-0123456789abcdef"])
def test_episodes_that_no_points_have_are_acknowledged_too(alerts, last):
    assert alerts("ack", f"raw-data:0:1698399460000:{last}").exit_code == 0
    assert alerts("ack", f"raw-data:0:1698399460000:{last}x").exit_code == 2


@pytest.mark.parametrize("verdict", VERDICTS)
def test_feedback_is_one_of_four(alerts, verdict):
    got = alerts("feedback", EPISODE, verdict, "--comment", "why")
    assert (got.exit_code, got.stdout) == (0, f"feedback on {EPISODE} by ann: {verdict} (why)\n")
    assert alerts.written == [Feedback(EPISODE, verdict, "ann", NOW, "why")]


def test_a_silence_is_what_alerters_take(alerts):
    got = alerts("silence", 'source=~"pump-.*"', "{severity=low, room!=b}", "--for", "1d12h", "--comment", "seals")
    assert got.exit_code == 0, got.output
    [one] = alerts.written
    assert (one.starts_at, one.ends_at, one.by, one.comment) == (NOW, NOW + 36 * 3600, "ann", "seals")
    assert one.matchers == ['source=~"pump-.*"', 'severity="low"', 'room!="b"']
    assert got.stdout == (
        f'silence {one.id} until 2023-11-16T10:13:20Z by ann: {{source=~"pump-.*",severity="low",room!="b"}} (seals)\n'
    )
    decided = CurrentDecisions()
    decided.take(one.key.encode(), decisions.encode(one))
    labels = {"source": "pump-7", "severity": "low", "room": "a"}
    assert decided.silence(labels, NOW + 1) == one
    assert decided.silence(labels | {"room": "b"}, NOW + 1) is None


def test_silences_are_listed_and_ended(alerts):
    alerts("silence", "source=mill", "--for", "2h")
    [one] = alerts.written
    got = alerts("silence", "--list")
    assert got.stdout == f'{one.id}  until 2023-11-15T00:13:20Z  source="mill"  by ann\n'
    got = alerts("silence", "--end", one.id)
    assert (got.exit_code, got.stdout) == (0, f'ended silence {one.id}: source="mill"\n')
    assert alerts.written[1].key == one.key and alerts.written[1].ends_at == NOW
    assert alerts("silence", "--list").stderr == "no silence is in force\n"
    got = alerts("silence", "--end", one.id)
    assert (got.exit_code, got.stderr) == (1, f"silence {one.id}: it has ended\n")
    assert alerts("silence", "--end", "other").stderr == "silence other: there is none\n"


@pytest.mark.parametrize(
    "words, said",
    [
        (["ack"], "Missing argument"),
        (["ack", "raw-data:3:5658"], "expected the id of an episode, topic:partition:offset:index, got"),
        (["ack", "raw data:3:5658:0"], "expected the id of an episode"),
        (["ack", EPISODE, "--by", " "], "expected 1 to 1000 characters"),
        (["ack", EPISODE, "--comment", "x" * 1001], "expected 1 to 1000 characters, got 1001"),
        (["feedback", EPISODE, "bad"], "is not one of"),
        (["silence"], "give matchers and --for, or --end ID, or --list"),
        (["silence", "source=a", "--list"], "give matchers and --for, or --end ID, or --list"),
        (["silence", "source=a"], "give --for, how long"),
        (["silence", "source=a", "--for", "2"], "expected a duration as 90s, 30m, 2h, 1d12h or 1w"),
        (["silence", "source=a", "--for", "0s"], "expected a duration"),
        (["silence", "source", "--for", "2h"], "a matcher"),
        (["silence", 'source=~".*"', "--for", "2h"], "must have a matcher that does not match everything"),
        (["silence", "{}", "--for", "2h"], ""),
    ],
)
def test_what_is_none_is_refused_and_nothing_is_written(alerts, words, said):
    got = alerts(*words)
    assert got.exit_code == 2 and said in re.sub(r"\s+", " ", got.stderr)
    assert alerts.written == []


def test_verdicts_are_those_of_the_records():
    assert alerts_decide.VERDICTS == VERDICTS
