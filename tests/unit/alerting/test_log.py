"""The file of alerts: whole lines, whatever rotation, full disks and other writers do."""

import asyncio
import json
import logging
import os

import pytest
from support.messages import burst, context, ended, event, told

from app.alerting.channels import log
from app.alerting.channels.api import Answer, Retry
from app.errors import ConfigurationError
from app.wire.notifications import News


def channel(path, **more):
    return log.Channel("log", log.Options(), context(log_file=path and str(path), **more))


def send(to, notification):
    return asyncio.run(to.send(notification))


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_line_has_the_episode_and_the_words(tmp_path):
    path = tmp_path / "alerts.log"
    assert send(channel(path), told()) == Answer("1 line")
    assert send(channel(path), ended()) == Answer("1 line")
    opened, closed = lines(path)
    assert opened == {
        "time": "2023-10-27T09:37:41.500Z", "notification": "n-1", "route": "rules[0]", "what": "opened",
        "message": "critical: pump-7 temperature is 90.44, expected 50.02",
        "link": "https://alerts.example/view/#source=pump-7&metric=temperature", "episode": "raw-data:3:5658:0",
        "kind": "value", "severity": "critical", "source": "pump-7", "metric": "temperature",
        "labels": {"room": "B", "rack": 7}, "timestamp": "2023-10-27T09:37:40Z", "opened_at": "2023-10-27T09:37:40Z",
        "points": 1, "peak_score": 1.0, "value": 90.4406, "expected": 50.02186, "expected_lower": 40.20308,
        "expected_upper": 59.5982, "direction": "above", "figure": 40.41874, "usual": 3.02875,
        "explanation": "90.44 is 40.42 above the expected 50.02; the usual error is 3.029",
        "detectors": {"prediction_interval": 1.0, "residual": 0.82997, "novelty": 0.99998},
        "attribution": {"value": 0.83478},
    }  # fmt: skip
    assert (closed["what"], closed["reason"], closed["episode"]) == ("closed", "recovered", opened["episode"])


def test_a_digest_is_a_line_for_each_episode(tmp_path):
    assert send(channel(tmp_path / "alerts.log"), burst(200, 3)) == Answer("203 lines")
    assert len({line["source"] for line in lines(tmp_path / "alerts.log")}) == 203


def test_news_of_the_alerter_are_lines_too(tmp_path):
    send(channel(tmp_path / "alerts.log"), told(about="channel_down", news=[], text="slack: 503"))
    [line] = lines(tmp_path / "alerts.log")
    assert (line["what"], line["message"]) == ("channel_down", "A channel of alerts is down: slack: 503")


def test_a_name_cannot_make_a_line_or_write_to_a_terminal(tmp_path):
    nasty = "a\n{}\x1b[2J\x9b2J\u202e\u2028b"
    send(channel(tmp_path / "alerts.log"), told(News(event(source=nasty), "opened")))
    text = (tmp_path / "alerts.log").read_text("utf-8")
    assert text.count("\n") == 1 and text[:-1].isprintable()
    assert lines(tmp_path / "alerts.log")[0]["source"] == nasty


@pytest.mark.parametrize("how", ["renamed", "cut", "deleted"])
def test_rotation_loses_nothing(tmp_path, how):
    path, old = tmp_path / "alerts.log", tmp_path / "alerts.log.1"
    to = channel(path)
    send(to, told(id="before"))
    if how == "renamed":
        path.rename(old)
    elif how == "cut":  # logrotate's copytruncate
        old.write_bytes(path.read_bytes())
        os.truncate(path, 0)
    else:
        path.unlink()
    send(to, told(id="after"))
    assert [line["notification"] for line in lines(path)] == ["after"]
    if how != "deleted":
        assert [line["notification"] for line in lines(old)] == ["before"]


def test_a_full_disk_is_tried_again_and_its_half_line_is_ended(tmp_path, monkeypatch):
    path = tmp_path / "alerts.log"
    to, write = channel(path), log._write
    monkeypatch.setattr(log, "_write", lambda file, data: write(file, data[:50]))
    with pytest.raises(Retry, match=r"alerts.log: 50 of \d+ bytes were written"):
        send(to, told())
    monkeypatch.setattr(log, "_write", write)
    send(channel(path), told())  # another process
    broken, whole = path.read_text("utf-8").splitlines()
    assert len(broken) == 50 and json.loads(whole)["notification"] == "n-1"


def test_a_directory_that_went_away_is_tried_again(tmp_path):
    (tmp_path / "logs").mkdir()
    to = channel(tmp_path / "logs" / "alerts.log")
    (tmp_path / "logs" / "alerts.log").unlink()
    (tmp_path / "logs").rmdir()
    with pytest.raises(Retry, match="No such file or directory"):
        send(to, told())


@pytest.mark.parametrize("path", ["no/such/alerts.log", "."])
def test_a_path_that_cannot_be_written_stops_before_the_start(tmp_path, path):
    with pytest.raises(ConfigurationError, match=r"alerting.anomaly_log_file: expected a file .*got '.*': \w+"):
        channel(tmp_path / path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_what_a_full_disk_says_is_said(tmp_path, monkeypatch):
    path = tmp_path / "alerts.log"
    to = channel(path)
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    monkeypatch.setattr(log, "_write", lambda file, data: full.write(data))
    with pytest.raises(Retry, match="No space left on device"):
        send(to, told())
    full.close()


def test_writers_of_one_file_do_not_mix_their_lines(tmp_path):
    path = tmp_path / "alerts.log"

    async def run():
        writers = [channel(path) for _ in range(4)]
        await asyncio.gather(*(to.send(burst(50, 0)) for to in writers for _ in range(5)))

    asyncio.run(run())
    assert len(lines(path)) == 4 * 5 * 50


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        channel(tmp_path / "pipe")


def test_without_a_file_it_is_the_log_of_the_program(caplog):
    caplog.set_level(logging.INFO)
    assert send(channel(None), told()) == Answer("1 line")
    assert send(channel(None), ended()) == Answer("1 line")
    assert send(channel(None), told(about="test", news=[], text="x")) == Answer("1 line")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]
    assert caplog.messages[0] == (
        "alert: critical: pump-7 temperature is 90.44, expected 50.02 (90.44 is 40.42 above the expected 50.02; "
        "the usual error is 3.029); episode raw-data:3:5658:0"
    )


def test_a_burst_does_not_flood_the_log_of_the_program(caplog):
    assert send(channel(None), burst()) == Answer("11 lines")
    assert caplog.messages[0] == "alert: 1,874 episodes opened in 40 s: 13 critical, 1,861 high; 60 ended"
