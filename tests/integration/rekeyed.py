"""The oracle behind the hop of input.rekey: what a job must give, by raw-data and by the order of what is scored.

In that topic points of several partitions of raw-data come in the order in which they arrived, which nothing else
tells; so the order is taken from it, and nothing else: each point is what raw-data says, and counts where its origin
comes first. That all points are there, once each in this sense, in their order and in the partition of their source, is
checked here.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka.partitioner import DefaultPartitioner
from integration import oracle
from integration.oracle import Expected

from app.pipeline import Pipeline
from app.pipeline.points import Points, packed
from app.settings import Settings
from app.wire.reader import Reader
from app.wire.results import encode_episodes, encode_results

Origin = tuple[int, int, int]  # partition, offset, index in raw-data


def expect(
    settings: Settings, raw: Sequence[Sequence[Any]], by_source: Sequence[Sequence[Any]], pipeline: Pipeline
) -> list[Expected]:
    """What the job must give in each partition of the results; the dead letters are all in the first."""
    topic = settings.kafka.input_topic
    points: dict[Origin, tuple[Points, int]] = {}
    letters = []
    for partition, records in enumerate(raw):
        read, bad, _, _ = Reader(settings.input, topic, partition, False).read(records)
        points |= {(partition, offset, i): (read, at) for at, (offset, i) in enumerate(zip(read.offset, read.index))}
        letters += [letter.record(topic, partition) for letter in bad]
    expected, seen = [], set[Origin]()
    for number, records in enumerate(by_source):
        taken, faults = _taken(records, points, seen, number, len(by_source))
        expected.append(_fold(settings, pipeline, number, taken, faults))
    expected[0].letters = dict(oracle._named_letters(letters))
    oracle.note(expected[0].faults, "points missing by source", points.keys() - seen)
    return expected


def _taken(
    records: Iterable[Any], points: dict[Origin, Any], seen: set[Origin], number: int, count: int
) -> tuple[Points, dict[str, list[str]]]:
    """The points of one partition by source, each where it came first, and what is wrong with the records."""
    taken, faults = Points(metrics=[], start=[0], metric=[], named=[], labels=[], arrived=[]), dict[str, list[str]]()
    last: dict[int, Origin] = {}
    numbers = list(range(count))
    for record in records:
        [(name, value)] = record.headers
        *parts, _ = map(int, value.decode().split(":"))
        origin: Origin = (parts[0], parts[1], parts[2])
        if name != "origin" or origin not in points:
            oracle.note(faults, "points extra by source", [origin])
            continue
        if record.key.decode() != json.loads(record.value)["source"]:
            oracle.note(faults, "points by source under another key", [origin])
        if DefaultPartitioner()(record.key, numbers, numbers) != number:
            oracle.note(faults, "points in another partition by source", [origin])
        if origin in seen:
            continue
        if origin < last.get(origin[0], origin):
            oracle.note(faults, "points out of order by source", [origin])
        last[origin[0]] = origin
        seen.add(origin)
        _add(taken, record.offset, origin, *points[origin])
    return taken, faults


def _add(taken: Points, offset: int, origin: Origin, of: Points, at: int) -> None:
    taken.offset.append(offset)
    taken.named.append(origin[1])
    taken.index.append(packed(origin[0], origin[2]))
    taken.source.append(of.source[at])
    taken.timestamp.append(of.timestamp[at])
    taken.arrived.append(of.arrived[at])
    taken.own_time.append(of.own_time[at])
    taken.metric.append(of.metric[at] if of.metric else "")
    taken.labels.append(of.labels[at] if of.labels else None)
    taken.metrics += of.names(at)
    taken.values += of.values[of.cells(at)]
    taken.start.append(len(taken.values))
    taken.single = of.single


def _fold(settings: Settings, pipeline: Pipeline, number: int, points: Points, faults: Any) -> Expected:
    topic, sources = settings.kafka.input_topic, pipeline.sources()
    outcome = pipeline.run(sources, points)
    assert not outcome.rejected, "no load of these tests has points that are not scored"
    results = dict(oracle._named_results(encode_results(points, outcome, topic, number)))
    return Expected(
        results=results,
        letters={},
        episodes=dict(oracle._named_episodes(encode_episodes(points, outcome, topic, number))),
        sources=sources,
        last=dict(zip(points.series(), points.offset)),
        forgotten=set(),
        places=dict(zip(results, points.offset)),
        faults=faults,
    )
