"""The local broker of one directory: its files and its process."""

import base64
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from app.local_kafka import probe
from app.local_kafka.jars import LocalKafkaError, Say, class_path, java, locked
from app.local_kafka.probe import HOST

HEAP = "512m"
PORT = 9092  # unless another is asked for
START_S = 90.0  # 3.6 s with the format on four cores
STOP_S = 30.0  # 0.5 s
PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    # A changelog that the broker made up would have its default policy, delete, and lose state.
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # After kill -9 the node may register again when its former self's session is over: 9 s by default.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
}


@dataclass(frozen=True, slots=True)
class Status:
    """``pid`` None: not running. ``ready``: it answers, as this directory's cluster, with a live broker."""

    directory: Path
    pid: int | None
    port: int
    ready: bool

    def __str__(self) -> str:
        if self.pid is None:
            return f"not running ({self.directory})"
        state = "running" if self.ready else "starting, or stuck,"
        return f"{state} at {HOST}:{self.port}, pid {self.pid} ({self.directory})"


class LocalKafka:
    """Apache Kafka with one node, on loopback only, with all its files in one directory.

    ``port`` 0 takes a free one. ``properties`` go into ``server.properties`` and win over ours. ``users`` (name ->
    password) may log in by SCRAM-SHA-512 from the first start on, on listeners that ask for it. ``say`` gets
    messages about progress. As a context manager it stops what it has started. The process has its own session:
    Ctrl-C in the terminal does not reach it, and it outlives its parent.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        port: int = PORT,
        properties: Mapping[str, str] | None = None,
        say: Say = print,
        users: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = Path(directory or default_directory()).expanduser().resolve()
        self.port = port
        self.properties = dict(properties or {})
        self.users = dict(users or {})
        self.say = say
        self.log_file = self.directory / "broker.log"
        self._data = self.directory / "data"
        self._pid_file = self.directory / "pid"
        self._settings_file = self.directory / "server.properties"
        self._child: subprocess.Popen | None = None
        self._stop_at_exit = False

    @property
    def bootstrap_servers(self) -> str:
        return f"{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._stop_at_exit = self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._stop_at_exit:
            self.stop()

    def start(self) -> bool:
        """Start it and wait until it answers. False: it was running already.

        Raises
        ------
        LocalKafkaError
            The port is taken; the directory cannot be used; the broker ended, or did not answer within 90 s
            (with the end of its log); Kafka could not be fetched.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with locked(self.directory / "lock"):
                if (running := self._running()) is not None:
                    self._take_up(running)
                    return False
                jars = class_path(self.say)
                self._choose_ports()
                self._format(jars)
                self.say(f"Starting Apache Kafka at {self.bootstrap_servers}, data in {self.directory}")
                self._spawn(jars)
            return True
        except OSError as error:
            raise LocalKafkaError(f"{self.directory}: cannot hold a broker's data: {error}") from error

    def stop(self, timeout_s: float = STOP_S) -> bool:
        """Stop it with SIGTERM, and kill it if it still runs after ``timeout_s``. False: it was not running."""
        running = self._running()
        if running is None:
            return False
        os.kill(running.pid, signal.SIGTERM)
        if not self._ended(running.pid, timeout_s):
            self.say(f"The broker did not end within {timeout_s:g} s: killing it")
            self.kill()
        self._pid_file.unlink(missing_ok=True)
        return True

    def kill(self) -> None:
        """Kill it at once (SIGKILL)."""
        if (running := self._running()) is not None:
            os.kill(running.pid, signal.SIGKILL)
            if not self._ended(running.pid, STOP_S):
                raise LocalKafkaError(f"{self.directory}: broker {running.pid} is there after SIGKILL")

    def status(self) -> Status:
        running = self._running()
        if running is None:
            return Status(self.directory, None, self.port, False)
        return Status(self.directory, running.pid, running.port, self._answers(running.port))

    def _running(self) -> probe.Broker | None:
        """The process of the pid file, if it runs and its command line names this directory."""
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        if self._child is not None:
            self._child.poll()  # takes an ended child from the list of processes
        return next((broker for broker in probe.brokers(pid) if broker.directory == str(self.directory)), None)

    def _ended(self, pid: int, timeout_s: float) -> bool:
        if self._child is None or self._child.pid != pid:
            return probe.ended(pid, timeout_s)
        try:
            self._child.wait(timeout_s)
            return True
        except subprocess.TimeoutExpired:
            return False

    def _take_up(self, running: probe.Broker) -> None:
        if self.port not in (0, running.port):
            raise LocalKafkaError(
                f"{self.directory}: its broker runs at port {running.port} (pid {running.pid}), not at "
                f"{self.port}: use that port, or stop it with {stop_command(self.directory)}"
            )
        self.port = running.port
        self._wait_until_ready(lambda: self._running() is not None, log_from=0)

    def _choose_ports(self) -> None:
        last = _read_properties(self._settings_file).get("advertised.listeners", "").rpartition(":")[2]
        port = probe.free_port(self.port or int(last or 0))
        controller = probe.free_port((port or 0) + 1)
        if self.port and port != self.port:
            raise LocalKafkaError(self._port_is_taken())
        if port is None or controller is None:
            raise LocalKafkaError(f"no free port found on {HOST}: give one with --port")
        self.port = port
        listener, controller_listener = f"PLAINTEXT://{HOST}:{port}", f"CONTROLLER://{HOST}:{controller}"
        settings = {
            **PROPERTIES,
            "controller.quorum.bootstrap.servers": f"{HOST}:{controller}",
            "listeners": f"{listener},{controller_listener}",
            "advertised.listeners": listener,
            "log.dirs": str(self._data),
            **self.properties,
        }
        _write_properties(self._settings_file, settings)

    def _port_is_taken(self) -> str:
        for broker in probe.brokers():
            if broker.port == self.port:
                return (
                    f"port {self.port} is taken by our own broker of another directory, {broker.directory} "
                    f"(pid {broker.pid}): use it, stop it with {stop_command(broker.directory)}, or give "
                    "another --port"
                )
        return (
            f"port {self.port} of {HOST} is taken by another program, perhaps a Kafka: give another --port, or "
            f"use what is there by setting kafka.bootstrap_servers to {self.bootstrap_servers}"
        )

    def _format(self, jars: str) -> None:
        """Create ``data`` under another name, then rename it: it exists completely or not at all."""
        if (self._data / "meta.properties").is_file():
            return
        if self._data.is_dir() and any(self._data.iterdir()):
            raise LocalKafkaError(
                f"{self._data}: expected a broker's data, but meta.properties is missing: choose another --dir, "
                "or delete this one, and its topics with it"
            )
        shutil.rmtree(self._data, ignore_errors=True)
        unfinished = self.directory / "formatting"
        shutil.rmtree(unfinished, ignore_errors=True)
        settings = self.directory / "formatting.properties"
        _write_properties(settings, {**_read_properties(self._settings_file), "log.dirs": str(unfinished)})
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", str(settings)]
        for name, password in self.users.items():
            tool += ["--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]"]
        done = subprocess.run([*_java(jars), *tool], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            output = (done.stderr + done.stdout).strip()
            raise LocalKafkaError(f"{self.directory}: Kafka could not format its data directory: {output}")
        unfinished.rename(self._data)
        settings.unlink()

    def _spawn(self, jars: str) -> None:
        executable, *options = _java(jars, probe.mark(self.port, self.directory))
        broker = [executable, *options, "kafka.Kafka", str(self._settings_file)]
        # The shell writes its own pid and becomes the broker: at no moment does it run without a pid file.
        script = 'echo $$ > "$0.tmp" && mv "$0.tmp" "$0" && exec "$@"'
        log_from = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            child = self._child = subprocess.Popen(
                ["/bin/sh", "-c", script, str(self._pid_file), *broker],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.directory,
            )
        try:
            self._wait_until_ready(lambda: child.poll() is None, log_from)
        except BaseException:  # Ctrl-C too: what has not become ready is not left behind
            child.kill()
            child.wait()
            raise

    def _wait_until_ready(self, alive: Callable[[], bool], log_from: int) -> None:
        until = time.monotonic() + START_S
        while not self._answers(self.port):
            lives = alive()
            if not lives or time.monotonic() > until:
                what = f"did not answer within {START_S:g} s" if lives else "ended"
                raise LocalKafkaError(
                    f"the broker of {self.directory} {what}. {self.log_file}:\n{_tail(self.log_file, log_from)}"
                )
            time.sleep(0.05)

    def _answers(self, port: int) -> bool:
        cluster = _read_properties(self._data / "meta.properties").get("cluster.id")
        return cluster is not None and probe.ask_metadata(port) == (cluster, 1)


def default_directory() -> Path:
    """The folder for state of a user's programs, not the current directory."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "faust-anomaly" / "kafka"


def stop_command(directory: Path | str) -> str:
    option = "" if Path(directory) == default_directory() else f" --dir {directory}"
    return f"`faust-anomaly kafka stop{option}`"


def _java(jars: str, *first: str) -> list[str]:
    log_level = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return [str(java()), *first, f"-Xmx{HEAP}", log_level, "-cp", jars]


def _tail(log_file: Path, start: int, lines: int = 15) -> str:
    with log_file.open("rb") as log:
        log.seek(start)
        return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-lines:])


def _read_properties(path: Path) -> dict[str, str]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def _write_properties(path: Path, properties: Mapping[str, str]) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    unfinished.rename(path)
