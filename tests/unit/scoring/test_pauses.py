"""How long a source usually pauses: learned from when its points arrive, and not from one outage."""

import random
from types import SimpleNamespace

from app.scoring.episodes import DAY, MONTH, pause

START = 1_700_000_000.0


class Source(SimpleNamespace):
    """The fields of a source's row that are of when it sends; ``at`` is the time now."""

    def __init__(self):
        super().__init__(met=START, arrived=START, gap=0.0, at=START)

    def sends(self, *after, times=1):
        for _ in range(times):
            for dt in after:
                self.at += dt
                pause(self, self.at)
        return self


def test_the_longest_usual_pause_is_learned_at_once_while_a_source_is_new():
    assert Source().sends(60.0, 60.0, 75.0, 60.0).gap > 74.9


def test_an_outage_at_most_doubles_it_so_that_the_next_ones_are_noticed():
    source = Source().sends(1.0, times=100_000)
    for before in (1.0, 2.0, 4.0, 8.0, 16.0):
        assert source.gap <= 1.001 * before
        source.sends(3600.0).sends(1.0, times=1000)
    assert source.gap < 100.0


def test_a_slower_rhythm_is_learned_within_some_points():
    source = Source().sends(60.0, times=5000)
    assert source.sends(3600.0, times=7).gap > 3590.0


def test_batches_by_the_hour_are_usual_from_the_second_one_on():
    source = Source()
    for _ in range(3):
        source.sends(0.01, times=200).sends(3598.0)
        assert source.gap > 3590.0


def test_nights_and_weekends_are_usual():
    source = Source()
    unusual = 0
    for day in range(60):
        source.sends(10.0, times=2880)  # from 9 to 17
        night = 16 * 3600.0 + (2 * DAY if day % 7 == 4 else 0.0)
        unusual += night > max(300.0, 3.0 * source.gap) and 4 * 3 * source.gap <= source.at - source.met
        source.sends(night)
    assert unusual <= 2  # the first night, and the first weekend


def test_what_does_not_come_again_is_forgotten_within_a_month():
    source = Source().sends(60.0, 7200.0).sends(60.0, times=43_200)
    assert 60.0 <= source.gap < 0.4 * 7200.0
    assert source.sends(60.0, times=4 * 43_200).gap < 200.0


def test_times_that_run_backwards_or_leap_teach_nothing():
    chance = random.Random(7)
    source, other = Source(), Source()
    for _ in range(5000):
        source.sends(1.0)
        other.at += 1.0
        pause(other, other.at - chance.choice([0.0, 0.0, 600.0]))  # of a second clock, ten minutes behind
    assert other.gap <= 20.0
    before = source.gap
    pause(source, source.at + 50 * MONTH)  # one point of another century
    source.sends(1.0)
    assert source.arrived == source.at and source.met == START and source.gap <= before
