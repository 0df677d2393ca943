"""Addresses, migrations, one writer of several; on both databases."""

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.errors import ConfigurationError, StoreError
from app.settings import load
from app.store import tables
from app.store.database import Database, default_path, use_write_ahead_log

SECRET = "s3cr3t"


def of(url, group="group"):
    return Database.of(load(environ={}, storage={"url": url}, kafka={"group_id": group}))


def ended(*databases):
    async def run(what):
        try:
            return await what
        finally:
            for database in databases:
                await database.close()

    return lambda what: asyncio.run(run(what))


def test_the_steps_make_the_tables_that_the_program_uses(database):
    async def differences():
        await database.open()
        async with database.connected() as connection:
            return await connection.run_sync(
                lambda one: compare_metadata(
                    MigrationContext.configure(one, opts={"compare_type": True}), tables.metadata
                )
            )

    assert ended(database)(differences()) == []


def test_several_that_open_one_database_at_the_same_time_make_its_tables_once(url):
    several = [of(url) for _ in range(4)]

    async def opened():
        await asyncio.gather(*(one.open() for one in several))
        async with several[0].connected() as connection:
            return list(await connection.execute(sa.text("SELECT version_num FROM alembic_version")))

    assert len(ended(*several)(opened())) == 1


def test_a_new_file_is_locked_to_none_of_several_that_connect_at_once(tmp_path):
    async def connected(database):
        try:
            async with database.connected():
                pass
        finally:
            await database.close()

    def connects(number):
        together.wait()
        asyncio.run(connected(of(f"sqlite:///{tmp_path / str(number)}")))

    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(connects, [number for number in range(20) for _ in range(4)]))


def test_sqlite_is_asked_again_where_it_does_not_wait_for_others():
    class Locked:
        left = 3

        async def execute(self, statement):
            if self.left:
                self.left -= 1
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error

    asyncio.run(use_write_ahead_log(one := Locked()))
    assert one.left == 0


def test_a_database_that_knows_no_encoding_is_used_all_the_same(postgres):
    parts = sa.make_url(postgres.url())  # initdb with the locale C makes all of them so
    where = {"host": parts.query["host"], "user": parts.username, "dbname": "postgres"}
    with psycopg.connect(**where, autocommit=True) as connection:
        connection.execute("CREATE DATABASE ascii ENCODING SQL_ASCII TEMPLATE template0")
    database = of(parts.set(database="ascii").difference_update_query(["options"]).render_as_string(False))

    async def kept():
        await database.open()
        async with database.connected() as connection:
            return list(await connection.scalars(sa.select(tables.facts.c.value)))

    assert ended(database)(kept()) == ["group"]


def test_tables_of_a_newer_version_are_left_alone(url):
    first, second = of(url), of(url)

    async def opened():
        await first.open()
        async with first.connected(writes=True) as connection, connection.begin():
            await connection.execute(sa.text("UPDATE alembic_version SET version_num = '999'"))
        with pytest.raises(StoreError, match="another version of this program"):
            await second.open()

    ended(first, second)(opened())


def test_two_groups_do_not_share_a_database(url):
    first, second = of(url, "blue"), of(url, "green")

    async def opened():
        await first.open()
        with pytest.raises(StoreError, match=r"history of the group blue: name another database .* the group green"):
            await second.open()

    ended(first, second)(opened())


def test_a_look_changes_nothing_and_says_what_opening_would_find(url):
    def look(group="group"):
        database = Database.of(load(environ={}, storage={"url": url}, kafka={"group_id": group}), reads_only=True)
        return ended(database)(database.look())

    assert look() == look() and "created at the start" in look()
    database = of(url)

    async def opened(version=None):
        await database.open()
        if version:
            async with database.connected(writes=True) as connection, connection.begin():
                await connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{version}'"))

    ended(database)(opened())
    assert look() == "tables are up to date"
    with pytest.raises(ConfigurationError, match="history of the group group: name another database"):
        look("green")
    ended(database)(opened("999"))
    with pytest.raises(ConfigurationError, match="another version of this program"):
        look()


def test_who_may_not_make_tables_is_told_before_the_start(postgres):
    url = sa.make_url(postgres.url())
    schema = "limited"
    with psycopg.connect(postgres._address(), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO reader")
    limited = url.set(username="reader").update_query_dict({"options": f"-csearch_path={schema}"})
    database = of(limited.render_as_string(hide_password=False))
    with pytest.raises(ConfigurationError, match="may not create tables: it needs CREATE"):
        ended(database)(database.look())


def test_one_process_writes_and_another_takes_over(url):
    first, second = of(url), of(url)

    async def opened():
        await first.open()
        await second.open()
        async with first.writer() as one:
            assert one is not None
            async with second.writer() as other:
                assert other is None
        async with second.writer() as other:
            assert other is not None

    ended(first, second)(opened())


def test_a_file_that_was_deleted_is_made_again(tmp_path):
    database = of(f"sqlite:///{tmp_path / 'history.db'}")

    async def opened():
        await database.open()
        assert not database.replaced()
        database.path.unlink()
        assert database.replaced()
        await database.open()
        async with database.connected() as connection:
            return await connection.scalar(sa.select(tables.facts.c.value))

    assert ended(database)(opened()) == "group" and database.path.exists()


@pytest.mark.parametrize(
    "url, said",
    [
        ("no address", "expected sqlite:///path or postgresql://user@host/name, got something else"),
        (f"postgresql://user:{SECRET}@host:port/name", "got something else"),
        (f"mysql://user:{SECRET}@host/name", "got mysql://.."),
        (f"postgresql+asyncpg://user:{SECRET}@host/name", r"got postgresql\+asyncpg://.."),
        ("sqlite://", "the path of a file"),
        ("sqlite:///:memory:", "the path of a file"),
        ("sqlite:///a.db?mode=ro", "the path of a file"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(url, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        of(url)
    assert SECRET not in str(caught.value)
    assert str(caught.value).startswith("storage.url: ")


def test_a_driver_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("app.store.database.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="postgresql needs the package psycopg, which is not installed"):
        of("postgresql://host/name")


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in ("file/history.db", "nowhere/history.db", "folder"):
        with pytest.raises(ConfigurationError, match=f"storage.url: the file .*{path} cannot be written"):
            of(f"sqlite:///{tmp_path / path}").check_folder()
    of(f"sqlite:///{tmp_path / 'history.db'}").check_folder()


def test_what_is_no_database_is_named(tmp_path):
    path = tmp_path / "history.db"
    path.write_text("a text that is no database" * 100)
    database = of(f"sqlite:///{path}")
    with pytest.raises(StoreError, match=f"history in {path}: file is not a database"):
        ended(database)(database.open())


def test_a_server_that_is_away_is_named_without_the_password():
    database = of(f"postgresql://user:{SECRET}@127.0.0.1:1/name?sslpassword={SECRET}")
    with pytest.raises(StoreError, match=r"history in postgresql://127.0.0.1/name: .*refused") as caught:
        ended(database)(database.open())
    assert SECRET not in str(caught.value) and SECRET not in database.shown
    assert database.in_words(OSError(f"password={SECRET}")) == "password=***"


def test_the_default_is_a_file_of_the_group_in_the_state_folder(monkeypatch, tmp_path):
    settings = load(environ={}, kafka={"group_id": "blue"})
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path(settings) == tmp_path / "faust-anomaly" / "blue.db"
    assert Database.of(settings).path == default_path(settings)
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_path(settings) == Path("/home/somebody/.local/state/faust-anomaly/blue.db")
