"""The detector that docs/detector.md shows is one: it keeps every law."""

import importlib
import re
from itertools import product
from pathlib import Path

import pytest
from contract import test_detector_laws as laws
from contract.test_kernel_lint import faults
from points import alone, gaussian, scores

from app import detectors

PAGE = Path(__file__).parents[2] / "docs" / "detector.md"
[SHOWN] = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)


@pytest.fixture(scope="module", autouse=True)
def envelope(tmp_path_factory):
    """The file, where settings find it."""
    directory = tmp_path_factory.mktemp("detectors")
    (directory / "envelope.py").write_text(SHOWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(directory)
        patch.setattr(detectors, "KERNELS", dict(detectors.KERNELS))
        detectors.register(importlib.import_module("envelope"))
        yield


def every_law():
    """(law, arguments) as pytest would run them over this detector."""
    for name, law in vars(laws).items():
        marks = [mark for mark in getattr(law, "pytestmark", []) if mark.name == "parametrize"]
        if name.startswith("test_") and any(mark.args[0] == "method" for mark in marks):
            others = [(mark.args[0], mark.args[1]) for mark in marks if mark.args[0] != "method"]
            for values in product(*(values for _, values in others)):
                yield name, law, dict(zip((argument for argument, _ in others), values))


LAWS = list(every_law())


@pytest.mark.parametrize(
    ("law", "given"), [law[1:] for law in LAWS], ids=[f"{name}{[*given.values()]}" for name, _, given in LAWS]
)
def test_it_keeps_the_law(law, given):
    law(method="envelope", **given)


def test_there_are_laws_to_keep():
    assert len({name for name, _, _ in LAWS}) >= 12


def test_its_lines_may_be_compiled():
    assert list(faults(SHOWN, {"app.detectors.api"})) == []


def test_it_scores_beyond_the_envelope_only():
    """By a plain loop over the series."""
    values = [*gaussian(400), 99.0, *gaussian(300, seed=3), -50.0]
    low = high = values[0]
    share = 0.5 - 0.5 * 0.5 ** (1 / 500)
    raw = []
    for x in values:
        width = high - low
        raw.append(max(0.0, x - high, low - x) / width if width else 0.0)
        low, high = min(x, low + share * width), max(x, high - share * width)
    found = scores(alone("envelope"), values)
    assert found[30:] == pytest.approx([z / (z + 0.25) for z in raw[30:]], abs=2e-6)
    assert found[400] > 0.9 and found[-1] > 0.5
