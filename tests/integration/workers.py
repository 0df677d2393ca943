"""Worker processes of the tests: real ones, started, signalled, read, and gone at the end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from integration.fork_server import Forked, ForkServer
from support.kafka_tools import HANG_S

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-c", "from app.cli import main; main()")  # what the console script does
PORT = re.compile(r"https?://[\w.]+:(\d+)")
RECOVERED = re.compile(r"partition (\d+): (\d+) sources, replay from (\d+) to (\d+), emit after \((-?\d+), (\d+)\)")

fork_server: ForkServer | None = None  # has the program imported already; None: each process starts from nothing


class Worker:
    """One process, running; everything it says goes to ``log``. ``root``: the tree whose program it is."""

    def __init__(self, log: Path, command: Sequence[str], environ: dict[str, str], root: Path = ROOT) -> None:
        self.log = log
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANOMALY_", "FAUST_"))}
        environ = {**clean, "PYTHONUNBUFFERED": "1", **environ}
        self.process: Forked | subprocess.Popen
        if fork_server and command[0] == sys.executable and root == ROOT:
            self.process = fork_server.start(command, environ, log)
            return
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                env=environ,
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        """All it wrote so far."""
        return self.log.read_text(errors="replace")

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self.process.poll()

    @property
    def is_stopped(self) -> bool:
        """By SIGSTOP, ours or a failpoint's."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    @property
    def recoveries(self) -> list[tuple[int, ...]]:
        """(partition, sources, replay from, replay to, mark's offset, mark's index) of each partition taken over."""
        return [tuple(map(int, found)) for found in RECOVERED.findall(self.said)]

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def term(self, timeout_s: float = HANG_S) -> float:
        """SIGTERM; returns the seconds it took to end."""
        began = time.monotonic()
        self.process.terminate()
        self.wait(timeout_s)
        return time.monotonic() - began

    def stop(self) -> None:
        """SIGSTOP: from here on it is a zombie in the making."""
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def wait(self, timeout_s: float = HANG_S) -> int:
        """Wait for its end; its exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s:.0f} s\n{self._last()}") from None

    def until_ready(self, timeout_s: float = HANG_S) -> Self:
        """Wait until it is in its group, recovered, and takes records."""
        wait_for(lambda: "ready: generation" in self._alive(), self._last, timeout_s)
        return self

    @property
    def url(self) -> str:
        """Of its web server."""
        found = PORT.search(self._alive())
        assert found, f"no address of the web view in the log\n{self._last()}"
        return f"http://127.0.0.1:{found[1]}"

    def get(self, path: str) -> tuple[int, str]:
        """Ask its web server: (status, body)."""
        return self._ask(path, None)

    def post(self, path: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
        """Post JSON, or bytes as they are: (status, decoded body)."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, answer = self._ask(path, data, {"Content-Type": kind})
        return status, json.loads(answer)

    def _ask(self, path: str, data: bytes | None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        request = urllib.request.Request(f"{self.url}{path}", data, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """A counter or gauge, summed over its labels; name without the prefix."""
        status, page = self.get("/metrics")
        assert status == 200, page
        samples = re.findall(rf"^faust_anomaly_{name}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)
        assert samples, f"no metric {name} in\n{page}"
        return sum(map(float, samples))

    def _alive(self) -> str:
        assert self.code is None, f"ended with {self.code}\n{self._last()}"
        return self.said

    def _last(self) -> str:
        return f"{self.log}:\n" + "\n".join(self.said.splitlines()[-30:])


def wait_for(
    condition: Callable[[], Any], explain: Callable[[], str] = str, timeout_s: float = HANG_S, every_s: float = 0.05
) -> Any:
    """What the condition gives as soon as it is true; AssertionError with an explanation when it never is."""
    until = time.monotonic() + timeout_s
    while True:
        if value := condition():
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {timeout_s:.0f} s: {explain()}")
        time.sleep(every_s)
