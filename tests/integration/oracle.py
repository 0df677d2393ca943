"""What a job must have written, and everything in which a run differs from it.

The oracle folds each partition of raw-data in one process and one batch, through the same reader, pipeline and
encoders that the worker runs; it knows no Kafka, crash, snapshot or replay. So it proves nothing about detection
(tests/unit does), and everything about what happens to a point between its record and its result.

``check`` is a plain function of two values, so that test_oracle.py can hand it wrong logs: a checker that flags
nothing when something is wrong would make every crash test pass.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from integration.logs import Logs

from app.pipeline import Pipeline
from app.settings import Settings
from app.state import snapshot
from app.state.series import shown, to_bytes
from app.wire.reader import Reader
from app.wire.results import encode_episodes, encode_results

TAG = 9  # bytes after the source in a changelog key: see tables/sources.py
ALLOWED = ("letters repeated", "episodes repeated")  # at least once is what is promised for these


@dataclass
class Expected:
    """What one partition must give: id -> bytes, in order, and the state at its end."""

    results: dict[str, Any]  # id -> (key, value), in the order of raw-data
    letters: dict[str, Any]  # id -> (key, value, headers)
    episodes: dict[str, Any]  # event, and id of its point or of the episode that closed -> (key, value)
    sources: Any  # app.state.sources.Sources
    last: dict[str, int]  # source -> offset of its last learned point; only those that are not forgotten at the end
    forgotten: set[str]  # the others: what is left of them in the changelog is of no use
    places: dict[str, int] | None = None  # with input.rekey, id -> offset in the topic by source
    faults: dict[str, list[str]] = field(default_factory=dict)  # found in that topic


class Report(dict[str, list[str]]):
    """Kind of fault -> ids. ``faults`` leaves out what is allowed; ``counts`` are the sizes of what was compared."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def add(self, kind: str, faults: Iterable[Any]) -> None:
        note(self, kind, faults)

    @property
    def faults(self) -> dict[str, list[str]]:
        """Empty when the promises hold; of each kind, how many and the first few."""
        return {kind: [f"{len(ids)} in all", *ids[:5]] for kind, ids in self.items() if ids and kind not in ALLOWED}


def expect(
    settings: Settings,
    raw: Sequence[Sequence[Any]],
    pipeline: Pipeline | None = None,
    by_source: Sequence[Sequence[Any]] | None = None,
) -> list[Expected]:
    """What the job must give for these partitions of raw-data; ``pipeline``: one made of these settings before.

    ``by_source``: the topic by source, with input.rekey.
    """
    pipeline = pipeline or Pipeline.of(settings)
    if by_source is not None:
        from integration import rekeyed  # which needs this module

        return rekeyed.expect(settings, raw, by_source, pipeline)
    return [_fold(settings, pipeline, number, len(raw) > 1, records) for number, records in enumerate(raw)]


def _fold(
    settings: Settings, pipeline: Pipeline, number: int, keyed: bool, records: Sequence[Any], sources: Any = None
) -> Expected:
    """``sources``: as they were before; none yet unless given."""
    topic = settings.kafka.input_topic
    sources = pipeline.sources() if sources is None else sources
    reader = Reader(settings.input, topic, number, keyed)
    points, letters, elements, _ = reader.read(records)
    outcome = pipeline.run(sources, points)
    letters += reader.rejected(records, elements, points, outcome.rejected)
    rows = zip(points.series(), points.offset, outcome.slot.tolist(), strict=True)
    last = {name: offset for name, offset, slot in rows if slot >= 0}
    end = records[-1].offset if records else 0
    forgotten = {name for name, offset in last.items() if end - offset > settings.state.forget_after_records}
    return Expected(
        results=dict(_named_results(encode_results(points, outcome, topic, number))),
        letters=dict(_named_letters(letter.record(topic, number) for letter in letters)),
        episodes=dict(_named_episodes(encode_episodes(points, outcome, topic, number))),
        sources=sources,
        last={name: offset for name, offset in last.items() if name not in forgotten},
        forgotten=forgotten,
    )


def check(expected: Sequence[Expected], logs: Logs, saved: bool = True) -> Report:
    """Compare a finished run with what it must have given.

    Parameters
    ----------
    expected
        From ``expect`` over the same raw-data.
    logs
        What the run left in the broker.
    saved
        The run ended idle or by SIGTERM, so that every source's last state must be in the changelog and the
        replay point must be the end of raw-data.
    """
    report = Report()
    for number, (want, results) in enumerate(zip(expected, logs.results, strict=True)):
        found = list(_named_results((record.key, record.value) for record in results))
        for kind, faults in want.faults.items():
            report.add(kind, faults)
        _compare_places(report, want, logs, results)
        _compare(report, "results", want.results, found)
        report.add("sources out of order", _out_of_order(found))
        report.add("gaps in the results", _gaps(list(want.results), [name for name, _ in found]))
        _compare_state(report, want, logs.changelog[number], saved)
        _compare_commit(report, number, logs, saved)
    # Dead letters and episodes may have fewer partitions than raw-data: their ids say where they come from.
    letters = ((r.key, r.value, r.headers) for records in logs.letters for r in records)
    _compare(report, "letters", _all(want.letters for want in expected), list(_named_letters(letters)))
    episodes = list(_named_episodes((r.key, r.value) for records in logs.episodes for r in records))
    _compare(report, "episodes", _all(want.episodes for want in expected), episodes)
    report.counts["episodes changed"] += sum(name.startswith("changed ") for name, _ in episodes)
    return report


