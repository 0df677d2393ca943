"""Kafka's default place of a key, as aiokafka's Python has it."""

import random

from aiokafka.partitioner import DefaultPartitioner

from app.compiled.byte_columns import Column
from app.compiled.murmur2 import partitions


def test_keys_go_where_kafkas_clients_put_them():
    draw = random.Random(1)
    keys = [b"", b"\xff" * 7, "Pumpe ä→".encode(), *(draw.randbytes(draw.randrange(40)) for _ in range(2000))]
    for count in (1, 4, 7, 200):
        numbers = list(range(count))
        expected = [DefaultPartitioner()(key, numbers, numbers) for key in keys]
        assert partitions(Column.of(keys), count).tolist() == expected


def test_no_keys():
    assert partitions(Column.of([]), 4).tolist() == []
