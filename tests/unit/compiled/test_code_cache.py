"""Where compiled code is kept, who shares it, and that nothing stale or foreign is ever run."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.points import alone, detection, gaussian, points, scores

from app.compiled import code_cache, jit, rows
from app.detectors.support import window
from app.pipeline import Pipeline
from app.scoring import tables

ROOT = Path(__file__).parents[3]


def python(code, cache):
    """Another process with a cache of its own."""
    environ = {**os.environ, "FAUST_ANOMALY_CACHE": str(cache), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    environ["NUMBA_OPT"] = "0"  # what is compiled when is the question here, not how fast it runs
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", COMPILED + code], env=environ, stdout=pipe, stderr=pipe, text=True)


def words(process):
    """What it prints."""
    out, error = process.communicate(timeout=500)
    assert process.returncode == 0, error
    return out.split()


def run_python(code, cache):
    return words(python(code, cache))


# What numba compiles, but not what becomes part of that.
COMPILED = """
from numba.core import event
class Seen(event.Listener):
    depth, names = 0, []
    def on_start(self, found):
        function = found.data["dispatcher"].py_func
        self.names += [f"{function.__module__}.{function.__name__}"] if self.depth == 0 else []
        self.depth += 1
    def on_end(self, found):
        self.depth -= 1
event.register("numba:compile", Seen())
"""
PIPELINES = "from support.points import *; from app.scoring import tables\n"
SMALL = PIPELINES + "small = alone('zscore'); small.compile()\n"
LARGE = PIPELINES + "large = Pipeline(detection('zscore', window_points=300)); large.compile()\n"
AGREE = "print(scores(small, gaussian(90)) == scores(alone('zscore', 'python'), gaussian(90)))\n"
# Three functions that take a tenth of a second each, for what is so whatever is compiled.
NUMBERS = """
from app.compiled import jit, numeric
of = numeric.log, numeric.exp, numeric.whole
print([jit.compiled(one)(0.5) for one in of] == [one(0.5) for one in of])
"""
COUNT = "print(len(Seen.names))\n"
NAMES = "print(*sorted(Seen.names))\n"
PASSES = {"app.scoring.passes.judge", "app.scoring.passes.learn"}
WINDOW = {"app.detectors.support.window.median_and_push", "app.detectors.support.window.newest"}


def of_set(*names):
    """Compiles what these detectors together need."""
    given = ", ".join(f"'{name}': DetectorSettings(method='{name}')" for name in names)
    return f"{PIPELINES}tables.compiled(Pipeline(Detection(window_points=20, detectors={{{given}}})).profiles[0])\n"


def of_detector(name, *functions):
    functions = functions or ("step", "band")
    return {f"app.detectors.{name}.{function}" for function in functions}


def test_a_detector_is_compiled_once_whatever_stands_beside_it(tmp_path):
    zscore, ewma, cusum = of_detector("zscore"), of_detector("ewma"), of_detector("cusum")
    assert set(run_python(of_set("zscore", "ewma") + NAMES, tmp_path)) == zscore | ewma | WINDOW
    assert set(run_python(of_set("cusum", "ewma", "zscore") + NAMES, tmp_path)) == cusum
    assert run_python(of_set("zscore", "cusum") + NAMES, tmp_path) == []


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A cache with what SMALL needs, and the names of what was compiled for it."""
    cache = tmp_path_factory.mktemp("small")
    return cache, run_python(SMALL + NAMES, cache)


def test_the_passes_are_compiled_once_for_all_sets(small, tmp_path):
    cache, first = small
    assert set(first) == PASSES | WINDOW | of_detector("zscore")
    assert len(first) == len(os.listdir(cache)) == 6
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    code = PIPELINES + "Pipeline(detection('iqr', ensemble='max')).compile()\n"
    assert set(run_python(code + NAMES, tmp_path)) == of_detector("iqr")


def test_profiles_that_differ_in_numbers_only_share_their_code():
    ours = Pipeline(detection(window_size=5, threshold_multiplier=2.0)).profiles[0]
    other = Pipeline(detection(window_size=6, weight=9.0, threshold_=0.5)).profiles[0]
    assert tables.needed(ours) == tables.needed(other) != tables.needed(alone("zscore").profiles[0])
    assert tables.compiled(ours).members["step"] == tables.compiled(other).members["step"]


def test_processes_that_need_the_same_code_share_the_work(tmp_path):
    """Two at the same time compile no more than one alone."""
    both = [python(NUMBERS + COUNT, tmp_path) for _ in range(2)]
    (agree, count), (agree_too, count_too) = map(words, both)
    assert agree == agree_too == "True"
    assert int(count) + int(count_too) == len(os.listdir(tmp_path)) == 3


def test_a_process_that_is_killed_while_it_compiles_holds_nobody_up(tmp_path):
    code = "print('compiling', flush=True); import time; Seen.on_start = lambda self, found: time.sleep(600)\n"
    killed = python(code + NUMBERS, tmp_path)
    killed.stdout.readline()
    while not list(tmp_path.glob("*.lock")):
        assert killed.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert run_python(NUMBERS, tmp_path) == ["True"]


def test_code_cached_by_two_processes_stays_apart(small, tmp_path):
    shutil.copytree(small[0], tmp_path, dirs_exist_ok=True)
    run_python(LARGE, tmp_path)
    assert run_python(LARGE + SMALL + AGREE + COUNT, tmp_path) == ["True", "0"]


