"""Three brokers restarted in turn under load. ``python -m tests.chaos --rolling 10`` does it ten times."""

import logging

import pytest
from chaos.rolling import roll

PER_S = 100


@pytest.mark.timeout(1200)
def test_brokers_are_restarted_in_turn_and_nothing_shows_it(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, "aiokafka")  # our own clients lose brokers, and say so
    rolled = roll(tmp_path, rounds=1, per_s=PER_S)
    print(rolled.text(), rolled.exits)
    assert rolled.restarts == 3 and rolled.failures() == []
