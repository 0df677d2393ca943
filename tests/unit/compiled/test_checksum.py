import random
from zlib import crc32

import numpy as np
import pytest
from aiokafka.record.util import calc_crc32c

from app.compiled import checksum
from app.compiled.checksum import CRC32, CRC32C, tables
from app.compiled.jit import compiled

crc = compiled(checksum.crc)


@pytest.mark.parametrize(("polynomial", "known"), [(CRC32, crc32), (CRC32C, calc_crc32c)])
def test_checksums_are_those_of_zlib_and_aiokafka(polynomial, known):
    draw = random.Random(polynomial)
    data = draw.randbytes(5000)
    columns, made = np.frombuffer(data, np.uint8), tables(polynomial)
    for size in [*range(40), *draw.sample(range(5000), 40)]:
        start = draw.randrange(5000 - size)
        assert crc(made, columns, start, start + size) == known(data[start : start + size])


@pytest.mark.parametrize(("polynomial", "check"), [(CRC32, 0xCBF43926), (CRC32C, 0xE3069283)])
def test_they_are_those_of_the_catalogues_too(polynomial, check):
    """The value "check" of a CRC in Rocksoft's model is that of the nine digits."""
    assert crc(tables(polynomial), np.frombuffer(b"123456789", np.uint8), 0, 9) == check
