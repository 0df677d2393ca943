"""What tests of several kinds share: compiled code, a real broker, and names of their own for each test."""

import gc
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.jobs import Job

from app.local_kafka import LocalKafka

BROKER = {
    # Look for segments to compact or delete in seconds, not minutes; topics say for themselves what is due.
    "log.initial.task.delay.ms": "500",
    "log.cleaner.backoff.ms": "500",
    "log.retention.check.interval.ms": "1000",
    "metadata.max.idle.interval.ms": "0",  # no empty record twice a second: a fifth of what an idle broker computes
    "group.min.session.timeout.ms": "500",  # Kafka's own least is 6 s, and tests wait for killed workers
}
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # for brokers that live for seconds: a start takes 4 CPU s, not 7
WAITING = ("chaos", "integration")  # directories of tests; they wait for sessions to end, and for acknowledgements
ENDED_BY = 0.8  # when so many of the other files have been handed out, all of these have


# Neither the first call, which may compile, nor a busy machine is a fault of the example.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("JDK_JAVA_OPTIONS", JAVA)
    state = tempfile.TemporaryDirectory(prefix="faust-anomaly-state-")  # histories of workers, not in somebody's home
    os.environ["XDG_STATE_HOME"] = state.name
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each worker makes bytecode of 240 modules, .3 s of computing
    config.add_cleanup(state.cleanup)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Without garbage collections, which would find next to nothing in a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests wait for brokers and workers are spread among those that only compute, and end before them.

    pytest-xdist hands files out in this order: while one process waits, another computes, and the last files are short.
    """
    waits, computes = {}, {}
    for item in items:
        (waits if item.path.parent.name in WAITING else computes)[item.path] = None
    turn = {path: i / len(computes) for i, path in enumerate(computes)}
    turn |= {path: ENDED_BY * i / len(waits) for i, path in enumerate(waits)}
    items.sort(key=lambda item: turn[item.path])


def pytest_collection_finish(session: pytest.Session) -> None:
    """What forks the worker processes of tests; and compile for them, in turns with the others of pytest-xdist."""
    gc.enable()  # compiling makes garbage
    if any(item.path.parent.name in WAITING for item in session.items):
        from integration import workers
        from support.compiled_once import compile_once
        from support.java_cache import java_options

        workers.fork_server = workers.ForkServer()
        session.config.add_cleanup(workers.fork_server.close)
        compiled = session.config.cache.mkdir("compiled")
        number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        if number == 1:  # several processes have brokers enough to repay it; the others compile meanwhile
            java_options(compiled, make=True)
        compile_once(compiled, first=number)
        os.environ["JDK_JAVA_OPTIONS"] += java_options(compiled)
    gc.freeze()  # thousands of tests and all modules stay: no garbage collection need look through them


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """One broker for all tests. A test that kills it starts it again, on the same data and port."""
    with LocalKafka(tmp_path_factory.mktemp("kafka"), port=0, properties=BROKER) as broker:
        yield broker


@pytest.fixture
def job(kafka: LocalKafka, request: pytest.FixtureRequest) -> Job:
    """Names of this test's own: ``job.settings()``, ``job.environ()``. Makes no topics."""
    return Job.of(request.node.name, kafka.bootstrap_servers)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory for this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "faust-anomaly"
