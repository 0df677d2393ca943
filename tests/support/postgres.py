"""A PostgreSQL of the tests' own: Debian's programs, a folder, a socket in it, and nothing is waited for on disk."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

USER = "postgres"
HANG_S = 60.0
_numbers = itertools.count()


class Postgres:
    """``url`` gives the address of a new, empty schema: databases of their own take time and room."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._data = folder, folder / "data"
        self._process: subprocess.Popen | None = None

    def make(self) -> None:
        # Its programs refuse to run as root.
        if os.geteuid() == 0:
            shutil.chown(self.folder, _owner())
        command = ["initdb", "--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "--locale=C"]
        _run([*command, "-D", str(self._data)])

    def start(self) -> None:
        quick = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
        options = [f"-c{name}={value}" for name, value in (quick | {"listen_addresses": ""}).items()]
        command = _as_user(["postgres", "-D", str(self._data), "-k", str(self.folder), *options])
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + HANG_S
        while True:
            try:
                psycopg.connect(self._address()).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < until, (self.folder / "log").read_text()
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends its clients, where SIGTERM waits for them; SIGQUIT leaves what is in memory to a recovery."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait(HANG_S)
            self._process = None

    def url(self) -> str:
        name = f"history_{next(_numbers)}"
        with psycopg.connect(self._address(), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"postgresql://{USER}@/postgres?host={self.folder}&options=-csearch_path%3D{name}"

    def _address(self) -> str:
        return f"host={self.folder} user={USER} dbname=postgres"


@contextmanager
def running() -> Iterator[Postgres]:
    # Not pytest's folder: it is for its own user only, and a socket's path may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="postgres") as folder:
        server = Postgres(Path(folder))
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)


def _owner() -> str:
    try:
        return pwd.getpwnam(USER).pw_name
    except KeyError:
        return "nobody"


def _as_user(command: list[str]) -> list[str]:
    found = map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{command[0]}")))  # Debian has none in PATH
    path = shutil.which(command[0]) or next(found, "")
    assert path, f"{command[0]} is not installed: apt-get install postgresql"
    one = pwd.getpwnam(_owner())
    as_user = ["setpriv", f"--reuid={one.pw_uid}", f"--regid={one.pw_gid}", "--clear-groups"]
    return [*(as_user if os.geteuid() == 0 else []), path, *command[1:]]


def _run(command: list[str]) -> None:
    done = subprocess.run(_as_user(command), capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
