"""Worker processes: started, measured from /proc, killed."""

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.bench.contestants import Contestant, Run

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class WorkerFailed(Exception):
    """A contestant ended by itself or answers no more; the message holds the end of its log."""


class Worker:
    """One process of a contestant, leader of a session of its own."""

    def __init__(self, contestant: Contestant, run: Run, number: int = 0) -> None:
        argv, environment = contestant.command(run, number)
        self.log = run.directory / f"worker-{number}.log"
        self.started = time.time()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                argv,
                env=environment,
                cwd=run.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises WorkerFailed when the process has ended."""
        if self.process.poll() is not None:
            raise self.failed(f"exit status {self.process.returncode}")

    def failed(self, why: str) -> WorkerFailed:
        tail = b"\n".join(self.log.read_bytes().splitlines()[-15:]).decode(errors="replace")
        return WorkerFailed(f"{' '.join(self.process.args)}: {why}\n{tail}")

    def cpu_s(self) -> float:
        """User and system time of the worker and what it started, s; steps of 10 ms."""
        return sum(_cpu_ticks(pid) for pid in _session(self.process.pid)) / TICKS_PER_S

    def rss_peak_mb(self) -> float:
        """Largest resident size so far, kept by the kernel, MB, summed over the session's processes."""
        return sum(_peak_kb(pid) for pid in _session(self.process.pid)) / 1000.0

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, timeout_s: float = 20.0) -> float:
        """SIGTERM, and SIGKILL after the timeout. Seconds it took."""
        begun = time.monotonic()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return time.monotonic() - begun


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()  # from field 3 on: see proc(5)
    except (FileNotFoundError, ProcessLookupError):
        return []


def _session(leader: int) -> list[int]:
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [pid for pid in pids if (stat := _stat(pid)) and int(stat[3]) == leader]


def _cpu_ticks(pid: int) -> int:
    stat = _stat(pid)
    return sum(map(int, stat[11:15])) if stat else 0  # utime, stime, and those of children waited for


def _peak_kb(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
