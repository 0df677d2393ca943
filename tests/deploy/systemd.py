"""Runs the units of systemd without systemd: their commands, shut in as their lines say.

    .venv/bin/python -m tests.deploy.systemd

bubblewrap makes the file system read-only but for state and cache, gives a /tmp, /dev and user of their own, no homes,
no capabilities and no new privileges. The system calls that SystemCallFilter and RestrictAddressFamilies leave are
those that systemd-analyze lists, in a filter that the kernel applies. Each unit is started, ready, used and stopped by
SIGTERM; where something is taken from it that it needs, it must not get so far.

Not shown, because systemd itself does it: LoadCredential, the user and its folders, limits of memory and tasks,
restarts and their limits, and the lines that make more of the same unreachable (ProtectClock, ProtectProc, ...).
Needs x86_64, bubblewrap, systemd-analyze and the kernel's headers (Debian: linux-libc-dev).
"""

import errno
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.local_kafka.broker import LocalKafka
from tests.deploy.named import ROOT
from tests.deploy.units import ALERTER, SYSTEMD, WORKER, Unit

NUMBERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
ARCH = 0xC000003E  # x86_64
LOAD, AND, EQUALS, RETURN = 0x20, 0x54, 0x15, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE, FIRST, THIRD = 0, 4, 16, 32  # places in struct seccomp_data
WRITABLE, EXECUTABLE = 2, 4
HANG_S = 600.0  # a first start compiles, on a machine that others use too
LOST_S = 30.0  # after which what lacks something counts as not started


def calls_in(group: str) -> set[str]:
    """Names of the system calls of a group, as @system-service."""
    said = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    words = [line.strip() for line in said.stdout.splitlines()[1:]]
    found: set[str] = set()
    for word in words:
        if word.startswith("@"):
            found |= calls_in(word)
        elif re.fullmatch(r"\w+", word):
            found.add(word)
    return found


def allowed(unit: Unit) -> set[str]:
    """Names of the system calls that the unit's lines leave."""
    left = calls_in("@default")
    for value in unit.values("SystemCallFilter"):
        for word in value.removeprefix("~").split():
            named = calls_in(word) if word.startswith("@") else {word}
            left = left - named if value.startswith("~") else left | named
    return left


