"""Checks which ports are free, which local brokers run, and whether Kafka answers."""

import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"
MARK = "-Dfaust.anomaly.local.kafka="  # on a broker's command line, before its port and directory
AFTER_MARK = " -Xmx"
# Below Linux's range for outgoing connections (32768 and up): while a broker is away, a client that keeps
# trying to connect to a port of that range may be given it as its own end, and so connect to itself.
FREE_PORTS = range(20_000, 32_000)


class Broker(NamedTuple):
    """A local broker of this program, as its command line shows."""

    pid: int
    port: int
    directory: str


def is_free(port: int) -> bool:
    """Whether a server could listen at this port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: TIME_WAIT does not count
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def free_port(preferred: int = 0) -> int | None:
    """A free port, the preferred one if it is free. None when none of 200 is."""
    if preferred and is_free(preferred):
        return preferred
    return next(filter(is_free, random.sample(FREE_PORTS, 200)), None)


def ask_metadata(port: int, timeout_s: float = 2.0) -> tuple[str, int] | None:
    """Id of the cluster that answers at this port of loopback, and the number of its live brokers.

    One request of the Kafka protocol over a plain socket: a client library would log an error, and try
    again in its own time, for every moment the broker is not there yet.
    """
    body = struct.pack(">hhih", 3, 5, 1, -1) + struct.pack(">ib", 0, 0)  # Metadata v5: no topics, create none
    try:
        with socket.create_connection((HOST, port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as stream:
                (size,) = struct.unpack(">i", stream.read(4))
                answer = stream.read(size) if 0 < size < 1 << 20 else b""
        _, _, brokers = struct.unpack_from(">iii", answer)  # correlation, throttle time
        at = 12
        for _ in range(brokers):
            (host,) = struct.unpack_from(">h", answer, at + 4)  # node id; length of host
            at += 4 + 2 + host + 4  # port
            (rack,) = struct.unpack_from(">h", answer, at)
            at += 2 + max(rack, 0)
        (length,) = struct.unpack_from(">h", answer, at)
        return answer[at + 2 : at + 2 + max(length, 0)].decode(), brokers
    except (OSError, struct.error, UnicodeDecodeError):
        return None


def mark(port: int, directory: Path) -> str:
    """The argument that identifies the process of a local broker."""
    return f"{MARK}{port}:{directory}"


def brokers(pid: int | None = None) -> list[Broker]:
    """Our local brokers that run on this machine; with ``pid`` that process alone, if it is one."""
    found = []
    for number, command in command_lines(pid).items():
        _, marked, rest = command.partition(MARK)
        port, _, rest = rest.partition(":")
        if marked and port.isdigit():
            found.append(Broker(number, int(port), rest.partition(AFTER_MARK)[0]))
    return found


def ended(pid: int, timeout_s: float) -> bool:
    """Whether this process, not a child of ours, ends in time: all its threads, its ports and locks given back.

    Its command line is empty earlier than that.
    """
    until = time.monotonic() + timeout_s
    try:
        if sys.platform == "linux":
            descriptor = os.pidfd_open(pid)
            try:
                return bool(select.select([descriptor], [], [], timeout_s)[0])
            finally:
                os.close(descriptor)
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(0.02)
        return False
    except ProcessLookupError:
        return True


def command_lines(pid: int | None = None) -> dict[int, str]:
    """Command lines of this process, or of all: from /proc where there is one, else from ps."""
    proc = Path("/proc")
    if not (proc / "self" / "cmdline").exists():
        which = ["-A"] if pid is None else ["-p", str(pid)]
        command = ["ps", "-ww", "-o", "pid=,command=", *which]
        table = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        rows = (line.split(None, 1) for line in table.splitlines())
        return {int(row[0]): row[1] for row in rows if len(row) == 2}
    lines = {}
    for number in [pid] if pid else [int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()]:
        try:
            raw = (proc / str(number) / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended
        lines[number] = raw.replace(b"\0", b" ").decode("utf-8", "replace")
    return lines