def note(faults: dict[str, list[str]], kind: str, found: Iterable[Any]) -> None:
    """Add faults of a kind, if there are any."""
    if named := [str(fault) for fault in found]:
        faults.setdefault(kind, []).extend(named)


def _compare_places(report: Report, want: Expected, logs: Logs, results: Sequence[Any]) -> None:
    """With input.rekey each result says which record it answers."""
    if want.places is None:
        return
    for record in results:
        name = json.loads(record.value)["id"]
        [(topic, offset)] = record.headers
        if not topic.endswith("-by-source") or (name in want.places and int(offset) != want.places[name]):
            report.add("places wrong", [f"{name}: {topic} {offset!r}"])
    for number, end in enumerate(logs.raw_ends):
        if end and (committed := logs.rekeyed.get(number, (-1, ""))[0]) != end:
            report.add("committed positions of the hop wrong", [f"{number}: {committed}, end is {end}"])


def _compare(report: Report, what: str, want: dict[str, Any], found: list[tuple[str, Any]]) -> None:
    times = Counter(name for name, _ in found)
    report.add(f"{what} missing", (name for name in want if name not in times))
    report.add(f"{what} extra", (name for name in times if name not in want))
    report.add(f"{what} repeated", (name for name, count in times.items() if count > 1))
    different = dict.fromkeys(name for name, said in found if name in want and want[name] != said)
    report.add(f"{what} conflicting", different)
    report.counts[what] += len(times)


def _out_of_order(found: list[tuple[str, Any]]) -> list[str]:
    """Results that come, on first sight, after a later one of the same source."""
    latest: dict[Any, tuple[int, int]] = {}
    seen = set()
    wrong = []
    for name, (key, _) in found:
        position = _position(name)
        key = key, name.rsplit(":", 2)[0]  # the partition, with input.rekey
        if name not in seen and position < latest.get(key, (-1, -1)):
            wrong.append(name)
        seen.add(name)
        latest[key] = max(position, latest.get(key, (-1, -1)))
    return wrong


def _gaps(want: list[str], found: list[str]) -> list[str]:
    """Results that were written before every earlier one of the partition was there."""
    place = {name: i for i, name in enumerate(want)}
    wrong, there, begin = [], set(), 0  # begin: every result before it is there
    for name in found:
        if name not in place:
            continue
        if place[name] > begin:
            wrong.append(name)
        there.add(place[name])
        while begin in there:
            there.discard(begin)
            begin += 1
    return wrong


def _compare_state(report: Report, want: Expected, changelog: Sequence[Any], saved: bool) -> None:
    """The highest snapshot of every series against the state at the end, bit for bit."""
    highest: dict[str, tuple[int, bytes]] = {}
    for record in changelog:
        if record.value is None:
            continue
        name, offset = snapshot.peek(record.value)
        if record.key[:-TAG] != to_bytes(name):
            report.add("snapshots under a foreign key", [shown(name)])
        known, data = highest.get(name, (-2, b""))
        if offset == known and data != record.value:
            report.add("snapshots conflicting", [shown(name)])
        if offset > known:
            highest[name] = offset, record.value
    unknown = highest.keys() - want.last.keys() - want.forgotten
    report.add("snapshots of unknown sources", map(shown, unknown))
    for name, last in want.last.items():
        covered, data = highest.get(name, (-2, b""))
        if covered < last:
            if saved:
                report.add("states not saved", [f"{shown(name)}: to {covered} of {last}"])
        elif data != snapshot.dumps(want.sources, want.sources.slots[name], covered):
            report.add("states wrong", [shown(name)])
        report.counts["states"] += covered >= last
    report.counts["snapshots"] += sum(record.value is not None for record in changelog)


def _compare_commit(report: Report, number: int, logs: Logs, saved: bool) -> None:
    """The committed position is the end of raw-data (lag reads 0), and its metadata holds the replay point."""
    end = logs.ends[number]
    if not end:
        return
    offset, metadata = logs.committed.get(number, (-1, ""))
    if offset != end:
        report.add("committed positions wrong", [f"{number}: {offset}, end is {end}"])
    try:
        said = json.loads(metadata)
        valid = said.keys() >= {"v", "replay"} and said["v"] == 1 and 0 <= said["replay"] <= offset
    except ValueError:
        valid = False
    if not valid or (saved and said["replay"] != end):
        report.add("replay points wrong", [f"{number}: {metadata!r}, end is {end}"])


def _named_results(records: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[str, Any]]:
    for key, value in records:
        yield json.loads(value)["id"], (key, value)


def _named_episodes(records: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[str, Any]]:
    for key, value in records:
        said = json.loads(value)
        yield f"{said['event']} {said.get('id', said['episode'])}", (key, value)


def _named_letters(records: Iterable[tuple[Any, Any, Any]]) -> Iterable[tuple[str, Any]]:
    for key, value, headers in records:
        said = {name: text.decode("utf-8", "replace") for name, text in reversed(tuple(headers))}
        name = ":".join(said.get(part, "?") for part in ("topic", "partition", "offset", "index"))
        yield name, (key, value, tuple((name, bytes(text)) for name, text in headers))


def _position(name: str) -> tuple[int, int]:
    """(offset, index) of an id."""
    _, _, offset, index = name.rsplit(":", 3)
    return int(offset), int(index)


def _all(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {name: said for part in parts for name, said in part.items()}