def filtered(calls: Iterable[str], families: Iterable[str], executable: bool = True) -> bytes:
    """A program for the kernel: these calls, sockets of these families; not ``executable``: no code is made."""
    numbers = {
        name: int(number)
        for name, number in re.findall(r"#define __NR_(\w+) (\d+)", NUMBERS.read_text("ascii"))
    }  # fmt: skip
    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUALS, 1, 0, ARCH), (RETURN, 0, 0, ERROR | errno.EPERM),
             (LOAD, 0, 0, NUMBER)]  # fmt: skip
    kinds = [FAMILIES[name] for name in families]
    steps += [(EQUALS, 0, 2 * len(kinds) + 2, numbers["socket"]), (LOAD, 0, 0, FIRST)]
    for kind in kinds:
        steps += [(EQUALS, 0, 1, kind), (RETURN, 0, 0, ALLOW)]
    steps += [(RETURN, 0, 0, ERROR | errno.EAFNOSUPPORT)]
    # What systemd's MemoryDenyWriteExecute denies.
    for name, bits in (("mmap", WRITABLE | EXECUTABLE), ("mprotect", EXECUTABLE)) if not executable else ():
        steps += [(EQUALS, 0, 5, numbers[name]), (LOAD, 0, 0, THIRD), (AND, 0, 0, bits), (EQUALS, 0, 1, bits)]
        steps += [(RETURN, 0, 0, ERROR | errno.EPERM), (RETURN, 0, 0, ALLOW)]
    for number in sorted(numbers[name] for name in calls if name in numbers):
        steps += [(EQUALS, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    steps += [(RETURN, 0, 0, ERROR | errno.EPERM)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


@contextmanager
def shut_in(words: list[str], folder: Path, environ: dict[str, str], program: bytes) -> Iterator[subprocess.Popen]:
    """The process of bubblewrap, whose child is the command; what they say goes to ``folder``/log."""
    for name in ("state", "cache", "credentials"):
        (folder / name).mkdir(exist_ok=True)
    reads, writes = os.pipe()
    os.write(writes, program)
    os.close(writes)
    arguments = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for hidden in ("/tmp", "/home", "/root", "/run", "/opt", "/var/lib", "/var/cache"):
        arguments += ["--tmpfs", hidden]
    for at, name in (("/var/lib", "state"), ("/var/cache", "cache")):
        arguments += ["--bind", str(folder / name), f"{at}/faust-anomaly"]
    for place in dict.fromkeys((str(ROOT), sys.prefix, sys.base_prefix)):  # where developers have them
        arguments += ["--ro-bind", place, place]
    arguments += ["--ro-bind", sys.prefix, "/opt/faust-anomaly"]
    arguments += ["--ro-bind", str(folder / "credentials"), "/run/credentials/unit"]
    arguments += ["--remount-ro", "/opt", "--unshare-user", "--uid", "65532", "--gid", "65532"]
    arguments += ["--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL", "--die-with-parent", "--chdir", "/"]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*arguments, "--seccomp", str(reads), "--", *words],
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **environ}, pass_fds=[reads], stdout=log, stderr=log,
        )  # fmt: skip
    os.close(reads)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def inner(process: subprocess.Popen) -> int:
    """The process number of the command."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5.0) as answer:
            return answer.status == 200
    except (OSError, urllib.error.HTTPError):
        return False


def until_ready(process: subprocess.Popen, port: int, most_s: float) -> bool:
    until = time.monotonic() + most_s
    while time.monotonic() < until and process.poll() is None:
        if answers(port, "/readyz"):
            return True
        time.sleep(0.2)
    return False


def run(name: str, servers: str, folder: Path, most_s: float = HANG_S, **taken) -> str:
    """Check, start, stop. "" if all went well, else what did not. ``taken`` from it: it is only started then."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    unit = Unit.read(name, instance=str(port))
    calls = allowed(unit) - taken.get("calls", set())
    families = [one for one in unit.value("RestrictAddressFamilies").split() if one not in taken.get("families", ())]
    program = filtered(calls, families, taken.get("executable", True))
    here = {
        "ANOMALY_CONFIG": str(SYSTEMD / "anomaly.yaml"),
        "ANOMALY_DASHBOARD__PORT": str(port),
        "ANOMALY_KAFKA__BOOTSTRAP_SERVERS": servers,
        "ANOMALY_KAFKA__SECURITY_PROTOCOL": "PLAINTEXT",
        "ANOMALY_API__TOKENS_FILE": "/run/credentials/unit/tokens",
    }
    (folder / "credentials").mkdir()
    (folder / "credentials/tokens").write_text("")
    began = time.monotonic()
    for words in unit.commands() if not taken else unit.commands()[-1:]:
        with shut_in(words, folder, unit.environment() | here, program) as process:
            if words[1] == "check":
                if code := process.wait(most_s):
                    return f"check ended with {code}"
                print(f"  check: {time.monotonic() - began:.1f} s")
                continue
            began = time.monotonic()
            if not until_ready(process, port, most_s):
                return f"it was not ready: {'it ended' if process.poll() is not None else f'not within {most_s:.0f} s'}"
            if not answers(port, "/metrics"):
                return "it gives no metrics"
            print(f"  ready: {time.monotonic() - began:.1f} s")
            began = time.monotonic()
            os.kill(inner(process), signal.SIGTERM)
            code = process.wait(unit.seconds("TimeoutStopSec"))
            print(f"  stopped: {time.monotonic() - began:.1f} s")
            if code:
                return f"it ended with {code}"
    written = sorted(path.name for path in folder.glob("*/*") if path.parent.name in ("state", "cache"))
    print(f"  wrote: {len(written)} files and folders in state and cache")
    return "" if written else "it wrote neither state nor cache"


def main() -> int:
    failed = 0
    with tempfile.TemporaryDirectory(dir="/var/tmp") as found:
        place = Path(found)
        with LocalKafka(place / "kafka", port=0, say=lambda text: None) as broker:
            topics = [sys.executable, "-m", "app", "topics", "--create"]
            environ = os.environ | {"ANOMALY_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers}
            subprocess.run(topics, env=environ, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            cases: list[tuple[str, dict, bool]] = [
                (WORKER, {}, True),
                (ALERTER, {}, True),
                (WORKER, {"calls": {"epoll_wait", "epoll_pwait", "epoll_pwait2"}}, False),
                (WORKER, {"families": {"AF_INET"}}, False),
                (WORKER, {"executable": False}, False),
            ]
            for number, (name, taken, wanted) in enumerate(cases):
                print(f"{name}{f' without {taken}' if taken else ''}", flush=True)
                why = run(name, broker.bootstrap_servers, place / str(number), HANG_S if wanted else LOST_S, **taken)
                print(f"  {why or 'all went well'}", flush=True)
                if not wanted:
                    print("  " + (place / str(number) / "log").read_text("utf-8", "replace").strip()[-200:])
                if bool(why) == wanted:
                    failed += 1
                    print((place / str(number) / "log").read_text("utf-8", "replace")[-3000:])
    print("as it must be" if not failed else f"{failed} not as it must be")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
