"""The database of the history: its address and engine, its migrations, and which process may write.

SQLite: a file, its write-ahead log beside it, and a file ``<file>.lock`` that the writing process locks. Writing
transactions begin with BEGIN IMMEDIATE, so that none fails half-way because another process has written. PostgreSQL:
the writer holds an advisory lock of the session of the connection that it writes with, so it loses both together. On
both, the migrations of app/store/migrations run in one transaction, one process at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.errors import ConfigurationError, StoreError
from app.store.tables import facts

if TYPE_CHECKING:
    from app.settings import Settings

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

DRIVERS = {"sqlite": ("sqlite+aiosqlite", "aiosqlite"), "postgresql": ("postgresql+psycopg", "psycopg")}
EXPECTED = "expected sqlite:///path or postgresql://user@host/name"
BUSY_S = 10.0  # how long SQLite waits for another process's transaction
ANSWER_S = 30.0  # longest step; then the server counts as unreachable
REBUILD_S = 600.0  # longest step that changes or deletes whole tables
MIGRATIONS = Path(__file__).parent / "migrations"
OTHER_VERSION = "the history's tables are of another version of this program: "
POSTGRESQL_OPTIONS = {
    "application_name": "faust-anomaly",
    "client_encoding": "UTF8",  # a database in SQL_ASCII would give bytes
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs the database at each start


class Database:
    """The database of one group's history. Connects at the first use.

    ``shown``: its name without user and password.
    """

    def __init__(self, url: sa.URL, group: str, reads_only: bool = False) -> None:
        self.group, self._reads_only = group, reads_only
        self.path = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
        self.shown = str(self.path) if self.path else f"postgresql://{url.host or ''}/{url.database or ''}"
        self._url = url
        self._engine: AsyncEngine | None = None
        self._opened = 0  # inode of the file

    @classmethod
    def of(cls, settings: Settings, reads_only: bool = False) -> Database:
        """The database of ``storage.url``, or the default; not opened. ``reads_only``: nothing is created or changed.

        Raises
        ------
        ConfigurationError
            The address is invalid, or its driver is not installed.
        """
        given = settings.storage.url
        if given is None:
            return cls(
                sa.URL.create(DRIVERS["sqlite"][0], database=str(default_path(settings))), settings.kafka.group_id
            )
        try:
            url = sa.make_url(given.get_secret_value())
        except (ArgumentError, ValueError):
            raise ConfigurationError(f"storage.url: {EXPECTED}, got something else") from None
        backend = url.drivername.partition("+")[0]
        driver, module = DRIVERS.get(backend, ("", ""))
        if url.drivername not in (backend, driver) or not driver:
            raise ConfigurationError(f"storage.url: {EXPECTED}, got {url.drivername}://..")
        if importlib.util.find_spec(module) is None:
            raise ConfigurationError(f"storage.url: {backend} needs the package {module}, which is not installed")
        if backend == "sqlite" and (not url.database or ":memory:" in url.database or url.query):
            raise ConfigurationError("storage.url: expected the path of a file after sqlite:///, and nothing behind it")
        return cls(url.set(drivername=driver), settings.kafka.group_id, reads_only)

    def check_folder(self, create: bool = False) -> None:
        """Check that the file can be written; ``create``: create a missing folder.

        Raises ConfigurationError.
        """
        if self.path is None:
            return
        try:
            if create:
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.path.is_dir():
                raise IsADirectoryError(f"{self.path} is a directory")
            for name in (self._lock_path, *([self.path] if self.path.exists() else [])):
                with open(name, "ab"):
                    pass
        except OSError as error:
            raise ConfigurationError(
                f"storage.url: the file {self.path} cannot be written: {error.strerror or error}"
            ) from error

    @property
    def _lock_path(self) -> Path:
        return Path(f"{self.path}.lock")

    async def open(self) -> None:
        """Migrate the tables, once; a file that was deleted or replaced since is opened again.

        Raises StoreError.
        """
        if self.replaced():
            await self.close()
        if self._opened:
            return
        with reported(self):
            if self._reads_only:
                owner = await self._check()
            else:
                owner = await self._migrate()
            if owner != self.group:
                raise StoreError(self._other_group(owner))
            self._opened = self.path.stat().st_ino if self.path else 1

    async def _migrate(self) -> str:
        """Run missing migrations. Returns the group of the history."""
        async with asyncio.timeout(REBUILD_S), self.connected(writes=True) as connection, connection.begin():
            if connection.dialect.name == "postgresql":
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(self._lock_number("migrations"))))
            await connection.run_sync(_run_migrations)
            owner = await connection.scalar(sa.select(facts.c.value).where(facts.c.name == "group"))
            if owner is None:
                await connection.execute(sa.insert(facts).values(name="group", value=self.group))
        return owner or self.group

    async def _check(self) -> str:
        none = StoreError(f"history in {self.shown}: there is none; a worker or alerter with storage.enabled writes it")
        if self.path and not self.path.exists():
            raise none
        async with asyncio.timeout(ANSWER_S), self.connected() as connection:
            if not await connection.run_sync(lambda one: sa.inspect(one).has_table(facts.name)):
                raise none
            return await connection.scalar(sa.select(facts.c.value).where(facts.c.name == "group")) or self.group

    async def look(self) -> str:
        """What ``open`` would find, in words; nothing is created or changed.

        Raises
        ------
        StoreError
            The database does not answer now.
        ConfigurationError
            ``open`` would fail: the history of another group or a newer version, or no right to create tables.
        """
        if self.path and not self.path.exists():
            return "not there yet, created at the start"
        with reported(self):
            async with asyncio.timeout(ANSWER_S), self.connected() as connection:
                has_tables = await connection.run_sync(lambda one: sa.inspect(one).has_table(facts.name))
                owner = (
                    await connection.scalar(sa.select(facts.c.value).where(facts.c.name == "group"))
                    if has_tables
                    else None
                )
                here, newest = await connection.run_sync(_versions)
                makes = sa.select(sa.func.has_schema_privilege(sa.func.current_schema(), "CREATE"))
                postgresql = connection.dialect.name == "postgresql"
                may = await connection.scalar(makes) if postgresql and here != newest else True
        if owner not in (None, self.group):
            raise ConfigurationError(self._other_group(owner))
        if not may:
            raise ConfigurationError(
                f"history in {self.shown}: this user may not create tables: it needs CREATE on the first schema of its "
                "search_path, usually public"
            )
        if here is None:
            return "no tables yet, created at the start"
        return (
            "tables are up to date"
            if here == newest
            else f"tables of version {here}, migrated to {newest} at the start"
        )

    def _other_group(self, owner: str) -> str:
        return (
            f"history in {self.shown}: this is the history of the group {owner}: name another database in storage.url "
            f"for the group {self.group}"
        )

    def replaced(self) -> bool:
        """Whether the file is not the one that was opened."""
        if self.path is None or not self._opened:
            return False
        try:
            return self.path.stat().st_ino != self._opened
        except OSError:
            return True

    async def close(self) -> None:
        engine, self._engine, self._opened = self._engine, None, 0
        if engine:
            with contextlib.suppress(SQLAlchemyError, OSError, TimeoutError):
                async with asyncio.timeout(5.0):
                    await engine.dispose()

    @asynccontextmanager
    async def connected(self, writes: bool = False) -> AsyncIterator[AsyncConnection]:
        """A connection; raises SQLAlchemy's errors. ``writes``: its transactions begin as writing ones."""
        if self._engine is None:
            self._engine = _engine(self._url, self._reads_only)
        async with self._engine.connect() as connection:
            if writes:
                await connection.execution_options(writes=True)
            yield connection

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[AsyncConnection | None]:
        """The connection of the one process that may write; None while another process is the writer.

        Raises StoreError, or SQLAlchemy's errors when a connection is lost.
        """
        if self.path:
            with reported(self):
                file = _locked(self._lock_path)
            if file is None:
                yield None
                return
            with file:
                async with self.connected(writes=True) as connection:
                    yield connection
            return
        async with self.connected(writes=True) as connection:
            with reported(self):
                number = self._lock_number("writer")
                lock = sa.select(sa.func.pg_try_advisory_lock(number))
                async with asyncio.timeout(ANSWER_S), connection.begin():
                    mine = await connection.scalar(lock)
            try:
                yield connection if mine else None
            finally:
                if mine:  # the session must not return to the pool with the lock
                    with contextlib.suppress(SQLAlchemyError, OSError, TimeoutError):
                        async with asyncio.timeout(5.0):
                            await connection.rollback()
                            await connection.execute(sa.select(sa.func.pg_advisory_unlock(number)))
                    with contextlib.suppress(SQLAlchemyError, OSError):
                        await connection.invalidate()

    def _lock_number(self, use: str) -> int:
        digest = hashlib.sha256(f"faust-anomaly/{use}/{self.group}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    def said(self, error: BaseException) -> str:
        """The message for any error of this database."""
        return str(error) if isinstance(error, StoreError) else f"history in {self.shown}: {self.in_words(error)}"

    def in_words(self, error: BaseException) -> str:
        """An error of the database without statement, parameters and password."""
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        if isinstance(cause, TimeoutError):
            return f"no answer within {ANSWER_S:g} s"
        text = " ".join(str(cause).split()) or type(cause).__name__
        for secret in _secrets(self._url):
            text = text.replace(secret, "***")
        return text


def default_path(settings: Settings) -> Path:
    """The file of a group's history in the state folder of this user."""
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home())
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "faust-anomaly" / f"{settings.kafka.group_id}.db"


