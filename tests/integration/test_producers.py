"""What producers and brokers make of topics: codecs, transactions, limits. One worker, and one that follows it."""

import asyncio
import contextlib

import pytest
from aiokafka import AIOKafkaProducer
from integration import logs
from integration.run import Run
from integration.workers import wait_for
from support import kafka_tools

CODECS = (None, "gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def run(job, tmp_path):
    with Run(job, tmp_path) as one:
        kafka, server = one.kafka, one.kafka.bootstrap_servers[0]
        kafka_tools.create_topic(server, kafka.output_topic, 2, compression_type="lz4", max_message_bytes="100000")
        kafka_tools.create_topic(server, kafka.dead_letters_topic, 2, compression_type="gzip", max_message_bytes="4096")
        kafka_tools.create_topic(server, kafka.changelog_topic, 2, compression_type="snappy", cleanup_policy="compact")
        yield one.make_topics(2)


def points(count, value=50.0):
    return [b'{"source":"pump-1","timestamp":%d,"value":%g}' % (1_700_000_000 + i, value + i % 3) for i in range(count)]


@contextlib.asynccontextmanager
async def producer(run, **options):
    async with AIOKafkaProducer(bootstrap_servers=run.kafka.bootstrap_servers, acks="all", **options) as started:

        async def send(partition, values):
            sent = [await started.send(run.kafka.input_topic, one, b"pump-1", partition) for one in values]
            await asyncio.gather(*sent)

        yield started, send


async def mixed(run):
    """Every codec, in one partition; then a hundred committed, aborted and committed records, and aborted ones."""
    for codec in CODECS:
        async with producer(run, compression_type=codec, linger_ms=20) as (_, send):
            await send(0, [*points(50), b"no JSON" * 1000])
    async with producer(run, transactional_id=run.kafka.group_id, compression_type="zstd") as (transactions, send):
        for count, value, ends in (
            (100, 50.0, "commit"),
            (100, 9e9, "abort"),
            (100, 50.0, "commit"),
            (30, 9e9, "abort"),
        ):
            await transactions.begin_transaction()
            await send(0, points(count, value))
            await getattr(transactions, f"{ends}_transaction")()


async def held(run, worker):
    """An open transaction holds what is behind it, until it ends."""
    async with producer(run) as (_, send), producer(run, transactional_id=f"{run.kafka.group_id}-1") as (open_, inside):
        await send(1, points(20))
        await open_.begin_transaction()
        await inside(1, points(10))
        await send(1, points(20))
        await asyncio.to_thread(until_committed, run, 20)
        assert await asyncio.to_thread(logs.ends, run.kafka, run.kafka.input_topic) == [END, 50]
        await asyncio.to_thread(wait_for, lambda: worker.metric("lag_records") == 0)
        await open_.commit_transaction()


def until_committed(run, offset):
    wait_for(lambda: logs.committed(run.kafka).get(1, (0, ""))[0] == offset, lambda: run.workers[-1].said)


BACKLOG = 2000  # their results are 700 kB
END = len(CODECS) * 51 + 100 + 100 + 100 + 30 + 4 + BACKLOG  # four marks


def lowered(run):
    """A limit that is lowered under a worker: it follows, at the latest with its next start."""
    server, count = run.kafka.bootstrap_servers[0], 3000
    kafka_tools.set_configs(server, run.kafka.output_topic, max_message_bytes="20000")
    kafka_tools.produce(server, run.kafka.input_topic, [(b"pump-1", one) for one in points(count)], 1)
    wait_for(lambda: run.workers[-1].code is not None or logs.committed(run.kafka)[1][0] == 51 + count)
    if run.workers[-1].code is not None:
        assert run.workers[-1].code == 70 and "max.message.bytes was lowered" in run.workers[-1].said
        run.start()
        until_committed(run, 51 + count)


async def left_open(run, end):
    """Read uncommitted the same is scored at once; who then reads what is committed is beyond it, and waits."""
    async with producer(run, transactional_id=f"{run.kafka.group_id}-1") as (open_, inside):
        await open_.begin_transaction()
        await inside(1, points(10))
        uncommitted = run.start(ANOMALY_KAFKA__ISOLATION_LEVEL="read_uncommitted")
        await asyncio.to_thread(until_committed, run, end + 10)
        uncommitted.kill()
        follower = run.start()
        await asyncio.to_thread(follower.until_ready)
        await open_.commit_transaction()
        await asyncio.to_thread(until_committed, run, end + 11)


def test_codecs_transactions_and_owners_that_follow(run):
    kafka_tools.produce(run.job.servers, run.kafka.input_topic, [(b"pump-1", one) for one in points(BACKLOG)], 0)
    asyncio.run(mixed(run))
    worker = run.start()
    run.until_done()
    assert run.lag() == 0 and logs.ends(run.kafka, run.kafka.input_topic) == [END, 0]
    assert len(logs.records(run.kafka, run.kafka.output_topic)[0]) == 5 * 50 + 200 + BACKLOG
    asyncio.run(held(run, worker))
    run.until_done()
    worker.kill()  # the next one reads what the broker has compressed
    run.start()
    run.until_done()
    lowered(run)
    run.until_saved()
    faults = run.check().faults  # dead letters are cut to what their topic takes, which the oracle does not know
    assert list(faults) == ["letters conflicting"] and faults["letters conflicting"][0] == f"{len(CODECS)} in all"
    run.workers[-1].kill()
    asyncio.run(left_open(run, logs.committed(run.kafka)[1][0]))
    said = "".join(worker.said for worker in run.workers)
    assert "[ERROR]" not in said and "Traceback" not in said
    assert f"dead letters in {run.kafka.dead_letters_topic}: invalid_json, such as {run.kafka.input_topic}[0]@" in said
