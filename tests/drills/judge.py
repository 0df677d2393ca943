"""Judges the episodes of one series: each fault found in time, over in time, and how many others?

The time of an episode decides, not its score. What an episode says about itself is counted beside it: of what kind it
is, and whether one about a value opens outside the band that it shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.drills.shapes import Case, Fault

EARLY = 20  # points before a fault: an episode that opened there and is open when the fault begins has found it
ENDLESS = 0.25  # share of the series: an episode about no fault that lasts so long is one that does not end


@dataclass
class Episode:
    """Positions are those of points of its series, in the order in which they arrived."""

    opened: int
    last: int  # the last point inside it
    metric: str  # that has the highest score where it opened
    kind: str | None = None  # what kind of anomaly it says it is
    outside: bool | None = None  # that metric's value lay outside the band shown; None: no band was shown


def faulty(case: Case, episodes: Sequence[Episode]) -> list[str]:
    """Why this series was not judged right by the detectors; nothing if it was."""
    why, rest = [], list(episodes)
    for fault in case.faults:
        about = [each for each in rest if _is_about(each, fault)]
        rest = [each for each in rest if each not in about]
        why += _of_fault(fault, about)
    others = [each for each in rest if each.last >= case.quiet_from]
    if len(others) > case.others:
        why.append(f"{len(others)} others, at {', '.join(str(each.opened) for each in others[:5])}")
    why += [f"{each.opened} to {each.last} open without a fault" for each in rest if _endless(each, case)]
    return why


def _is_about(episode: Episode, fault: Fault) -> bool:
    end = fault.found_by if fault.over_by is None else fault.over_by
    was_open = fault.first - EARLY <= episode.opened < fault.first <= episode.last
    return was_open or fault.first <= episode.opened <= end


def _of_fault(fault: Fault, about: Sequence[Episode]) -> list[str]:
    in_time = [each for each in about if each.opened <= fault.found_by]
    if not in_time:
        return [f"not found from {fault.first} to {fault.found_by}"]
    why, last = [], max(each.last for each in about)
    if fault.metric is not None and in_time[0].metric != fault.metric:
        why.append(f"names {in_time[0].metric}, not {fault.metric}")
    if fault.over_by is not None and last > fault.over_by:
        why.append(f"open until {last}, should be over by {fault.over_by}")
    if fault.open_until is not None and last < fault.open_until:
        why.append(f"open until {last}, the fault lasts until {fault.open_until}")
    if len(about) > fault.alerts:
        why.append(f"found {len(about)} times from {fault.first}")
    return why


def _endless(episode: Episode, case: Case) -> bool:
    return episode.last - episode.opened > ENDLESS * len(case)


class Tally:
    """Episodes by position of point, from the results inside episodes, as they come."""

    def __init__(self) -> None:
        self.episodes: dict[str, list[Episode]] = {}
        self._by_id: dict[tuple[str, str], Episode] = {}

    def add(self, source: str, position: int, result: dict[str, Any]) -> None:
        """A result with ``is_anomaly``; the position of its point among those of its source."""
        name = (source, result["episode"])
        if name in self._by_id:
            self._by_id[name].last = position
        else:
            self._by_id[name] = opened(position, result)
            self.episodes.setdefault(source, []).append(self._by_id[name])


def opened(position: int, result: dict[str, Any]) -> Episode:
    """The episode that this result opens."""
    blame = result.get("attribution") or {}
    metric = max(blame, key=blame.__getitem__) if blame else result.get("metric", "value")
    value, *band = (_of_metric(result.get(name), metric) for name in ("value", "expected_lower", "expected_upper"))
    if "values" in result:
        value = result["values"].get(metric)
    shown = value is not None and None not in band
    return Episode(position, position, metric, result.get("kind"), not band[0] <= value <= band[1] if shown else None)


def _of_metric(given: Any, metric: str) -> float | None:
    return given.get(metric) if isinstance(given, dict) else given


def kinds(episodes: Iterable[Episode]) -> dict[str, int]:
    """How many say of which kind they are, the most frequent first."""
    return dict(Counter(each.kind for each in episodes if each.kind is not None).most_common())


def share_outside(episodes: Iterable[Episode]) -> float | None:
    """Of the episodes about a value (of all, where no kinds are given): the share that opens outside its band."""
    found = [each.outside for each in episodes if each.kind in (None, "value") and each.outside is not None]
    return sum(found) / len(found) if found else None
