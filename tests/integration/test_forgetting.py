"""Sources that fall silent leave memory and changelog, and a kill -9 anywhere around that shows in nothing."""

import json
import random
from collections import Counter
from functools import partial

from integration import load, logs
from integration.run import PARTITIONS, Run
from integration.workers import wait_for

AFTER = 1000  # records of a partition
STATE = {"forget_after_records": AFTER, "replay_records": 1000, "snapshot_every": 16, "max_sources": 26}


def churning(rng: random.Random, first: int, count: int) -> list[tuple[int, bytes, bytes]]:
    """Records of sources that speak for a while and then never again, beside one that stays and one that returns."""
    made = []
    for i in range(first, first + count):
        name = "stays" if i % 50 == 0 else "returns" if i in (first, first + 1) else f"{i // 400}-{rng.randrange(8)}"
        value = 400.0 if rng.random() < (0.2 if i % 400 > 380 else 0.01) else rng.gauss(50, 2)  # some end in an episode
        made.append((1, name.encode(), json.dumps({"source": name, "timestamp": 1.7e9 + i, "value": value}).encode()))
    return made


def test_silent_sources_are_dropped_and_return_as_new_whatever_is_killed_meanwhile(job, tmp_path):
    rng = random.Random(5)
    with Run(job, tmp_path, state=STATE) as run:
        run.make_topics()
        servers, topic = run.kafka.bootstrap_servers, run.kafka.input_topic
        worker, sent, forgotten, most = run.start().until_ready(), 0, 0.0, 0.0
        for _ in range(2):
            for _ in range(4):
                load.produce(servers, topic, churning(rng, sent, 1000))
                sent += 1000
                run.until_done()
                most = max(most, worker.metric("sources_active"))
            dropped = partial(worker.metric, "sources_forgotten_total")
            wait_for(lambda count=dropped: count() > 20)
            forgotten += dropped()
            worker.kill()
            worker = run.start().until_ready()
        run.until_saved()
        report = run.check()
        assert report.faults == {}
        assert report.counts["states"] >= 2 and report.counts["episodes"] > 10
        assert 100 < report.counts["letters"] < 6000, "of sources beyond max_sources, and of no others"
        found = logs.read(run.kafka)
        [changelog] = [partition for partition in found.changelog if partition]
        latest = {record.key: record.value for record in changelog}
        live = Counter(key[:-9] for key, value in latest.items() if value is not None)
        dead = {key[:-9] for key, value in latest.items() if value is None} - live.keys()
        assert len(dead) > 40 and len(live) < 110 and live[b"stays"] == live[b"returns"] == 1
        closed = [json.loads(r.value) for r in found.episodes[1 % len(found.episodes)] if b'"closed"' in r.value]
        assert sum(event.get("reason") == "silence" for event in closed) > 0
        print(f"\n{sent} records, {forgotten:.0f} sources forgotten, at most {most:.0f} held, {dict(report.counts)}")
        assert forgotten > 40 and most < 110, "of 160 that there were"
        worker.term()
        assert worker.code == 0
    assert PARTITIONS > 1
