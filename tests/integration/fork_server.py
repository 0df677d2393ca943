"""Worker processes forked from one that has imported the program: two thirds of what a start costs is its imports.

Each is a process of its own all the same, with its own environment, log, signals and exit code. Only tests that are not
about the start use it (conftest.py); test_worker.py and whatever is run without pytest start the program itself.

This file is also the program that forks: it takes one line of JSON for each process, and says when which ended.
"""

import ast
import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Of most tests: ready in the process that forks, loaded from the cache by others.
DETECTION = {"detectors": {"residual": {}, "level": {}, "moving_average": {}, "StandardAbsoluteDeviation": {}}}
LATER = (  # what a worker imports when it runs
    "app.cli.worker", "encodings.idna", "faust.app.router", "faust.assignor.leader_assignor", "faust.cli.faust",
    "faust.cli.worker", "faust.tables.sets", "faust.topics", "faust.transport.drivers.aiokafka",
    "faust.web.apps.production_index", "faust.web.apps.tables", "faust.web.drivers.aiohttp", "uvloop",
)  # fmt: skip


class Forked:
    """A process, with the methods of subprocess.Popen."""

    def __init__(self, pid: int, code: Callable[[], int | None]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._code = code

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._code()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (timeout or float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks, and what it says; may be used from several threads."""

    def __init__(self) -> None:
        self._server: Any = None  # once it is needed
        self._codes: dict[int, int] = {}
        self._lock = threading.Lock()

    def start(self, command: Sequence[str], environ: dict[str, str], log: Path) -> Forked:
        """``command``: of this Python, with a file or ``-c``; its whole environment."""
        with self._lock:
            self._server = self._server or self._started()
            request = {"arguments": list(command[1:]), "environ": environ, "log": str(log)}
            self._server.stdin.write(json.dumps(request).encode() + b"\n")
            while True:
                pid, code = self._read()
                if code is None:
                    return Forked(pid, partial(self._code, pid))

    def close(self) -> None:
        """Processes that it forked and that still run are left alone."""
        if self._server:
            self._server.communicate()

    def _started(self) -> Any:
        environ = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, __file__]
        return subprocess.Popen(
            command, bufsize=0, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def _code(self, pid: int) -> int | None:
        with self._lock:
            while pid not in self._codes and select.select([self._server.stdout], [], [], 0)[0]:
                self._read()
            return self._codes.get(pid)

    def _read(self) -> tuple[int, int | None]:
        """(process, exit code; None: it was started)."""
        line = self._server.stdout.readline()
        assert line, f"the process that forks ended with {self._server.wait()}"
        pid, code = json.loads(line)
        self._codes.pop(pid, None)  # of an earlier process
        if code is not None:
            self._codes[pid] = code
        return pid, code


def serve() -> list[str]:
    """Fork until stdin ends; returns in each process that was forked, with its arguments."""
    signal.signal(signal.SIGCHLD, lambda *_: None)
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    while True:
        ready, _, _ = select.select([0, awake], [], [])
        if awake in ready:
            os.read(awake, 512)
            _report_ended()
        if 0 not in ready:
            continue
        if not (line := sys.stdin.buffer.readline()):
            os._exit(0)
        request = json.loads(line)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if pid := os.fork():
            os.close(log)
            _report(pid, None)
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, log + 2)
        os.environ.clear()
        os.environ.update(request["environ"])
        return request["arguments"]


def _report_ended() -> None:
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _report(ended[0], os.waitstatus_to_exitcode(ended[1]))
    except ChildProcessError:  # none is left
        pass


def _report(pid: int, code: int | None) -> None:
    os.write(1, json.dumps([pid, code]).encode() + b"\n")


def import_program() -> None:
    """What app/worker.py imports, and the compiled code of most tests. That module itself reads the settings."""
    imports = [node for node in ast.parse((ROOT / "app/worker.py").read_text("utf-8")).body
               if isinstance(node, ast.Import | ast.ImportFrom)]  # fmt: skip
    exec(compile(ast.Module(imports, []), "imports of app/worker.py", "exec"), {})
    for name in LATER:
        importlib.import_module(name)
    from app.pipeline import Pipeline
    from app.settings import load
    from app.stream.warm_up import warm_up

    warm_up(Pipeline.of(load(environ={}, detection=DETECTION)))


def run(first: str, *arguments: str) -> None:
    """As ``python FILE ARGUMENTS`` or ``python -c CODE ARGUMENTS``."""
    importlib.reload(sys.modules["app.stream.failpoints"])  # it reads the environment when imported
    if first == "-c":
        sys.argv = ["-c", *arguments[1:]]
        exec(arguments[0], {"__name__": "__main__"})
    else:
        sys.argv = [first, *arguments]
        sys.path.insert(0, os.path.dirname(first))
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    gc.disable()
    import_program()
    gc.freeze()
    run(*serve())
