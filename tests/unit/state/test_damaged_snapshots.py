"""Damaged snapshots: every one is refused, by StateError and nothing else, before any of it is used.

Over golden files, so over every detector's state, River's too, and a large one. CRC-32 finds every single bit, and
every burst of up to 32; of other damage it lets 1 in 4 billion pass.
"""

import random
import struct
from functools import cache

import pytest
from support.points import Pipeline, detection, vectors

from app.errors import StateError
from app.state import snapshot
from tests.golden.cases import CASES, pipeline
from tests.golden.files import paths

SINGLE, OTHER = 20_000, 4_000  # damaged snapshots


@cache
def corpus():
    """(snapshot, a pipeline of its settings)"""
    found = [(paths(name)[0].read_bytes(), pipeline(name)) for name in CASES]
    large = Pipeline(detection("zscore", window_points=300))
    sources = large.sources()
    large.run(sources, vectors([{f"m{i}": float(k) for i in range(16)} for k in range(9)]))
    return [*found, (snapshot.dumps(sources, 0, 9), large)]


def undetected(damaged):
    """Of (bytes, pipeline), how many loaded, or failed in another way than by StateError; nothing may have changed."""
    passed, count = [], 0
    for data, of in damaged:
        count += 1
        sources = of.sources()
        try:
            snapshot.loads(sources, data)
        except StateError:
            assert not len(sources)
            continue
        except Exception as error:  # noqa: BLE001 - counted as what it is: not refused
            passed.append(error)
            continue
        passed.append(data)
    return count, passed


def flipped(data, bits):
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flips(count, bits=1, chosen=None):
    """Snapshots with so many bits flipped, each bit of the corpus as likely as any other."""
    rng = random.Random(5)
    known = chosen or corpus()
    sizes = [len(data) for data, _ in known]
    for data, of in rng.choices(known, sizes, k=count):
        yield flipped(data, rng.sample(range(8 * len(data)), bits)), of


def bursts(count):
    """Zeroed, overwritten, doubled, moved or lost stretches."""
    rng = random.Random(6)
    for data, of in rng.choices(corpus(), k=count):
        start, end = sorted(rng.sample(range(len(data)), 2))
        part, rest = data[start:end], data[end:]
        changed = rng.choice([bytes(len(part)), rng.randbytes(len(part)), part + part, b"", part[::-1]])
        if data[:start] + changed + rest != data:
            yield data[:start] + changed + rest, of


def cuts():
    """Every length but the right one, and more at the end."""
    for data, of in corpus()[:3]:
        yield from ((data[:size], of) for size in range(len(data)))
        yield from ((data + bytes(size), of) for size in range(1, 64))
        yield data + data, of


def mixtures():
    """Heads of some with tails of others."""
    known = corpus()
    for data, of in known:
        for other, _ in known:
            for at in (20, 100, 300):
                if data[:at] + other[at:] not in (data, other):
                    yield data[:at] + other[at:], of


def test_no_flipped_bit_goes_unseen():
    assert undetected(flips(SINGLE)) == (SINGLE, [])


@pytest.mark.parametrize("bits", [2, 3, 8, 200])
def test_nor_do_several(bits):
    assert undetected(flips(OTHER, bits)) == (OTHER, [])


@pytest.mark.parametrize(("damage", "least"), [(lambda: bursts(OTHER), 3_800), (cuts, 3_000), (mixtures, 400)])
def test_nor_does_any_other_damage(damage, least):
    count, passed = undetected(damage())
    assert count > least and passed == []


def test_undamaged_ones_load():
    count, passed = undetected(corpus())
    assert len(passed) == count == len(CASES) + 1


def test_without_the_checksum_damage_is_taken_for_state(monkeypatch):
    """The negative control: the same flips, and a checksum that always agrees. Kernels only: River's Rust trusts it."""
    known = [one for one in corpus() if not one[1].profiles[0].adapters]
    monkeypatch.setattr(snapshot, "crc32", lambda checked: struct.unpack("<I", checked.obj[-4:])[0])
    count, passed = undetected(flips(2_000, chosen=known))
    assert len(passed) > count / 2
