"""What a bad record costs its partition: CPU milliseconds until its dead letters are ready, for records of 1 MB."""

import time

from app.settings import InputSettings
from app.wire.reader import Reader
from tests.bench.point import Record

SIZE = 1_000_000
KEY = b"pump-1"
GOOD = b'{"source":"pump-1","timestamp":1700000000.5,"value":50.25}'


def _list(element: bytes, last: bytes = b"") -> bytes:
    return b",".join([element] * (SIZE // (len(element) + 1)) + ([last] if last else []))


RECORDS = {
    "array of good points (no bad record)": b"[" + _list(GOOD) + b"]",
    "array of 0": b"[" + _list(b"0") + b"]",
    "array of NaN": b"[" + _list(b"NaN") + b"]",
    "array of points of NaN": b"[" + _list(b'{"source":"pump-1","value":NaN}') + b"]",
    "array of good points, the last one NaN": b"[" + _list(GOOD, b'{"source":"pump-1","value":NaN}') + b"]",
    "array of good points, cut": b"[" + _list(GOOD),
    "numbers in an ignored field, cut": b'{"source":"pump-1","value":1,"x":[' + _list(b"1"),
    "numbers in an ignored field, one NaN": b'{"source":"pump-1","value":1,"x":[' + _list(b"1", b"NaN") + b"]}",
    "brackets": b"[" * SIZE,
    "too many metrics": b'{"source":"pump-1","values":{' + b",".join(b'"m%d":1' % i for i in range(80_000)) + b"}}",
}


def measure_bad() -> list[tuple[str, int, float]]:
    """(what, letters, milliseconds) of each; the fastest of three."""
    reader = Reader(InputSettings(), "raw-data", 0, True)
    found = []
    for name, value in RECORDS.items():
        taken = []
        for _ in range(3):
            begun = time.process_time()
            letters = reader.read([Record(KEY, value, 0)]).dead_letters
            for letter in letters:
                letter.record("raw-data", 0)
            taken.append(time.process_time() - begun)
        found.append((name, len(letters), 1000.0 * min(taken)))
    return found
