"""The largest state a source can have, against the topic that keeps it: refused at start, or it works."""

import json

from integration import load, logs
from integration.run import Run
from support import kafka_tools

from app.kafka import topics
from app.pipeline import Pipeline
from app.state import series

METRICS, POINTS = 25, 4096
SECTIONS = {"detection": {"method": "zscore", "window_points": POINTS}, "input": {"max_metrics": METRICS}}
SOURCE = "s" * series.MAX_SOURCE_BYTES


def vector(i):
    """A point with as many metrics as are allowed, with names as long as are allowed."""
    values = {f"{m:0{series.MAX_METRIC_BYTES}}": float(i % 5 + m + 1) for m in range(METRICS)}
    return 0, SOURCE.encode(), json.dumps({"source": SOURCE, "timestamp": 1.7e9 + i, "values": values}).encode()


def test_state_too_large_for_its_topic_is_refused_and_the_largest_that_fits_is_saved_and_recovered(job, tmp_path):
    with Run(job, tmp_path, **SECTIONS) as run:
        kafka, settings = run.kafka, run.settings
        largest = Pipeline(settings.detection, settings.sources, METRICS).max_snapshot_bytes()
        assert 1_000_000 < largest < topics.KAFKA_MESSAGE_BYTES
        needed = largest + topics.MESSAGE_OVERHEAD
        changelog = {"cleanup_policy": "compact", "max_message_bytes": str(needed - 1)}
        kafka_tools.create_topic(job.servers, kafka.changelog_topic, 1, **changelog)
        run.make_topics(1)
        worker = run.start()
        assert worker.wait() == 2, worker.said
        for part in (
            f"topic {kafka.changelog_topic}: max.message.bytes must be {needed} or more",
            f"but is {needed - 1}",
            f"--add-config max.message.bytes={needed}",
            "or lower input.max_metrics or detection.window_points",
        ):
            assert part in worker.said
        assert logs.committed(kafka) == {}, "it never joined"

        changelog["max_message_bytes"] = str(needed)
        kafka_tools.set_configs(job.servers, kafka.changelog_topic, **changelog)
        run.start()
        load.produce(kafka.bootstrap_servers, kafka.input_topic, [vector(i) for i in range(POINTS)])
        run.until_saved()
        [saved] = logs.records(kafka, kafka.changelog_topic)
        assert 0.97 * largest < max(len(record.value) for record in saved) < largest, "windows are full"
        run.workers[-1].kill()
        worker = run.start().until_ready()
        recovered = (0, 1, POINTS, POINTS, POINTS - 1, worker.recoveries[0][-1])
        assert worker.recoveries == [recovered], "recovered, nothing replayed"
        load.produce(kafka.bootstrap_servers, kafka.input_topic, [vector(i) for i in range(POINTS, POINTS + 40)])
        run.until_saved()
        assert run.check().faults == {}
