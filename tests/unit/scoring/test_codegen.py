"""Where the compiled passes live, and that nothing stale or foreign is ever run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from points import alone, detection, gaussian, points, scores

from app.compiled import rows
from app.pipeline import Pipeline
from app.scoring import codegen

ROOT = Path(__file__).parents[3]


def run_python(code, cache):
    """Another process with a cache of its own; what it prints."""
    environ = {**os.environ, "FAUST_ANOMALY_CACHE": str(cache), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


SMALL = "from points import *; small = alone('zscore'); small.compile()\n"
LARGE = "from points import *; large = Pipeline(detection('zscore', window_points=300)); large.compile()\n"
AGREE = "print(scores(small, gaussian(90)) == scores(alone('zscore', 'python'), gaussian(90)))\n"
HITS = "print(sum(small._passes[0][0].stats.cache_hits.values()))\n"


def test_code_cached_by_two_processes_stays_apart(tmp_path):
    run_python(SMALL, tmp_path)
    run_python(LARGE, tmp_path)
    assert run_python(LARGE + SMALL + AGREE + HITS, tmp_path) == ["True", "2"]


def test_numba_still_names_records_where_we_name_them():
    from numba.core import itanium_mangler
    from numba.np.numpy_support import from_dtype

    codegen.name_records_by_content()
    first, second = (from_dtype(rows.dtype([("n", "i8"), ("ring", "f8", (size,))])) for size in (11, 12))
    names = [itanium_mangler.mangle_type(record) for record in (first, second)]
    assert names[0] != names[1]
    assert not any(f"Li{record._code}E" in name for record, name in zip((first, second), names))


def test_without_a_writable_place_it_is_compiled_in_memory(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file is no directory")
    assert run_python(SMALL + AGREE + HITS, blocked) == ["True", "0"]


def test_profiles_that_differ_in_numbers_only_share_their_code():
    ours = Pipeline(detection(window_size=5, threshold_multiplier=2.0))
    other = Pipeline(detection(window_size=6, weight=9.0, threshold_=0.5))
    assert codegen.passes(ours.profiles[0], "numba") == codegen.passes(other.profiles[0], "numba")
    assert codegen.text(ours.profiles[0]) != codegen.text(alone("zscore").profiles[0])


def test_the_file_changes_with_any_source_it_calls(monkeypatch, tmp_path):
    monkeypatch.setenv("FAUST_ANOMALY_CACHE", str(tmp_path))
    profile = alone("zscore").profiles[0]
    module = profile.kernels[0].detector.module
    first = codegen._file(codegen.text(profile), (module,))
    real = codegen.inspect.getsource
    monkeypatch.setattr(codegen.inspect, "getsource", lambda m: real(m) + ("#" if m is module else ""))
    assert codegen._file(codegen.text(profile), (module,)) != first
    assert first.parent == tmp_path and first.read_text() == codegen.text(profile)


def test_a_damaged_file_is_written_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("FAUST_ANOMALY_CACHE", str(tmp_path))
    profile = alone("zscore").profiles[0]
    path = codegen._file(codegen.text(profile), ())
    path.write_text("raise SystemExit")
    assert codegen._file(codegen.text(profile), ()).read_text() == codegen.text(profile)


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "faust-anomaly"),
        ("win32", "LOCALAPPDATA", "faust-anomaly"),
        ("linux", "FAUST_ANOMALY_CACHE", ""),
    ],
)
def test_the_place_is_the_users_cache_unless_said(monkeypatch, tmp_path, platform, variable, expected):
    monkeypatch.delenv("FAUST_ANOMALY_CACHE", raising=False)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert codegen.directory() == tmp_path / expected


def test_rows_as_objects_and_as_records_hold_the_same_bytes():
    kind = rows.dtype([("n", "i8"), ("inner", [("x", "f8"), ("h", "f8", (3,))]), ("small", "u1", (5,))])
    record = np.zeros(1, kind)
    record[0] = (7, (1.5, [1.0, -0.0, 1e-310]), [1, 2, 3, 4, 255])
    both = [made(kind) for made in (rows.ArrayRows, rows.ObjectRows)]
    for held in both:
        held.add(3)
        held.load(1, record.tobytes())
        assert held.dump(1) == record.tobytes() and held.dump(0) == bytes(kind.itemsize) == held.dump(2)
    row = both[1].data[1]
    aside = rows.copied(row)
    row.inner.h[0] = 9.0
    assert aside.inner.h[0] == 1.0


def test_the_first_run_compiles_when_nobody_did():
    pipeline = Pipeline(detection("zscore", warmup=5))
    assert scores(pipeline, gaussian(20)) == scores(alone("zscore"), gaussian(20))
    assert len(pipeline.run(pipeline.sources(), points([1.0]))) == 1
