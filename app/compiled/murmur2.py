"""The partition that Kafka's own clients choose for a key: Murmur2 hash modulo the number of partitions, compiled.

tests/unit/compiled/test_murmur2.py compares with aiokafka's, which takes 5 us a key.
"""

import numpy as np

from app.compiled.byte_columns import Column, wide
from app.compiled.jit import compiled

SEED, MIX = 0x9747B28C, 0x5BD1E995  # of org.apache.kafka.common.utils.Utils.murmur2
WORD = 0xFFFFFFFF


def partitions(keys: Column, count: int) -> np.ndarray:
    """i8[n]: the partition of each key, of so many."""
    found = np.empty(len(keys.ends), np.int64)
    _place(wide(keys.data), keys.ends, count, found)
    return found


def _mixed(word):
    word = word * MIX & WORD
    return (word ^ word >> 24) * MIX & WORD


@compiled
def _place(data, ends, count, found):
    start = 0
    for n in range(len(ends)):
        end = ends[n]
        value = SEED ^ end - start
        i = start
        while i + 4 <= end:
            word = data[i] | data[i + 1] << 8 | data[i + 2] << 16 | data[i + 3] << 24
            value = value * MIX & WORD ^ _mixed(word)
            i += 4
        rest = 0
        for k in range(end - 1, i - 1, -1):
            rest = rest << 8 | data[k]
        if i < end:
            value = (value ^ rest) * MIX & WORD
        value = (value ^ value >> 13) * MIX & WORD
        found[n] = ((value ^ value >> 15) & 0x7FFFFFFF) % count
        start = end
