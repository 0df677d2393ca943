from unit.test_assembly import made

from app import assembly
from app.pipeline import Pipeline
from app.results import encode_columns
from app.settings import load
from app.stream import record_batch
from app.stream.warm import warm

KERNELS = [assembly._write, record_batch._frame]


def test_after_warming_nothing_is_left_to_compile():
    warm(Pipeline(load(environ={}).detection))
    before = [set(kernel.signatures) for kernel in KERNELS]
    points, outcome = made(5, 600, detectors={"moving_average": {"warmup": 5}})
    list(record_batch.framed(encode_columns(points, outcome, "raw-data", 3), 10_000, 0))
    list(record_batch.framed(encode_columns(points, outcome, "raw-data", 3, 590), 10_000, 0))
    assert [set(kernel.signatures) for kernel in KERNELS] == before != [set(), set()]
