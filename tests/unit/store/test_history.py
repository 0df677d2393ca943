"""The service with topics in memory: what is in its way delays history, is said now and then, and ends nothing."""

import asyncio
import logging
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError

from app.errors import ConfigurationError, StoreError
from app.metrics import Metrics
from app.settings import load
from app.store import history as module
from app.store.history import History
from tests.support.kafka_tools import HANG_S
from tests.unit.store.logs import NOW, Topics, event


class FakeReader:
    """As app.store.history_reader.HistoryReader, of ``topics``."""

    topics: Topics
    away = False
    denied = ()

    def __init__(self, kafka, names):
        assert set(names) == set(self.topics.ids)
        self.ids = dict(self.topics.ids)

    async def start(self):
        if FakeReader.away:
            raise KafkaConnectionError("nobody there")
        return self.topics.found()

    def seek(self, positions):
        self.positions = dict(positions)

    async def read(self, most, wait_s):
        await asyncio.sleep(0.001)
        if FakeReader.away:
            raise KafkaConnectionError("gone")
        records, moved = [], {}
        for place, log in self.topics.logs.items():
            if new := log[self.positions[place] :][: most - len(records)]:
                records += new
                self.positions[place] += len(new)
                moved[place] = self.positions[place]
        return records, moved

    def lag(self):
        return sum(len(log) - self.positions[place] for place, log in self.topics.logs.items())

    async def changed(self):
        return self.ids != self.topics.ids

    async def stop(self):
        pass


@pytest.fixture
def topics(monkeypatch):
    monkeypatch.setattr(module, "HistoryReader", FakeReader)
    for name in ("TURN_S", "CHECK_S", "FIRST_RETRY_S", "LAST_RETRY_S"):
        monkeypatch.setattr(module, name, 0.02)
    FakeReader.topics, FakeReader.away = Topics(), False
    return FakeReader.topics


def settings(url, **more):
    return load(environ={}, storage={"url": url} if url else {}, kafka={"group_id": "group"}, **more)


def run(what):
    asyncio.run(asyncio.wait_for(what, HANG_S))


async def until(true):
    while not await true() if asyncio.iscoroutinefunction(true) else not true():
        await asyncio.sleep(0.005)


def holds(history, count):
    async def told():
        try:
            return len((await history.episodes()).episodes) == count
        except StoreError:
            return False

    return told


def value(metrics, name):
    return metrics.total(name)[name]


def test_records_become_history_and_another_process_takes_over(topics, url):
    async def lived():
        first, second = (History(settings(url), Metrics("python"), lambda: NOW) for _ in range(2))
        topics.write(event("a"))
        await first.start()
        await until(holds(first, 1))
        await second.start()
        await until(lambda: second.status()["state"].startswith("waiting"))
        assert first.status()["state"] == "reading" and "trouble" not in first.status()
        for one in (first, second):
            assert (value(one._metrics, "history_free_bytes") > 0) == (one._database.path is not None)
        assert (await second.episode("a")).id == "a"
        await first.stop()
        topics.write(event("b"))
        await until(holds(second, 2))
        assert value(second._metrics, "history_records_total") == 1
        await second.stop()

    run(lived())


def test_a_topic_made_anew_is_noticed_while_it_is_read(topics, url):
    async def lived():
        history = History(settings(url), Metrics("python"), lambda: NOW)
        topics.write(event("a"))
        topics.write(event("b"))
        await history.start()
        await until(holds(history, 2))
        topics.make_anew("anomalies")
        topics.write(event("c"))
        await until(holds(history, 1))
        await history.stop()

    run(lived())


def test_brokers_that_are_away_are_waited_for_and_said_once(topics, url, caplog):
    async def lived():
        FakeReader.away = True
        history = History(settings(url), Metrics("python"), lambda: NOW)
        await history.start()
        await until(lambda: history._retry_s > 0 and "nobody there" in history.status().get("trouble", ""))
        await asyncio.sleep(0.2)  # some tries
        FakeReader.away = False
        topics.write(event("a"))
        await until(holds(history, 1))
        assert "trouble" not in history.status()
        await history.stop()

    with caplog.at_level(logging.INFO):
        run(lived())
    assert sum("nobody there" in one.message for one in caplog.records) == 1


