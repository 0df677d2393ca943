"""Every test of the history runs on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store.database import Database
from tests.support.postgres import Postgres, running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'history.db'}"
    return request.getfixturevalue("postgres").url()


@pytest.fixture
def database(url: str) -> Database:
    """Of the group ``group``; nobody has opened it."""
    from app.settings import load

    return Database.of(load(environ={}, storage={"url": url}, kafka={"group_id": "group"}))
