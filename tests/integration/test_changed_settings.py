"""Settings changed by a rolling restart: workers of both in one group, and back again.

A partition's results say by their config_hash under which settings each was made. So the oracle knows where a partition
went from one to the other, and hands the state over there as a snapshot does it.
"""

import itertools
import json

from integration import load, logs, oracle
from integration.run import SECTIONS, Run

from app.pipeline import Pipeline
from app.state import snapshot
from app.state.series import shown

PARTITIONS = 4
BEFORE = {"detectors": {"residual": {}, "StandardAbsoluteDeviation": {}, "moving_average": {}}}
AFTER = {
    # Another threshold, of a detector and of all; a detector more, and one less.
    "detectors": {"residual": {"threshold": 5.0}, "StandardAbsoluteDeviation": {}, "level": {}},
    "threshold": 0.7,
}


def expected(runs, found):
    """What each partition must give, by the settings that its results name; and how often these changed."""
    of_hash = {}
    for run in runs:
        pipeline = Pipeline.of(run.settings)
        [profile] = pipeline.profiles
        of_hash[profile.config_hash] = run.settings, pipeline
    made, changes = [], 0
    for number, (raw, results) in enumerate(zip(found.raw, found.results, strict=True)):
        said = [json.loads(record.value) for record in results]
        spans = [
            (config_hash, int(next(of)["id"].split(":")[-2]))
            for config_hash, of in itertools.groupby(said, key=lambda result: result["config_hash"])
        ]
        changes += len(spans) - 1
        begins = [0, *(first for _, first in spans[1:]), 1 << 60]
        whole, stored = None, {}  # series -> its snapshot, and the part of its last points
        for (config_hash, _), begin, end in zip(spans, begins, begins[1:]):
            settings, pipeline = of_hash[config_hash]
            handed = pipeline.sources()
            for saved, _ in stored.values():
                snapshot.loads(handed, saved)
            records = [record for record in raw if begin <= record.offset < end]
            part = oracle._fold(settings, pipeline, number, True, records, handed)
            slots = {name: part.sources.slots[name] for name in part.last}
            stored |= {
                name: (snapshot.dumps(part.sources, slot, part.last[name]), part) for name, slot in slots.items()
            }
            if whole is not None:
                part.results = whole.results | part.results
                part.letters = whole.letters | part.letters
                part.episodes = whole.episodes | part.episodes
                part.last = whole.last | part.last
            whole = part
        made.append((whole, {name: part.sources for name, (_, part) in stored.items() if part is not whole}))
    return made, changes


def quiet_as_saved(sources, changelog):
    """Of series without a point under the last settings the last snapshot is as it was written under earlier ones."""
    for name, of in sources.items():
        found = [record.value for record in changelog if record.value and snapshot.peek(record.value)[0] == name]
        last = max(found, key=lambda data: snapshot.peek(data)[1])
        assert last == snapshot.dumps(of, of.slots[name], snapshot.peek(last)[1])


def test_each_point_is_scored_once_by_the_settings_of_its_worker_and_state_goes_both_ways(job, tmp_path):
    (tmp_path / "after").mkdir()
    records = load.records(seed=11, sources=60)
    with Run(job, tmp_path, detection=BEFORE) as old, Run(job, tmp_path / "after", detection=AFTER) as new:
        old.make_topics(PARTITIONS)

        def scored(count):
            made = [(load.partition_of(key, PARTITIONS), key, value) for key, value in itertools.islice(records, count)]
            load.produce(old.kafka.bootstrap_servers, old.kafka.input_topic, made)
            old.until_saved()

        first = old.start()
        scored(1500)
        other = new.start().until_ready()
        scored(1500)  # by both
        first.term()
        scored(1000)  # by new settings alone
        again = old.start().until_ready()
        scored(1000)  # by both
        other.term()
        scored(1000)  # by old settings alone
        again.term()
        assert [worker.code for worker in (first, other, again)] == [0, 0, 0]
        assert "residual is reset" not in other.said and "level is reset in" in other.said
        found = logs.read(old.kafka)
        want, changes = expected([old, new], found)
        report = oracle.check([whole for whole, _ in want], found)
        quiet = {shown(name) for _, of in want for name in of}
        assert set(report.pop("states wrong", [])) <= quiet
        for (_, of), changelog in zip(want, found.changelog, strict=True):
            quiet_as_saved(of, changelog)
        assert report.faults == {} and report.counts["results"] > 5500
        assert changes >= PARTITIONS * 2
    assert SECTIONS["state"]["idle_snapshot_s"] < 1.0  # so that nothing was replayed under other settings