@contextmanager
def reported(database: Database) -> Iterator[None]:
    """Errors of a database or its file become a StoreError that names the database, without secrets."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, TimeoutError, ValueError) as error:
        raise StoreError(database.said(error)) from error


def _secrets(url: sa.URL) -> list[str]:
    words = [str(url.password or ""), *(str(value) for name, value in url.query.items() if "password" in name)]
    return [word for word in words if word]


def _engine(url: sa.URL, reads_only: bool) -> AsyncEngine:
    options: dict[str, Any] = {
        "hide_parameters": True,
        "json_serializer": lambda value: msgspec.json.encode(value).decode(),
        "json_deserializer": msgspec.json.decode,
    }
    if url.get_backend_name() == "postgresql":
        given = {name: value for name, value in POSTGRESQL_OPTIONS.items() if name not in url.query}
        options |= {"connect_args": given}
        return create_async_engine(url, pool_size=2, max_overflow=3, pool_pre_ping=True, **options)
    if reads_only:
        url = url.set(database=f"file:{quote(url.database or '')}", query={"mode": "ro", "uri": "true"})
    engine = create_async_engine(url, pool_size=2, max_overflow=3, connect_args={"timeout": BUSY_S}, **options)

    @sa.event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # ``begin`` begins transactions, not the first statement
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(BUSY_S * 1000)}")
        if not reads_only:
            connection.run_async(use_write_ahead_log)
            cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        immediate = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


async def use_write_ahead_log(connection: Any) -> None:
    """A property of the file. SQLite itself does not wait for others that have just opened a new file, and do the same:
    each holds what the other needs. Raises sqlite3.OperationalError."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            await connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        await asyncio.sleep(0.01)


