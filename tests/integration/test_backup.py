"""A copy of a group's state, put back where it came from and before another log: real workers go on, exactly.

Another cluster is another set of topics here. What a worker knows a topic by is its id, its offsets and its name, and
these differ as they do between clusters.
"""

import asyncio
import itertools
import json

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from click.testing import CliRunner
from integration import load, logs, oracle
from integration.run import Run
from support import kafka_tools
from support.jobs import Job

from app.cli import main
from app.pipeline import Pipeline

PARTITIONS = 2
records = load.records(seed=7, sources=40)


def produce(run, count):
    """The next so many."""
    made = [(load.partition_of(key, PARTITIONS), key, value) for key, value in itertools.islice(records, count)]
    load.produce(run.kafka.bootstrap_servers, run.kafka.input_topic, made)


def open_an_episode(run):
    values = [40.0 + i % 7 for i in range(200)] + [400.0] * 3
    of = "pump-opens", load.partition_of(b"pump-opens", PARTITIONS)
    made = [{"source": of[0], "timestamp": load.START + i, "value": value} for i, value in enumerate(values)]
    points = [(of[1], of[0].encode(), json.dumps(point).encode()) for point in made]
    load.produce(run.kafka.bootstrap_servers, run.kafka.input_topic, points)


def command(run, *words):
    return CliRunner().invoke(main, [words[0], "--config", str(run.config), *map(str, words[1:])])


def mirror(servers, source, target, first=0):
    """Records from that offset of each partition on, as MirrorMaker 2 copies them: with times, keys and headers."""

    async def copy():
        async with AIOKafkaProducer(bootstrap_servers=servers, acks="all", linger_ms=5) as producer:
            for one in await kafka_tools.aconsume(servers, source):
                if one.offset >= first:
                    to = one.partition, one.timestamp, list(one.headers)
                    await producer.send(target, one.value, one.key, *to)

    asyncio.run(copy())


def commit(run, commits):
    """As MirrorMaker 2 writes translated offsets into an empty group: the metadata goes with them."""

    async def write():
        of = {"bootstrap_servers": run.kafka.bootstrap_servers, "group_id": run.kafka.group_id}
        async with AIOKafkaConsumer(**of, enable_auto_commit=False) as consumer:
            consumer.assign([TopicPartition(run.kafka.input_topic, number) for number in commits])
            await consumer.commit(
                {TopicPartition(run.kafka.input_topic, n): OffsetAndMetadata(*of) for n, of in commits.items()}
            )

    asyncio.run(write())


def expected_after(old, of_old, new, first):
    """What a group gives that goes on with the state of another one, from offset ``first`` of each partition on."""
    pipeline = Pipeline.of(new.settings)
    after = []
    for number, was in enumerate(oracle.expect(old.settings, of_old.raw, pipeline)):
        begin = first[number]
        shift = begin - of_old.ends[number]
        rows = was.sources.rows
        for slot in was.sources.slots.values():
            rows.put(slot, "open", 0)
            rows.put(slot, "last", max(rows.get(slot, "last") + shift, 0))
            rows.put(slot, "born", max(rows.get(slot, "born") + shift, -1))
        was.sources.open.clear()
        came = [record for record in logs.records(new.kafka, new.kafka.input_topic)[number] if record.offset >= begin]
        now = oracle._fold(new.settings, pipeline, number, True, came, was.sources)
        now.last = {**dict.fromkeys(was.last, begin - 1), **now.last}
        after.append(now)
    return after


