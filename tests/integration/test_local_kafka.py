"""The local broker, by its commands: whatever state its directory was left in, a start is a start."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from click.testing import CliRunner, Result
from integration.workers import wait_for

from app.cli import main
from app.local_kafka import LocalKafka, LocalKafkaError, jars, probe
from app.local_kafka.broker import STOP_S
from tests.support import kafka_tools


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["kafka", *arguments])


def in_time(condition, seconds: float = kafka_tools.HANG_S) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """For one broker, stopped at the end of the test."""
    yield tmp_path / "broker"
    LocalKafka(tmp_path / "broker", port=0).kill()


@pytest.fixture(scope="module")
def formatted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose broker has been started once and stopped."""
    directory = tmp_path_factory.mktemp("formatted") / "broker"
    with LocalKafka(directory, port=0):
        pass
    return directory


def test_commands_start_tell_and_stop_a_broker(directory):
    assert run("status", "--dir", str(directory)).exit_code == 3
    started = run("start", "--dir", str(directory), "--port", "0")
    address = started.stdout.strip()
    assert started.exit_code == 0 and address.startswith("127.0.0.1:")
    again = run("start", "--dir", str(directory))
    assert again.exit_code == 0 and again.stdout.strip() == address and "already" in again.stderr
    status = run("status", "--dir", str(directory))
    assert status.exit_code == 0 and address in status.stdout
    elsewhere = run("start", "--dir", str(directory), "--port", "19999")
    assert elsewhere.exit_code == 1 and "kafka stop --dir" in elsewhere.stderr
    assert run("stop", "--dir", str(directory)).stdout.strip() == "stopped"
    assert "not running" in run("stop", "--dir", str(directory)).stdout
    assert run("status", "--dir", str(directory)).exit_code == 3


def test_a_restart_after_kill_9_keeps_address_and_records(kafka, job):
    address, topic = kafka.bootstrap_servers, f"{job.name}-kept"
    records = [(b"%d" % n, b"value %d" % n) for n in range(100)]
    kafka_tools.create_topic(address, topic, partitions=2)
    kafka_tools.produce(address, topic, records)
    kafka.kill()
    assert kafka.status().pid is None
    assert kafka.start() is True
    assert kafka.bootstrap_servers == address
    assert sorted((r.key, r.value) for r in kafka_tools.consume(address, topic)) == sorted(records)


def test_the_broker_makes_no_topic_by_being_asked_for_it(kafka, job):
    async def ask() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        await admin.start()
        await admin.describe_topics([job.name])  # aiokafka asks with allow_auto_topic_creation
        await admin.close()

    asyncio.run(ask())
    assert job.name not in kafka_tools.topics(kafka.bootstrap_servers)
    kafka_tools.create_topic(kafka.bootstrap_servers, job.name)
    assert job.name in kafka_tools.topics(kafka.bootstrap_servers)


def test_it_listens_on_loopback_alone_and_in_a_session_of_its_own(kafka):
    pid = kafka.status().pid
    assert os.getsid(pid) == pid != os.getsid(0)
    listening = {
        line.split()[1].split(":")[0]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].split(":")[1], 16) == kafka.port
    }
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    assert listening and listening <= loopback


PIDS = ["", "not a number", "999999999", str(os.getpid())]


@pytest.mark.parametrize("pid", PIDS, ids=["empty", "text", "none", "another program"])
def test_a_stale_pid_file_is_not_believed(formatted, tmp_path, pid):
    shutil.copytree(formatted, tmp_path / "copy")
    (tmp_path / "copy" / "pid").write_text(pid)
    broker = LocalKafka(tmp_path / "copy")
    assert broker.status().pid is None
    assert broker.stop() is False  # and this process, whose pid it may be, lives on


def test_a_pid_of_another_directorys_broker_is_not_believed(kafka, formatted, tmp_path):
    shutil.copytree(formatted, tmp_path / "copy")
    shutil.copy(kafka.directory / "pid", tmp_path / "copy" / "pid")
    assert LocalKafka(tmp_path / "copy").stop() is False
    assert kafka.status().ready


def test_a_start_interrupted_at_any_time_is_no_hindrance(directory, tmp_path):
    """Killed with all its children: before, within and after the format, and while the broker comes up."""
    command = "import sys; from app.local_kafka import LocalKafka; LocalKafka(sys.argv[1], port=0).start()"
    states = [
        lambda: (directory / "lock").exists(),
        lambda: (directory / "formatting").exists(),
        lambda: (directory / "data").exists(),
        lambda: (directory / "pid").exists(),
    ]
    for reached in states:
        process = subprocess.Popen(
            [sys.executable, "-c", command, str(directory)],
            cwd=Path(jars.__file__).parents[2],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert in_time(reached)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        LocalKafka(directory, port=0).kill()
    with LocalKafka(directory, port=0) as broker:
        assert broker.status().ready
    assert not (directory / "formatting").exists()


def test_a_directory_with_other_things_in_data_is_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").write_text("years of work")
    with pytest.raises(LocalKafkaError, match=r"meta\.properties is missing"):
        LocalKafka(tmp_path, port=0).start()
    assert (tmp_path / "data" / "thesis.tex").exists()


def test_a_taken_port_is_named_and_so_is_our_own_broker_on_it(kafka, tmp_path):
    with socket.create_server((probe.HOST, 0)) as other:
        port = other.getsockname()[1]
        result = run("start", "--dir", str(tmp_path), "--port", str(port))
        assert result.exit_code == 1
        assert f"port {port}" in result.stderr and "another program" in result.stderr
    result = run("start", "--dir", str(tmp_path), "--port", str(kafka.port))
    assert result.exit_code == 1
    assert str(kafka.directory) in result.stderr and f"pid {kafka.status().pid}" in result.stderr


def test_a_broker_that_ends_while_starting_tells_its_last_words(formatted, tmp_path):
    shutil.copytree(formatted, tmp_path / "copy")
    broker = LocalKafka(tmp_path / "copy", port=0, properties={"log.retention.ms": "soon"})
    with pytest.raises(LocalKafkaError, match=r"(?s)ended.*broker\.log.*Invalid value soon"):
        broker.start()
    assert broker.status().pid is None


def test_a_broker_that_will_not_end_is_killed(formatted, tmp_path, capsys):
    shutil.copytree(formatted, tmp_path / "copy")
    broker = LocalKafka(tmp_path / "copy", port=0)
    broker.start()
    os.kill(broker.status().pid, signal.SIGSTOP)
    wait_for(lambda: not broker.status().ready)  # its threads stop one after the other
    assert STOP_S > 0.5 and broker.stop(timeout_s=0.5) is True
    assert "killing it" in capsys.readouterr().out
    assert broker.status().pid is None
