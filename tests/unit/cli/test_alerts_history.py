"""``faust-anomaly alerts history``: reads a database, of SQLite here; app.store's own tests ask both."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from app import metrics
from app.cli import alerts_history, main
from app.settings import load
from app.store.database import Database
from app.store.projection import Projection
from app.wire.decisions import Acknowledgement, Feedback
from tests.unit.store.logs import KINDS, Topics, event, notification

AT = 1_700_000_000.0


@pytest.fixture
def history(tmp_path, monkeypatch):
    """Run the command on the history that the topics make; ``history.topics`` can be written to before."""
    url = f"sqlite:///{tmp_path / 'a folder' / 'history?.db'}".replace("?", "")
    (tmp_path / "a folder").mkdir()
    monkeypatch.setenv("ANOMALY_STORAGE__URL", url)
    monkeypatch.setenv("ANOMALY_KAFKA__GROUP_ID", "group")
    monkeypatch.delenv("ANOMALY_CONFIG", raising=False)
    topics = Topics()

    async def write():
        database = Database.of(load())
        await database.open()
        async with database.writer() as connection:
            projection = Projection(connection, KINDS, 90.0, lambda: AT)
            await projection.begin(topics.found())
            await projection.take(
                [record for log in topics.logs.values() for record in log],
                {place: len(log) for place, log in topics.logs.items()},
            )
        await database.close()

    def run(*words, written=True):
        if written:
            asyncio.run(write())
        return CliRunner().invoke(main, ["alerts", "history", *words])

    run.topics = topics
    return run


def opened(number, **more):
    fields = {"opened_at": AT + 60 * number, "offset": number, "source": f"pump-{number}"}
    return event(f"raw-data:0:{number}:0", **(fields | more))


def filled(topics):
    topics.write(opened(1))
    topics.write(opened(1, what="closed", offset=9, timestamp=AT + 660, peak_score=0.95))
    topics.write(opened(2, severity="critical", metric="temperature", labels={"room": "b", "line": 3}))
    topics.write(notification("n1", "sent", opened(1), answer="200 OK", attempts=2, done_at=AT + 61))
    topics.write(notification("n2", "failed", opened(1), channel="email", answer="no such mailbox"))
    topics.write(Acknowledgement("raw-data:0:1:0", "ann", AT + 90, "on it"))
    topics.write(Feedback("raw-data:0:1:0", "expected", "bob", AT + 99))


def test_episodes_are_lines_with_notifications_and_decisions(history):
    filled(history.topics)
    got = history()
    assert got.exit_code == 0, got.output
    assert got.stdout.splitlines() == [
        "opened                lasted  severity  kind   series              episode         notified             "
        "decisions",
        "2023-11-14T22:15:20Z  open    critical  value  pump-2 temperature  raw-data:0:2:0  nobody",
        "2023-11-14T22:14:20Z  10 min  high      value  pump-1              raw-data:0:1:0  log, email (failed)  "
        "ann: acknowledgement, bob: expected",
    ]


def test_one_episode_is_shown_whole(history):
    filled(history.topics)
    assert history("raw-data:0:1:0").stdout.splitlines() == [
        "raw-data:0:1:0: high, value, pump-1",
        "    opened 2023-11-14T22:14:20Z, closed 2023-11-14T22:24:20Z after 10 min: recovered",
        "    points 10, peak score 0.95",
        "    value 90.5, expected 50",
        "    at 1",
        "    labels site=north",
        "notified:",
        "    2023-11-14T22:14:21Z  log  opened  sent after 2 attempts: 200 OK",
        "    2023-11-14T22:13:20Z  email  opened  failed: no such mailbox",
        "decisions:",
        "    2023-11-14T22:14:50Z  ann  acknowledgement: on it",
        "    2023-11-14T22:14:59Z  bob  expected",
    ]


def test_as_json_there_is_all(history):
    filled(history.topics)
    second, first = map(json.loads, history("--json").stdout.splitlines())
    assert second["labels"] == {"room": "b", "line": 3} and second["notifications"] == []
    assert [one["channel"] for one in first["notifications"]] == ["log", "email"]
    assert [one["by"] for one in first["decisions"]] == ["ann", "bob"]
    assert "event" not in first
    [alone] = map(json.loads, history("raw-data:0:1:0", "--json", written=False).stdout.splitlines())
    assert alone["event"]["explanation"] == "at 1" and alone | first == alone


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--source", "pump-1"], "1"),
        (["--source", "pump-*", "--limit", "1"], "2"),
        (["--severity", "critical", "--severity", "low"], "2"),
        (["--kind", "pair"], ""),
        (["--state", "open"], "2"),
        (["--since", "2023-11-14T22:15:00Z"], "2"),
        (["--until", str(AT + 61)], "1"),
        (["--since", "2h"], ""),
        (["--since", "20000d"], "21"),
    ],
)
def test_filters(history, words, expected):
    filled(history.topics)
    got = history("--json", *words)
    assert "".join(json.loads(line)["id"].split(":")[2] for line in got.stdout.splitlines()) == expected
    assert ("these are the newest 1" in got.stderr) == ("1" in words)


def test_text_of_data_cannot_reach_the_terminal(history):
    nasty = "a\x1b[2Jb\n\r\u202ec"
    history.topics.write(opened(1, source=nasty, labels={nasty: nasty}, explanation=nasty, kind=nasty, severity=nasty))
    history.topics.write(opened(1, what="closed", offset=9, reason=nasty, kind=nasty, severity=nasty))
    history.topics.write(notification("n1", "sent", opened(1), answer=nasty))
    history.topics.write(Acknowledgement("raw-data:0:1:0", nasty, AT, nasty))
    for words in ([], ["raw-data:0:1:0"], ["--json"]):
        got = history(*words)
        assert got.exit_code == 0 and not set("\x1b\r\u202e") & set(got.stdout), words


@pytest.mark.parametrize("words", [["--since", "yesterday"], ["--limit", "0"], ["--severity", "worst"]])
def test_options_that_are_none_are_refused(history, words):
    assert history(*words, written=False).exit_code == 2


def test_what_is_not_there_is_said(history):
    got = history(written=False)
    assert got.exit_code == 1 and "there is none; a worker or alerter with storage.enabled writes it" in got.stderr
    assert "no episodes" in history().stderr
    got = history("raw-data:0:7:0")
    assert got.exit_code == 1 and "raw-data:0:7:0: not in the history" in got.stderr


def test_reading_changes_nothing(history, tmp_path):
    filled(history.topics)
    history()
    files = sorted((tmp_path / "a folder").glob("*.db"))
    before = [path.read_bytes() for path in files]
    history(written=False)
    assert [path.read_bytes() for path in files] == before != []


def test_severities_are_those_of_the_program():
    assert alerts_history.SEVERITIES == metrics.SEVERITIES
