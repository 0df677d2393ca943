"""Partitions added to raw-data under a running worker: what it says, what the operator does, and what comes of it."""

import json

from click.testing import CliRunner
from integration import load, logs
from integration.run import Run
from support import kafka_tools

from app.cli import main

BEFORE, AFTER = 2, 4


def points(run, partitions, first):
    """50 of each of 12 sources, where a producer that knows so many partitions puts them."""
    made = []
    for i in range(first, first + 50):
        for number in range(12):
            key = f"pump-{number}".encode()
            value = json.dumps({"source": f"pump-{number}", "timestamp": 1.7e9 + i, "value": float(i % 7)}).encode()
            made.append((load.partition_of(key, partitions), key, value))
    load.produce(run.kafka.bootstrap_servers, run.kafka.input_topic, made)


def test_results_and_changelog_follow_and_what_moved_begins_anew(job, tmp_path):
    def command(*options):
        return CliRunner().invoke(main, ["topics", *options, "--config", str(run.config)])

    with Run(job, tmp_path) as run:
        kafka = run.make_topics(BEFORE).kafka
        worker = run.start().until_ready()
        points(run, BEFORE, 0)
        kafka_tools.add_partitions(job.servers, kafka.input_topic, AFTER)
        points(run, AFTER, 50)  # before any worker knows of them
        assert worker.wait() == 70
        assert "add as many" in worker.said and "`faust-anomaly topics --extend`" in worker.said
        refused = command()
        assert refused.exit_code == 2 and refused.stderr.count("`faust-anomaly topics --extend` adds as many") == 2
        extended = command("--extend")
        followed = [kafka.output_topic, kafka.changelog_topic]
        assert extended.exit_code == 0, extended.output
        assert extended.stdout.splitlines()[:2] == [f"added partitions to {name}" for name in followed]
        worker = run.start().until_ready()
        points(run, AFTER, 100)
        run.until_saved()
        assert worker.metric("assigned_partitions") == AFTER
        report = run.check()
        assert report.faults == {} and report.counts["results"] == 3 * 50 * 12
        moved = {record.key for record in logs.records(kafka, kafka.output_topic)[2]}
        assert moved and moved <= {
            record.key for of in logs.records(kafka, kafka.output_topic)[:BEFORE] for record in of
        }
        assert "added" not in command("--extend").stdout