def test_without_a_writable_place_it_is_compiled_in_memory(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file is no directory")
    assert run_python(NUMBERS + COUNT, blocked) == ["True", "3"]


def test_a_damaged_file_is_compiled_anew(tmp_path):
    run_python(NUMBERS, tmp_path)
    for path in tmp_path.iterdir():
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert run_python(NUMBERS + COUNT, tmp_path) == ["True", "3"]
    assert run_python(NUMBERS + COUNT, tmp_path) == ["True", "0"]


def test_its_name_changes_with_the_source_of_all_that_is_called(monkeypatch):
    step = alone("zscore").profiles[0].kernels[0].detector.step
    called = {one.__module__ for one in code_cache.called_by(step)[0]}
    assert called == {"app.detectors.zscore", "app.detectors.support.window", "app.compiled.numeric"}
    real, content = code_cache.inspect.getsource, code_cache.content.__wrapped__
    first = content(step)
    for name in [*called, "app.compiled.stages"]:
        changed = sys.modules[name]
        monkeypatch.setattr(code_cache.inspect, "getsource", lambda m, c=changed: real(m) + ("#" if m is c else ""))
        assert content(step) != first
    monkeypatch.setattr(code_cache.inspect, "getsource", real)
    assert content(step) == first


def test_its_name_changes_with_the_constants_that_are_called_for(monkeypatch):
    """Also where they were computed from those of another module."""
    from app.state import bulk_restore

    content, function = code_cache.content.__wrapped__, bulk_restore._examine.py_func
    first = content(function)
    monkeypatch.setattr(bulk_restore, "_HEAD_BYTES", bulk_restore._HEAD_BYTES + 1)
    assert content(function) != first


def test_code_is_asked_for_by_its_types():
    from numba import from_dtype
    from numba.core.types import float64

    kinds = [from_dtype(rows.dtype(window.fields(points))) for points in (11, 12)]
    before = [jit.is_kept(window.newest, float64, kind) for kind in kinds]
    assert jit.address(window.newest, float64, kinds[0]) != jit.address(window.newest, float64, kinds[1])
    assert all(jit.is_kept(window.newest, float64, kind) for kind in kinds) and before in ([False] * 2, [True] * 2)


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
    assert code_cache.directory() == tmp_path / expected


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
    aside = row.copy()
    row.inner.h[0] = 9.0
    assert aside.inner.h[0] == 1.0


def test_the_first_run_compiles_when_nobody_did():
    pipeline = Pipeline(detection("zscore", warmup=5))
    assert scores(pipeline, gaussian(20)) == scores(alone("zscore"), gaussian(20))
    assert len(pipeline.run(pipeline.sources(), points([1.0]))) == 1


def doubled(x):
    return x + x


def test_code_that_cannot_be_written_holds_nobody_up(monkeypatch, tmp_path):
    monkeypatch.setenv("FAUST_ANOMALY_CACHE", str(tmp_path))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(code_cache.os, "replace", full)
    assert jit.compiled(doubled)(2.0) == 4.0
    assert not list(tmp_path.glob("*.lock"))


def compiled_as_if_new(function=doubled):
    """By a process that has nothing of it in memory."""
    return jit.compiled(function)


@pytest.fixture
def brought(monkeypatch, tmp_path):
    """A folder with the code of ``doubled``, as an image brings it along; and one, still empty, that can be written."""
    monkeypatch.setattr(code_cache, "_said", set())
    monkeypatch.setenv("FAUST_ANOMALY_CACHE", str(tmp_path / "brought"))
    assert compiled_as_if_new()(2.0) == 4.0
    monkeypatch.setenv("FAUST_ANOMALY_COMPILED", str(tmp_path / "brought"))
    monkeypatch.setenv("FAUST_ANOMALY_CACHE", str(tmp_path / "kept"))
    return tmp_path / "brought", tmp_path / "kept"


def test_code_that_was_brought_along_is_not_compiled_again(brought, caplog):
    before, kept = brought
    assert compiled_as_if_new()(3.0) == 6.0
    assert len(list(before.iterdir())) == 1 and not kept.exists() and not caplog.records


def halved(x):
    return x * 0.5


def for_another_processor(file):
    file.rename(f"{file}0")


def damaged(file):
    file.write_bytes(file.read_bytes()[:-1])


def test_a_file_that_cannot_be_read_is_as_none(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    (tmp_path / "code").touch()
    assert code_cache._read(tmp_path / "code") is None


@pytest.mark.parametrize(
    ("spoilt", "function", "reason"),
    [
        (for_another_processor, doubled, "it is for another processor"),
        (damaged, doubled, f"the file of {__name__}.doubled is damaged"),
        (None, halved, f"it lacks {__name__}.halved as this program and its settings need it"),
        (lambda file: shutil.rmtree(file.parent), doubled, "No such file or directory"),
    ],
)
def test_what_was_brought_along_and_does_not_serve_is_compiled_and_said_once(brought, caplog, spoilt, function, reason):
    caplog.set_level("INFO")
    before, kept = brought
    if spoilt:
        spoilt(*before.iterdir())
    there = {one.name: one.read_bytes() for one in before.glob("*")}
    assert compiled_as_if_new(function)(3.0) == function(3.0)
    assert compiled_as_if_new(function)(3) == function(3)  # types that nobody has seen
    said = [f"compiled code in {before}: {reason}; compiling into {kept}; it is kept there"]
    assert caplog.messages == said
    code_cache._said.clear()
    assert compiled_as_if_new(function)(3.0) == function(3.0)  # a later start, with nothing to compile
    assert caplog.messages == said and len(list(kept.iterdir())) == 2
    assert {one.name: one.read_bytes() for one in before.glob("*")} == there


def test_where_nothing_can_be_kept_each_start_says_so(brought, caplog):
    before, kept = brought
    damaged(*before.iterdir())
    kept.write_text("a file is no directory")
    assert compiled_as_if_new()(3.0) == 6.0
    assert [(one.levelname, one.message.rpartition("; ")[2]) for one in caplog.records] == [
        ("WARNING", "that cannot be written to, so each start compiles")
    ]