def test_a_database_that_is_away_delays_history_and_nothing_else(topics, postgres, caplog):
    async def lived():
        metrics = Metrics("python")
        history = History(settings(postgres.url()), metrics, lambda: NOW)
        await history.start()
        topics.write(event("a"))
        await until(holds(history, 1))
        await asyncio.to_thread(postgres.stop)
        topics.write(event("b"))
        await until(lambda: history.status()["state"] == "down")
        assert value(metrics, "history_down") == 1
        with pytest.raises(StoreError):
            await history.episodes()
        await asyncio.sleep(0.2)  # some tries
        await asyncio.to_thread(postgres.start)
        await until(holds(history, 2))
        await until(lambda: "trouble" not in history.status())
        assert value(metrics, "history_down") == 0
        await history.stop()

    with caplog.at_level(logging.INFO):
        run(lived())
    assert sum("trying again" in one.message for one in caplog.records) == 1


def test_a_file_that_is_deleted_is_made_again_from_the_topics(topics, tmp_path):
    path = tmp_path / "history.db"

    async def lived():
        history = History(settings(f"sqlite:///{path}"), Metrics("python"), lambda: NOW)
        topics.write(event("a"))
        await history.start()
        await until(holds(history, 1))
        for one in tmp_path.glob("history.db*"):
            one.unlink()
        await until(path.exists)
        await until(holds(history, 1))
        await history.stop()

    run(lived())


def test_a_full_disk_is_said_once_while_it_lasts(topics, tmp_path, caplog, monkeypatch):
    async def lived():
        history = History(settings(f"sqlite:///{tmp_path / 'history.db'}"), Metrics("python"), lambda: NOW)
        await history.start()
        topics.write(event("a"))
        await until(holds(history, 1))
        take = module.Projection.take

        async def full(self, records, after):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(module.Projection, "take", full)
        topics.write(event("b"))
        await until(lambda: "No space left" in history.status().get("trouble", ""))
        await asyncio.sleep(0.3)  # some tries
        assert value(history._metrics, "history_down") == 1
        monkeypatch.setattr(module.Projection, "take", take)
        await until(holds(history, 2))
        await history.stop()

    with caplog.at_level(logging.INFO):
        run(lived())
    assert sum("No space left" in one.message for one in caplog.records) == 1


def test_what_it_did_not_expect_ends_it_alone(topics, tmp_path, monkeypatch, caplog):
    async def lived():
        history = History(settings(f"sqlite:///{tmp_path / 'history.db'}"), Metrics("python"), lambda: NOW)
        monkeypatch.setattr(module.Projection, "begin", lambda self, found: 1 / 0)
        await history.start()
        await until(lambda: history.status()["state"] == "stopped")
        assert value(history._metrics, "history_down") == 1
        await history.stop()

    run(lived())
    assert "everything else goes on" in caplog.text


def test_a_file_that_cannot_be_written_stops_the_start_if_somebody_named_it(topics, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"storage\.url: the file .* cannot be written"):
        run(History(settings(f"sqlite:///{tmp_path}/file/history.db"), Metrics("python"), lambda: NOW).start())


def test_the_default_file_is_made_or_done_without(topics, tmp_path, monkeypatch, caplog):
    async def lived(folder: Path):
        monkeypatch.setenv("XDG_STATE_HOME", str(folder))
        history = History(settings(None), Metrics("python"), lambda: NOW)
        await history.start()
        if folder.exists() and folder.is_file():
            assert history.status()["state"] == "off" and "cannot be written" in history.status()["trouble"]
        else:
            topics.write(event("a"))
            await until(holds(history, 1))
            assert (folder / "faust-anomaly" / "group.db").is_file()
            assert (folder / "faust-anomaly").stat().st_mode & 0o077 == 0
        await history.stop()

    run(lived(tmp_path / "state"))
    (tmp_path / "file").write_text("")
    run(lived(tmp_path / "file"))
    assert "there is no history" in caplog.text
