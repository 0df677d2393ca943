"""The limits at a fiftieth of their size, and what would miss them is noticed."""

import json
import subprocess
import sys

import numpy as np
import pytest

from app.compiled.byte_columns import RecordColumns
from app.pipeline import Pipeline
from app.settings import load
from tables.sources import SourcesTable
from tests.limits import command, recovery, soak

SOURCES = 20_000


@pytest.mark.parametrize("name", command.BYTES_A_SOURCE)
def test_memory_is_so_many_bytes_a_source(name):
    argv = [sys.executable, "-m", "tests.limits.memory", str(SOURCES), name]
    found = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    print(f"\n{found}")
    assert 1000 < found["row_bytes"] < found["bytes_a_source"]
    assert found["bytes_a_source"] < command.BYTES_A_SOURCE[name] + command.ROOM_MB * 1e6 / SOURCES


def test_a_changelog_of_many_sources_is_loaded_whole():
    settings = load(environ={})
    records = [(at, *record) for at, record in enumerate(recovery.snapshots(settings, SOURCES))]
    pipeline = Pipeline.of(settings)
    owned = SourcesTable(pipeline).take_over()
    owned.load(RecordColumns.of(records))
    assert len(owned.rows) == SOURCES and owned.covers == 0
    assert [value for _, value in owned.snapshots([7, SOURCES - 1], 0)] == [records[7][2], records[-1][2]]


def test_a_slope_is_told_from_noise():
    rng = np.random.default_rng(1)
    seconds = np.arange(1200.0)
    noise = rng.normal(400.0, 2.0, len(seconds))
    flat, error = soak.slope(seconds, noise)
    assert abs(flat) < 3 * error < command.SLOPE_MB_PER_H
    leak, error = soak.slope(seconds, noise + seconds / 3600.0 * 100.0)
    assert leak == pytest.approx(100.0 + flat) and leak - 2 * error > command.SLOPE_MB_PER_H
