"""Whether every record was answered, once, and rightly. A benchmark of wrong answers is worth nothing.

All ids are counted and repeats compared byte by byte; values are compared for the first sources,
with ``job.reference``.
"""

import hashlib
import itertools
from collections import Counter
from dataclasses import dataclass, field

import msgspec

from tests.bench import job
from tests.bench.cluster import Cluster

SCORE_DIGITS = 2e-6  # contestants may round scores to 6 decimals
MEAN_DIGITS = 1e-9


class Point(msgspec.Struct):
    source: str
    timestamp: float
    value: float


class Answer(msgspec.Struct):
    id: str
    source: str
    timestamp: float
    value: float
    anomaly_score: float
    is_anomaly: bool
    expected: float | None = None


@dataclass
class Verdict:
    """What the output topic holds for the records of the input topic."""

    records: int = 0
    lost: int = 0
    repeated: int = 0  # a second answer with the bytes of the first
    differing: int = 0  # a second answer with other bytes
    compared: int = 0
    wrong: int = 0  # of the compared: first answer differs from the reference
    examples: list[str] = field(default_factory=list)  # of wrong answers
    bytes_per_result: float = 0.0
    appended: Counter[int] = field(default_factory=Counter)  # ms of the broker's clock -> results

    @property
    def complete(self) -> bool:
        return not (self.lost or self.repeated or self.differing or self.wrong)

    @property
    def exact(self) -> bool:
        return self.compared > 0 and self.complete

    def __str__(self) -> str:
        said = (
            f"{self.records:,} records: {self.lost:,} lost, {self.repeated:,} repeated, "
            f"{self.differing:,} repeated differently, {self.wrong:,} of {self.compared:,} compared are wrong"
        )
        return "; e.g. ".join([said, *self.examples[:1]])


async def verify(cluster: Cluster, input_topic: str, output_topic: str, sources: int = 200) -> Verdict:
    """Reads both topics; compares the answers of sources s0, s1, ... up to ``sources`` with the reference."""
    compared = {b"s%d" % i for i in range(sources)}
    verdict = Verdict()
    points: dict[bytes, list[tuple[int, int, Point]]] = {}
    async for p, records in cluster.read(input_topic):
        for record in records:
            if record.key in compared:
                point = msgspec.json.decode(record.value, type=Point)
                points.setdefault(record.key, []).append((p, record.offset, point))
    ends = await cluster.ends(input_topic)
    first: list[list[bytes | None]] = [[None] * end for end in ends]  # digest of the first answer
    answers: dict[tuple[int, int], Answer] = {}
    size = 0
    identify = msgspec.json.Decoder(msgspec.defstruct("Identified", [("id", str)])).decode
    async for p, records in cluster.read(output_topic):
        for record in records:
            verdict.appended[record.timestamp] += 1
            size += len(record.value)
            topic, partition, offset, index = identify(record.value).id.rsplit(":", 3)
            if (topic, int(partition), index) != (input_topic, p, "0"):
                raise ValueError(
                    f"{output_topic}[{p}]@{record.offset}: not an answer to {input_topic}[{p}]: {record.value!r}"
                )
            digest = hashlib.blake2b(record.value, digest_size=8).digest()
            if (before := first[p][int(offset)]) is not None:
                verdict.repeated += before == digest
                verdict.differing += before != digest
                continue
            first[p][int(offset)] = digest
            if record.key in compared:
                answers[p, int(offset)] = msgspec.json.decode(record.value, type=Answer)
    verdict.records = sum(ends)
    verdict.lost = sum(digest is None for digest in itertools.chain(*first))
    verdict.bytes_per_result = size / max(sum(verdict.appended.values()), 1)
    for series in points.values():
        compare(series, answers, verdict)
    return verdict


def compare(series: list[tuple[int, int, Point]], answers: dict[tuple[int, int], Answer], verdict: Verdict) -> None:
    """Counts the answers of one source that are not the reference's."""
    expected = job.reference([point.value for _, _, point in series])
    for (p, offset, point), (mean, score) in zip(series, expected):
        answer = answers.get((p, offset))
        if answer is None:
            continue  # counted as lost
        verdict.compared += 1
        if not (
            answer.source == point.source
            and answer.timestamp == point.timestamp
            and answer.value == point.value
            and (mean is None or near(answer.expected, mean, MEAN_DIGITS * abs(mean)))
            and near(answer.anomaly_score, score, SCORE_DIGITS)
            and (answer.is_anomaly == (score >= 0.8) or near(score, 0.8, SCORE_DIGITS))
        ):
            verdict.wrong += 1
            verdict.examples.append(f"expected mean {mean!r}, score {score!r}, got {answer}")


def near(found: float | None, expected: float, tolerance: float) -> bool:
    return found is not None and abs(found - expected) <= tolerance
