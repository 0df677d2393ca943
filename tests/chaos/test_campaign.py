"""The short campaign: every kind of fault and every failpoint, and nothing shows it afterwards.

``make chaos`` runs the same with some hundred faults. The negative controls of its checker are in test_controls.py.
"""

import logging
from collections import Counter

import pytest
from chaos import report
from chaos.campaign import Campaign
from chaos.cluster import Cluster
from chaos.plan import DETECTIONS, KINDS, MAY_REPEAT, kinds, rounds
from integration.load import SERIES, real_series

from app.stream.failpoints import NAMES, OF_REKEY

SHORT = {
    "kills": 1, "failpoints": len(NAMES), "rekeys": 0, "zombies": 1, "pauses": 1, "terms": 1, "members": 1,
    "brokers": 1, "disks": 1, "cuts": 3,
}  # fmt: skip
RECORDS = 15_000
PER_S = 300.0
SESSION_S = 2.0
BATCHED = {"every_s": 0.1, "fetch_max_wait_ms": 50}  # fewer requests, for which the broker would take half of the CPU


def test_a_plan_has_every_kind_and_every_failpoint_as_often_as_asked():
    assert SHORT.keys() == KINDS.keys()
    for counts, records in (SHORT, RECORDS), (dict.fromkeys(KINDS, 37), 5_000_000):
        plan = rounds(counts, records, seed=3)
        faults = [fault for each in plan for fault in each.faults]
        assert kinds(faults) == Counter(counts)
        reached = Counter(fault.partition(":")[2] for fault in faults if fault.startswith("failpoints:"))
        assert set(reached) == set(NAMES) and max(reached.values()) - min(reached.values()) <= 1
        hop = {fault.partition(":")[2]: each.rekeys for each in plan for fault in each.faults if "rekeys:" in fault}
        assert hop == dict.fromkeys(OF_REKEY if counts["rekeys"] else (), True)
        assert sum(each.records for each in plan) >= records
        assert {each.partitions for each in plan} == {4, 12}
        met = {(each.partitions, DETECTIONS.index(each.detection)) for each in plan}
        assert len(met) == min(len(plan), 2 * len(DETECTIONS))
        assert not [each for each in plan if set(MAY_REPEAT) & set(each.faults) and not each.may_repeat]
        assert rounds(counts, records, seed=3) == plan != rounds(counts, records, seed=4)


@pytest.mark.timeout(1800)
def test_nothing_is_lost_repeated_or_wrong_whatever_fails(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL, "aiokafka")  # our own clients lose the broker, and say so without end
    plan = rounds(SHORT, RECORDS, seed=5)
    with Cluster(tmp_path) as cluster:
        campaign = Campaign(cluster, tmp_path, 5, PER_S, SESSION_S, real_series(*SERIES), **BATCHED)
        for each in plan:
            campaign.play(each)
    tally = campaign.tally
    print(f"\n{tally}\n{report.text(tally, {}, SESSION_S, 0.0, 'this machine')}")
    assert report.failures(tally, Counter(SHORT), Counter(NAMES), RECORDS) == []
    assert tally.inside_a_batch >= 3
    assert set(tally.modes) == {"drop", "delay", "half_open"}
