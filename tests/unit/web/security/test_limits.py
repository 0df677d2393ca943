"""Rates and connections."""

from app.web.security.limits import Rate, excess


def test_a_rate_lets_a_burst_through_and_then_one_after_the_other():
    now = 100.0
    rate = Rate(10, 60.0, clock=lambda: now)
    assert [rate.take("a") for _ in range(11)] == [0.0] * 10 + [6.0]
    assert rate.take("b") == 0.0
    now = 106.0
    assert rate.take("a") == 0.0 and rate.take("a") == 6.0
    now = 1_000.0
    assert [rate.take("a") for _ in range(11)] == [0.0] * 10 + [6.0]


def test_waiting_takes_nothing():
    rate = Rate(1, 60.0, clock=lambda: 0.0)
    assert rate.wait("a") == rate.wait("a") == 0.0
    rate.take("a")
    assert rate.wait("a") == 60.0


def test_of_many_keys_the_longest_unused_are_forgotten():
    rate = Rate(1, 60.0, keys=100, clock=lambda: 0.0)
    for key in range(1_000):
        rate.take(str(key))
    assert len(rate._free_at) == 100 and rate.wait("999") == 60.0 and rate.wait("0") == 0.0


class Connection:
    def __init__(self, address, name):
        self.address, self.name = address, name

    def get_extra_info(self, what):
        return (self.address, 1)


def names(transports):
    return [transport.name for transport in transports]


def test_the_oldest_of_one_address_and_then_of_all_are_cut():
    opened = (
        [Connection("10.0.0.1", n) for n in range(5)] + [None] + [Connection(f"10.0.1.{n}", 10 + n) for n in range(5)]
    )
    of_one, of_all = excess(opened, 6, 3, lambda address: False)
    assert (names(of_one), names(of_all)) == ([0, 1], [2, 3])
    of_one, of_all = excess(opened, 6, 3, lambda address: address == "10.0.0.1")
    assert (names(of_one), names(of_all)) == ([], [0, 1, 2, 3])


def test_addresses_of_one_ipv6_network_count_together():
    opened = [Connection(f"2001:db8::{n:x}", n) for n in range(5)]
    assert names(excess(opened, 100, 3, lambda address: False)[0]) == [0, 1]