def test_copies_go_back_and_go_on_before_another_log(job, tmp_path):
    copy, drained = tmp_path / "copy", tmp_path / "drained"
    with Run(job, tmp_path) as run:
        kafka = run.make_topics(PARTITIONS).kafka
        worker = run.start()
        produce(run, 1500)
        worker.until_ready()
        run.until_done()
        with load.Load(kafka.bootstrap_servers, kafka.input_topic, PARTITIONS, per_s=300.0, sources=40):
            made = command(run, "backup", copy)  # while it works
        assert made.exit_code == 0, made.output
        assert "1 worker at work" in made.stdout and command(run, "backup", copy).exit_code == 2
        produce(run, 800)
        run.until_done()
        worker.kill()
        produce(run, 200)

        # The changelog is lost.
        kafka_tools.delete_topics(job.servers, kafka.changelog_topic)
        assert command(run, "topics", "--create").exit_code == 0
        worker = run.start()
        assert worker.wait() == 70
        assert f"topic {kafka.changelog_topic} was deleted" in worker.said and "`faust-anomaly restore`" in worker.said
        (tmp_path / "damaged").write_bytes(copy.read_bytes()[:-5])
        for wrong, options, why in (
            (tmp_path / "damaged", (), "the copy is damaged"),
            (copy, ("--at", "end"), "do not use --at"),
            (copy, ("--stale",), "go with --at"),
        ):
            refused = command(run, "restore", wrong, *options)
            assert refused.exit_code != 0 and why in refused.stderr, refused.output
        put = command(run, "restore", copy)
        assert put.exit_code == 0, put.output
        assert command(run, "restore", copy).exit_code == 2  # it is not empty any more
        worker = run.start().until_ready()
        assert "at work" in command(run, "restore", copy).stderr
        produce(run, 300)
        open_an_episode(run)
        run.until_saved()
        worker.term()
        report = run.check()
        assert report.faults == {} and report.counts["states"] > 40
        assert "episodes repeated" not in report and "letters repeated" not in report  # not even what may be
        of_old = logs.read(kafka)
        assert command(run, "backup", drained).stdout.count("before the same") == 0

    for name, place in (("beginning", 0), ("end", 700)):
        (tmp_path / name).mkdir()
        with Run(Job.of(name, job.servers), tmp_path / name) as there:
            there.make_topics(PARTITIONS)
            if place:
                mirrored_and_refused(there, run, of_old, place)
            early = command(there, "restore", copy, "--at", name)
            assert early.exit_code == 1 and "1 worker at work when it was made" in early.stderr
            assert "say where" in command(there, "restore", drained).stderr
            put = command(there, "restore", drained, "--at", name)
            assert put.exit_code == 0 and "episodes that were open: " in put.stdout, put.output
            first = logs.ends(there.kafka, there.kafka.input_topic)
            assert all(first) == bool(place)
            worker = there.start()
            produce(there, 600)
            there.until_done()
            if not place:
                worker.kill()  # recovery of what was put back, and of what came since
                worker = there.start()
            produce(there, 300)
            there.until_saved()
            worker.term()
            found = logs.read(there.kafka)
            report = oracle.check(expected_after(run, of_old, there, first), found)
            # Episodes of before were put back with the topics of alerting.
            assert {key: of for key, of in report.faults.items() if key != "episodes extra"} == {}
            before = {
                name for name, _ in oracle._named_episodes((r.key, r.value) for of in of_old.episodes for r in of)
            }
            assert set(report["episodes extra"]) == before
            assert report.counts["results"] > 900
            assert "has run with this" in command(there, "restore", drained, "--at", name).stderr

    (tmp_path / "stale").mkdir()
    with Run(Job.of("stale", job.servers), tmp_path / "stale") as there:
        there.make_topics(PARTITIONS)
        assert command(there, "restore", copy, "--at", "beginning", "--stale").exit_code == 0
        assert {of[0] for of in logs.committed(there.kafka).values()} == {0}

    # The input topic is made again under its name: ids and results of before are not used again.
    kafka_tools.delete_topics(job.servers, kafka.input_topic, kafka.changelog_topic)
    assert command(run, "topics", "--create", "--partitions", PARTITIONS).exit_code == 0
    assert "would get the ids" in command(run, "restore", drained, "--at", "beginning").stderr
    hidden = command(run, "restore", drained, "--at", "beginning", "--reuse-ids")
    assert "Name another kafka.output_topic" in hidden.stderr
    assert logs.committed(kafka) == {} and sum(logs.ends(kafka, kafka.changelog_topic)) == 0


def mirrored_and_refused(there, run, of_old, place):
    """All topics and offsets were mirrored: the worker refuses, and so does what would hide results."""
    old, new, servers = run.kafka, there.kafka, there.job.servers
    mirror(servers, old.input_topic, new.input_topic, first=place)
    mirror(servers, old.changelog_topic, new.changelog_topic)
    commit(there, {number: (end - place, of_old.committed[number][1]) for number, end in enumerate(of_old.ends)})
    worker = there.start()
    assert worker.wait() == 70 and f"topic {new.input_topic} was deleted and made again" in worker.said
    assert there.lag() == 0 and sum(logs.ends(new, new.output_topic)) == 0
    assert "must be empty" in command(there, "restore", run.config.parent / "drained", "--at", "end").stderr
    kafka_tools.delete_topics(servers, new.changelog_topic)
    assert command(there, "topics", "--create").exit_code == 0
