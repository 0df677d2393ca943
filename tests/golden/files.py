"""Where the golden files are, and when they may be written anew."""

import json
from pathlib import Path

from app import __version__
from app.errors import StateError
from app.state import snapshot
from tests.golden.cases import AFTER, CASES, Half

HERE = Path(__file__).parent
NOW = HERE / __version__


class Unversioned(Exception):
    """State or results have changed, and what says what they are has not."""


def made(name: str) -> tuple[bytes, bytes]:
    """The snapshot of a case as this program writes it, and the results after it."""
    whole = Half(name)
    before = CASES[name].before
    whole.run(0, before)
    return whole.saved(), whole.run(before, before + AFTER)


def paths(name: str, directory: Path = NOW) -> tuple[Path, Path]:
    return directory / f"{name}.snapshot", directory / f"{name}.results"


def check(old: tuple[bytes, bytes], new: tuple[bytes, bytes]) -> None:
    """Raise Unversioned where new files cannot take the place of the old ones."""
    if old[0][:6] == new[0][:6]:  # magic and format
        try:
            before, after = parts(old[0]), parts(new[0])
        except StateError as error:
            raise Unversioned(f"the layout has changed ({error}): raise FORMAT in app/state/snapshot.py") from error
        for place in before.keys() & after.keys():
            if before[place] != after[place]:
                raise Unversioned(f"{place[1]!r} has changed: raise its VERSION")
        if before == after and old[0] != new[0]:
            raise Unversioned("the layout has changed: raise FORMAT in app/state/snapshot.py")
    if old[1] != new[1] and config_hash(old[1]) == config_hash(new[1]):
        raise Unversioned("results have changed: raise VERSION in app/scoring/profile.py, or that of the detector")


def config_hash(results: bytes) -> str:
    return json.loads(results.splitlines()[-1])["config_hash"]


def parts(data: bytes) -> dict[tuple, bytes]:
    """(metric, section, version, digest..) -> its bytes, and those of its model."""
    name, offset, metrics, reader = snapshot._opened(data)
    own, *stored = snapshot._sections(reader)
    found = {("", *own): reader.take(own.length), ("", "the case"): b"%s %d" % (name.encode(), offset)}
    for _ in range(metrics):
        metric = reader.text()
        rows = snapshot.stored_parts(stored, reader)
        models = [reader.take(*reader.unpack(snapshot._MODEL)) if section.model else b"" for section in stored]
        found |= {(metric, *section): row + model for section, row, model in zip(stored, rows, models)}
    if data[4] == snapshot.PAIRED:
        version, _, rows = snapshot.stored_pairs(reader)
        found["", snapshot.PAIRS, version] = b"".join(rows)
    reader.end()
    return found
