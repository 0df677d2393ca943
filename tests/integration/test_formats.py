"""Workers that read what tools write, as ``input.format`` says: Telegraf's batches, and Prometheus' samples by source.

What they must answer is worked out from plain records that were written by hand beside those of the tools, so nothing
that reads other shapes takes part in it.
"""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from aiokafka import AIOKafkaProducer
from integration import logs, oracle
from integration.run import Run
from support.jobs import Job

from app.pipeline import Pipeline
from app.settings import InputSettings

CODECS = (None, "gzip", "snappy", "lz4", "zstd")
AT = 1_700_000_000
EACH = 120  # points of a series
RAW = 3  # partitions of the samples
SPIKE_AT = EACH - 10
Written = tuple[bytes, list]  # a record, and its elements as plain JSON; None: no point is in this place


def usage(i: int) -> float:
    return 99.0 if i == SPIKE_AT else 20.0 + i % 5 / 2


def metric(name: str, i: int, tags: dict, **fields) -> dict:
    return {"fields": fields, "name": name, "tags": tags, "timestamp": AT + 10 * i}


def telegraf(i: int) -> Written:
    """A batch: two numbers of one metric, one of another, and at times what cannot be read or has no number."""
    tags = {"host": "web-1", "cpu": "cpu0"}
    cpu = metric("cpu", i, tags, active=True, usage_user=usage(i), uptime=i, mode="powersave")
    batch = [cpu, metric("mem", i, {"host": "web-1"}, used=7 * 2**30 + i % 3), metric("disk", i, {}, state="ok")]
    if i % 40 == 7:
        batch.insert(1, {**cpu, "timestamp": "soon"})
    at, source = AT + 10 * i, "cpu,cpu=cpu0,host=web-1"
    plain = [
        {"source": source, "timestamp": at, "metric": "usage_user", "value": usage(i)},
        {"source": source, "timestamp": at, "metric": "uptime", "value": i},
        *([None] if i % 40 == 7 else []),
        {"source": "mem,host=web-1", "timestamp": at, "metric": "used", "value": 7 * 2**30 + i % 3},
    ]
    return json.dumps({"metrics": batch}).encode(), plain


def prometheus(i: int, instance: str) -> Written:
    value = {25: "NaN", 50: "+Inf", 75: "many"}.get(i, f"{usage(i):.3e}")
    labels = {"__name__": "load", "instance": instance, "job": "node"}
    time = f"2023-11-14T{22 + i // 60}:{i % 60:02}:00Z"
    sample = {"labels": labels, "name": "load", "timestamp": time, "value": value}
    plain = {"source": f"load,instance={instance},job=node", "timestamp": time, "value": usage(i)}
    return json.dumps(sample).encode(), [None if value in ("NaN", "+Inf", "many") else plain]


BATCHES = [*map(telegraf, range(EACH)), (b'{"metrics": [', [None]), telegraf(EACH)]
SAMPLES = [[prometheus(i, f"web-{n}:9100") for i in range(EACH)] for n in range(RAW)]


def produce(run: Run, partitions: list[list[Written]]) -> None:
    """Without keys; the codec is another one for each part of a partition."""

    async def write() -> None:
        for n, codec in enumerate(CODECS):
            async with AIOKafkaProducer(
                bootstrap_servers=run.kafka.bootstrap_servers, acks="all", compression_type=codec, linger_ms=50
            ) as producer:
                for number, written in enumerate(partitions):
                    part = written[n * len(written) // len(CODECS) : (n + 1) * len(written) // len(CODECS)]
                    for value, _ in part:
                        await producer.send(run.kafka.input_topic, value, None, partition=number)
                await producer.flush()

    asyncio.run(write())


def expected(run: Run, partitions: list[list[Written]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Results and events by name, of the plain records in the same places."""
    settings = run.settings.model_copy(update={"input": InputSettings()})
    results, episodes = {}, {}
    for number, written in enumerate(partitions):
        plain = [
            SimpleNamespace(offset=offset, key=None, value=json.dumps(elements).encode(), timestamp=0, headers=())
            for offset, (_, elements) in enumerate(written)
        ]
        of = oracle._fold(settings, Pipeline.of(settings), number, False, plain)
        results |= said(of.results.items())
        episodes |= said(of.episodes.items())
    return results, episodes


def said(named) -> dict[str, Any]:
    return {name: json.loads(value) for name, (_, value) in named}


def found(run: Run) -> tuple[dict[str, Any], dict[str, Any], dict[tuple[int, ...], str]]:
    """Results and events by name, and the reasons of dead letters by (partition, offset, index)."""
    left = logs.read(run.kafka)
    results = [(record.key, record.value) for partition in left.results for record in partition]
    events = [(record.key, record.value) for partition in left.episodes for record in partition]
    letters = [dict(record.headers) for partition in left.letters for record in partition]
    places = [tuple(int(one[name]) for name in ("partition", "offset", "index")) for one in letters]
    return (
        said(oracle._named_results(results)),
        said(oracle._named_episodes(events)),
        dict(zip(places, (one["reason"].decode().partition(": ")[2] for one in letters), strict=True)),
    )


def check(run: Run, partitions: list[list[Written]], labels_of) -> dict[tuple[int, ...], str]:
    """Everything that was answered; the dead letters are the caller's to judge."""
    run.until_saved()
    assert run.check().faults == {}
    results, events, letters = found(run)
    wanted, opened = expected(run, partitions)
    assert any(result["is_anomaly"] for result in wanted.values()) and opened
    for one in [*results.values(), *events.values()]:
        assert one.pop("labels") == labels_of(one["source"])
    if run.kafka.rekeys:  # places are those by source, which run.check compares
        for one in [*events.values(), *opened.values()]:
            one["offset"] = one["index"] = None
    assert results == wanted and events == opened
    return letters


SOON = '$.metrics[1].timestamp must be a number or a time such as "2023-10-27T09:37:40Z", got "soon"'
WRONG = {50: '$.value must be finite, got "+Inf"', 75: '$.value must be a number, got "many"'}


def labels_of(source: str) -> dict[str, str]:
    name, *tags = source.split(",")
    return {"__name__": name} | dict(tag.split("=") for tag in tags)


def test_what_tools_write_is_answered_as_the_same_points_are(job, tmp_path):
    for name in ("batches", "samples"):
        (tmp_path / name).mkdir()
    agent = {"format": "telegraf", "labels": ["name", "tags.host"]}
    scrapes = {"format": "prometheus", "labels": ["labels.*"], "rekey": True}
    other = Job.of("samples", job.servers)
    with Run(job, tmp_path / "batches", input=agent) as one, Run(other, tmp_path / "samples", input=scrapes) as two:
        produce(one.make_topics(1), [BATCHES])
        produce(two.make_topics(raw=RAW), SAMPLES)
        workers = one.start(), two.start()
        letters = check(one, [BATCHES], lambda source: {"name": source[:3], "tags.host": "web-1"})
        assert letters.pop((0, EACH, 0)).startswith("$ must be JSON: ")
        assert letters == {(0, i, 2): SOON for i in range(7, EACH, 40)}
        letters = check(two, SAMPLES, labels_of)
        assert letters == {(number, i, 0): why for number in range(RAW) for i, why in WRONG.items()}
        skipped = [worker.metric("skipped_total") for worker in workers]
        assert skipped == [EACH + 1, RAW], "the disks have no number, and NaN is none"