def _versions(connection: sa.Connection) -> tuple[str | None, str]:
    """That of the tables, None if there are none, and the newest one. Raises ConfigurationError for one of another
    version of this program."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    scripts = ScriptDirectory(str(MIGRATIONS))
    here = MigrationContext.configure(connection).get_current_revision()
    try:
        scripts.get_revision(here or "head")
    except CommandError as error:
        raise ConfigurationError(OTHER_VERSION + str(error)) from error
    return here, scripts.get_current_head() or ""


def _run_migrations(connection: sa.Connection) -> None:
    """Run the steps that are missing. Raises StoreError if the tables are of a newer version than this one."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    scripts = ScriptDirectory(str(MIGRATIONS))

    def steps(revision: Any, context: Any) -> Any:
        return scripts._upgrade_revs("head", revision)

    try:
        with EnvironmentContext(Config(), scripts, fn=steps, destination_rev="head") as environment:
            environment.configure(connection=connection, transactional_ddl=True)
            environment.run_migrations()
    except CommandError as error:
        raise StoreError(OTHER_VERSION + str(error)) from error


def _locked(path: Path) -> IO[bytes] | None:
    """The open file that holds the lock; None while another process does. Raises OSError."""
    while True:
        file = open(path, "ab")  # noqa: SIM115 - handed on
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except (BlockingIOError, PermissionError):
            file.close()
            return None
        except OSError:
            file.close()
            raise
        with contextlib.suppress(FileNotFoundError):
            if os.name == "nt" or os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                return file
        file.close()  # deleted meanwhile: the next one who comes would lock another
