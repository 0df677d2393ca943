"""A campaign that did not do what was planned, or found something, is a failure. No broker."""

from collections import Counter
from types import SimpleNamespace

import pytest
from chaos import report
from chaos.faults import Tally, last_words

from app.stream.failpoints import NAMES

PLANNED = Counter({"kills": 40, "failpoints": 30, "zombies": 3, "cuts": 10})


def done(**changes):
    tally = Tally(
        records=10_000,
        counts=Counter({"results": 12_000, "letters": 100, "episodes": 50, "episodes changed": 9, "states": 100}),
        faults=Counter(PLANNED),
        failpoints=Counter(dict.fromkeys(NAMES, 2)),
        modes=Counter({"drop": 4, "delay": 3, "half_open": 3}),
        inside_a_batch=20,
        replays=30,
        repeated=4,
        backs=[2.5, 4.0],
    )
    vars(tally).update(changes)
    return tally


def failures(tally):
    return report.failures(tally, PLANNED, Counter(dict.fromkeys(NAMES, 2)), 10_000)


def test_a_campaign_as_planned_is_none():
    assert failures(done()) == []


def test_what_did_not_happen_or_was_found_is_told():
    for changes, words in (
        ({"faults": PLANNED - Counter({"kills": 1})}, "kills: 39 of 40"),
        ({"failpoints": Counter(dict.fromkeys(NAMES[1:], 2))}, "computed: reached 0 of 2"),
        ({"modes": Counter({"drop": 5, "delay": 5})}, "the network never failed by half_open"),
        ({"inside_a_batch": 1}, "takeovers inside a batch: 1"),
        ({"records": 9_999}, "records: 9,999"),
        ({"counts": done().counts - Counter({"episodes changed": 8})}, "episodes that changed: 1, expected 2"),
        ({"kept": 8, "moved": 1}, "in another generation of the group: 1"),
        ({"wrong": {"round 3": {"results missing": ["1 in all", "raw:0:5:0"]}}}, "raw:0:5:0"),
    ):
        [failure] = failures(done(**changes))
        assert words in failure


def test_the_table_counts_losses_repeats_and_differences_apart():
    tally = done(found=Counter({"results missing": 2, "letters missing": 1, "states wrong": 3, "results repeated": 5}))
    lines = report.text(tally, {"a": True, "b": False}, 2.0, 600.0, "a machine").splitlines()
    heads, _, values = [line for line in lines if "|" in line][-3:]
    row = dict(zip(map(str.strip, heads.split("|")), map(str.strip, values.split("|"))))
    assert (row["lost"], row["repeated"], row["conflicting"], row["state differences"]) == ("3", "9", "0", "3")
    assert "caught: 1 of 2" in lines[-1] and "4.0 s (worst of 2)" in lines[-1]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("[^Worker]: Ready\n[2026-11-22 02:03:25,781] [82] [CRITICAL] stopping without a commit: [b:1] is gone [111] ",
         "stopping without a commit: [b:1] is gone [111] "),
        ("faust-anomaly: Kafka at b:1: no broker", "faust-anomaly: Kafka at b:1: no broker"),
        ("[2026-11-22 02:03:25,781] [82] [INFO] [^Worker]: Ready", "nothing said"),
    ],
)  # fmt: skip
def test_why_a_worker_ended_is_told_whole(said, words):
    assert last_words(SimpleNamespace(said=said)) == words
