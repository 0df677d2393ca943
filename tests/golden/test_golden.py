"""State written by released programs: read, gone on with, and not changed by accident.

The files are written by ``python -m tests.golden`` and by nothing else. Those of this release must be what this
program writes, byte for byte; those of older ones must load, or be refused by the name of their format.
"""

import json
import re
import struct
from dataclasses import replace
from zlib import crc32

import pytest

from app import detectors
from app.errors import StateError
from app.pipeline import Pipeline
from app.scoring import calibration
from app.state import snapshot
from tests.golden import __main__ as command
from tests.golden import cases
from tests.golden.cases import AFTER, CASES, Half, pipeline
from tests.golden.files import HERE, NOW, made, paths

every_case = pytest.mark.parametrize("name", CASES)
ENGINES = pytest.mark.parametrize("engine", ["numba", "python"])
EVERY_FILE = sorted(HERE.glob("*/*.snapshot"))
HOW = "if that is meant, raise the version of what changed and run `python -m tests.golden`"


def stored(name):
    return tuple(path.read_bytes() for path in paths(name))


def test_every_detector_has_a_golden_file_and_no_file_is_left_over():
    kept = {member.method or name for case in CASES.values() for name, member in case.detection.detectors.items()}
    assert kept >= set(detectors.KERNELS) | {"StandardAbsoluteDeviation", "GaussianScorer", "HalfSpaceTrees"}
    assert {path.name for path in NOW.iterdir()} == {path.name for name in CASES for path in paths(name)}


@every_case
@ENGINES
def test_it_loads_and_scores_on_as_an_uninterrupted_run(name, engine):
    data, results = stored(name)
    before, end = CASES[name].before, CASES[name].before + AFTER
    whole, restored = Half(name, engine), Half(name, engine, data)
    whole.run(0, before)
    assert whole.saved() == data, HOW
    assert restored.run(before, end) == whole.run(before, end) == results, HOW
    assert restored.saved() == whole.saved()
    assert b'"status":"ok"' in results or name == "one-point"


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_state_of_every_release_loads_or_is_refused_by_its_format(path):
    data = path.read_bytes()
    sources = pipeline(path.stem).sources()
    if int.from_bytes(data[4:6], "little") in snapshot.READ:
        slot, offset = snapshot.loads(sources, data)
        assert snapshot.peek(data) == (sources.names[slot], offset)
    else:
        with pytest.raises(StateError, match=r"snapshot of format \d+: this release reads format"):
            snapshot.loads(sources, data)


BEFORE = (
    HERE / "0.1.0-source-4"
)  # as this release wrote them before the row of a source had ``told``, ``met``, ``arrived``, ``gap``


@pytest.mark.parametrize("name", sorted({path.stem for path in BEFORE.iterdir()}))
@ENGINES
def test_state_of_the_version_before_goes_on_as_if_it_were_of_this_one(name, engine):
    data, results = (path.read_bytes() for path in paths(name, BEFORE))
    before, end = CASES[name].before, CASES[name].before + AFTER
    restored, present = Half(name, engine, data), Half(name, engine, stored(name)[0])
    assert not restored.sources.reset_sections and len(data) == len(stored(name)[0]) - 32
    assert restored.sources.rows.get(0, "told") == 0.0 and restored.sources.open == present.sources.open
    assert restored.run(before, end) == results


def snapshot_of(name):
    """The source's own row."""
    return Half(name, "numba", stored(name)[0]).sources.rows.data[0]


def test_the_files_hold_what_a_source_can_be_in():
    results = {name: [json.loads(line) for line in stored(name)[1].splitlines()] for name in CASES}
    assert snapshot_of("open-episode")["open"] == snapshot_of("several-metrics")["open"] == 1
    assert any("episode" in result for result in results["default"])
    assert any(len(result.get("values", {})) == 3 for result in results["several-metrics"])
    assert results["one-point"][0]["status"] == "warming_up"


# Nobody changes them by accident


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """The command writes here; first, all there is."""
    monkeypatch.setattr(command, "NOW", tmp_path)
    monkeypatch.setattr(command, "paths", lambda name: paths(name, tmp_path))
    monkeypatch.setattr(command, "CASES", {name: CASES[name] for name in ("default", "zscore")})
    assert command.main() == 0
    return tmp_path


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_command_writes_what_is_stored_and_nothing_twice(elsewhere, capsys):
    assert contents(elsewhere) == {path.name: path.read_bytes() for n in ("default", "zscore") for path in paths(n)}
    capsys.readouterr()
    assert command.main() == 0 and capsys.readouterr().out == ""


def rechecked(data):
    """The bytes with a checksum that is right again."""
    return data[:-4] + struct.pack("<I", crc32(data[:-4]))


def flipped(data, at):
    return rechecked(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


CALIBRATION = struct.calcsize("<I") + 1  # the last bytes of zscore's row, before the checksum
UNVERSIONED = {
    "state": (lambda data, results: (flipped(data, -CALIBRATION), results), "'detector:zscore'.* raise its VERSION"),
    "covered offset": (lambda data, results: (flipped(data, 12), results), "the case' has changed"),
    "layout": (lambda data, results: (rechecked(longer(data)), results), "raise FORMAT"),
    "results": (lambda data, results: (data, results.replace(b"0.", b"1.", 1)), "results have changed"),
}


def longer(data):
    """A byte more before the checksum, and a head that knows."""
    return data[:8] + struct.pack("<I", len(data) + 1) + data[12:-4] + b"x" + data[-4:]


@pytest.mark.parametrize("what", UNVERSIONED)
def test_a_change_without_another_version_is_refused_and_the_file_stays(what, monkeypatch, elsewhere, capsys):
    change, reason = UNVERSIONED[what]
    changed = change(*made("zscore"))
    assert changed != made("zscore")
    before = contents(elsewhere)
    monkeypatch.setattr(command, "made", lambda name: changed if name == "zscore" else made(name))
    assert command.main() == 1
    assert re.search(f"zscore: refused: .*{reason}", capsys.readouterr().err)
    assert contents(elsewhere) == before


def test_a_raised_version_may_be_written(monkeypatch, elsewhere):
    newer = replace(detectors.KERNELS["zscore"], version=2)
    monkeypatch.setitem(detectors.KERNELS, "zscore", newer)
    monkeypatch.setattr(cases, "pipeline", lambda name, engine: Pipeline(CASES[name].detection, engine=engine))
    before = contents(elsewhere)
    assert command.main() == 0
    assert {name for name, data in contents(elsewhere).items() if data != before[name]} == {
        path.name for path in paths("zscore")
    }


def test_a_raised_format_may_be_written(monkeypatch, elsewhere):
    monkeypatch.setattr(snapshot, "FORMAT", snapshot.FORMAT + 1)
    before = contents(elsewhere)
    assert command.main() == 0
    changed = contents(elsewhere)
    assert all((data != before[name]) == name.endswith(".snapshot") for name, data in changed.items())


def test_state_that_is_computed_otherwise_is_noticed(monkeypatch):
    """The negative control: another constant in the calibration, and no other version."""
    monkeypatch.setattr(calibration, "SHORTEST", 0.05)
    whole = Half("default", "python")
    whole.run(0, CASES["default"].before)
    assert whole.saved() != stored("default")[0]
