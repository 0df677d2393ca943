"""Numbers drawn from a seed: constants of the parameters, the same on every machine and Python.

Python promises that of ``random.Random(seed).random()`` and of nothing else in that module, so nothing else is used.
"""

import random


def seeded_uniform(seed: int, count: int) -> list[float]:
    """So many numbers, uniform over [0, 1), by Python's generator (Mersenne Twister) begun with this seed."""
    draw = random.Random(seed).random
    return [draw() for _ in range(count)]
