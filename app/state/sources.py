"""The state of the series of one partition, in rows.

A series is a source, or a source and the one metric that its points name: see ``series``. It is called a source here,
as most are. It has one row for itself (its last point, its episode) and one for each metric of its points. Most
have one metric called "value", and so has each series of one metric: its row is found by array, so that a batch of
points with one value each needs no Python code for each point except one look-up in a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from app.compiled import rows
from app.scoring.profile import PAIR, SOURCE, Profile

VALUE = "value"  # the metric of a point that names none
JOINT = ""  # in place of a metric: the row for all metrics of a source jointly; no metric has this name
NONE = -1


class Stored(bytes):
    """A model of an adapter as it was saved; it is loaded at the next point of its source."""

    __slots__ = ()


class Sources:
    """Series -> slot (a row that never moves). Made by ``Pipeline.sources()``."""

    def __init__(
        self,
        profiles: Sequence[Profile],
        profile_of: Callable[[str], int],
        max_metrics: int,
        kind: type[rows.ArrayRows] | type[rows.ObjectRows],
    ) -> None:
        self.profiles = profiles
        self.max_metrics = max_metrics
        self.names: list[str] = []  # series by slot; "" where none has the slot
        self.slots: dict[str, int] = {}
        self.rows = kind(SOURCE)
        self.cells = [kind(profile.cell) for profile in profiles]  # by profile: rows of metrics
        # by profile: for each adapter, models by row of metric; None until the first point
        self.models: list[list[list[Any]]] = [[[] for _ in profile.adapters] for profile in profiles]
        self.pairs = kind(PAIR)  # rows of metrics, of sources with several metrics: their relation to other metrics
        self._pairs: dict[int, list[int]] = {}  # slot -> those rows, in the order of its metrics; only of such sources
        self._pair_of: list[dict[int, int]] = [{} for _ in profiles]  # by profile: row of a metric -> such a row
        self.keep: list[Any] = [kind(profile.cell) for profile in profiles]  # copy of a row, empty row
        for spare in self.keep:
            spare.add(2)
        self.profile = np.zeros(16, np.int64)  # by slot
        self.value_row = np.full(16, NONE, np.int64)  # by slot: row of the metric "value"
        self.joint_row = np.full(16, NONE, np.int64)  # by slot: row of JOINT
        self._metrics: dict[int, dict[str, int]] = {}  # slot -> metric -> row, for slots with another metric
        self.profile_of = profile_of
        self.open: set[int] = set()  # slots of sources inside an episode
        self.reset_sections: dict[str, set[int]] = {}  # section -> slots whose snapshot had none that fits
        self.undivided: set[int] = set()  # slots whose snapshot was of a source with all its metrics: see snapshot
        self._free: list[int] = []  # slots, and rows of metrics by profile, that are empty
        self._free_rows: list[list[int]] = [[] for _ in profiles]
        self._free_pairs: list[int] = []

    def slot(self, source: str) -> int:
        """The source's slot; an empty one for a new source."""
        slot = self.slots.get(source)
        if slot is None:
            slot = self.slots[source] = self._free.pop() if self._free else self._new_slot()
            self.names[slot] = source
            self.profile[slot] = self.profile_of(source)
        return slot

    def _new_slot(self) -> int:
        slot = self.rows.add()
        self.names.append("")
        self._make_room(slot + 1)
        return slot

    def _make_room(self, slots: int) -> None:
        while slots > len(self.profile):
            self.profile = np.concatenate([self.profile, np.zeros_like(self.profile)])
            self.value_row = np.concatenate([self.value_row, np.full_like(self.value_row, NONE)])
            self.joint_row = np.concatenate([self.joint_row, np.full_like(self.joint_row, NONE)])

    def slots_of(self, sources: Sequence[str], profile: int) -> np.ndarray:
        """The slots of different sources of one profile, as ``slot`` gives them, but all at once."""
        new = [source for source in sources if source not in self.slots]
        if new and not self._free:
            first = self.rows.add(len(new))
            self.names += new
            self.slots.update(zip(new, range(first, first + len(new))))
            self._make_room(len(self.names))
            self.profile[first : len(self.names)] = profile
            if len(new) == len(sources):
                return np.arange(first, len(self.names))
        return np.array([self.slot(source) for source in sources] if self._free else [*map(self.slots.get, sources)])

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def warming_up(self) -> int:
        """Sources whose last point no detector scored."""
        return int((self.rows.column("status") == 0).sum()) - len(self._free)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, free ones too (without models of adapters)."""
        return self.rows.nbytes + self.pairs.nbytes + sum(cells.nbytes for cells in self.cells)

    def metrics(self, slot: int) -> dict[str, int]:
        """Metric -> row, in the order they were first seen, with JOINT. Do not change it."""
        if slot in self._metrics:
            return self._metrics[slot]
        row = int(self.value_row[slot])
        return {} if row == NONE else {VALUE: row}

    def first_row(self, slot: int) -> int:
        """The row of its first metric; the drift model of the source is kept at this index."""
        known = self._metrics.get(slot)
        return next(iter(known.values())) if known else int(self.value_row[slot])

    def add_metric(self, slot: int, metric: str, row: int | None = None) -> int:
        """An empty row (or that one) for a metric that the source does not have yet."""
        profile = int(self.profile[slot])
        if row is None:
            row = self._empty_rows(profile, 1)[0]
        known = self.metrics(slot)
        if metric == VALUE:
            self.value_row[slot] = row
        if metric == JOINT:
            self.joint_row[slot] = row
        if known or metric != VALUE:
            self._metrics[slot] = {**known, metric: row}
        if self.profiles[profile].pairs and (metric == JOINT or slot in self._pairs):
            self._add_pairs(slot, profile)
        return row

    def _add_pairs(self, slot: int, profile: int) -> None:
        """Give each metric a row for what it has to do with others, unless it has one."""
        held = self._pairs.setdefault(slot, [])
        rows = [row for metric, row in self.metrics(slot).items() if metric != JOINT]
        for row in rows[len(held) :]:
            pair = self._free_pairs.pop() if self._free_pairs else self.pairs.add()
            self.pairs.put(pair, "place", len(held))
            self._pair_of[profile][row] = pair
            held.append(pair)

    def pair_rows(self, slot: int) -> list[int]:
        """The rows of pairs of its metrics, in their order; a source with one metric has none."""
        return self._pairs.get(slot, [])

    def pairs_of(self, profile: int, rows: Sequence[int]) -> list[int]:
        """The rows of pairs of these rows of metrics; NONE where there is none."""
        known = self._pair_of[profile]
        return [known.get(row, NONE) for row in rows]

    def add_values(self, slots: np.ndarray) -> bool:
        """Give each of these slots a row for the metric "value", all at once.

        False, without any change, when a slot without such a row has other metrics: it may be at its limit.
        """
        new = slots[self.value_row[slots] == NONE]
        if not len(new):
            return True
        new = np.unique(new)
        if self._metrics and not self._metrics.keys().isdisjoint(new.tolist()):
            return False
        for number in np.unique(self.profile[new]).tolist():
            of = new[self.profile[new] == number]
            self.value_row[of] = self._empty_rows(number, len(of))
        return True

    def _empty_rows(self, profile: int, number: int) -> list[int]:
        free = self._free_rows[profile]
        found = [free.pop() for _ in range(min(number, len(free)))]
        if more := number - len(found):
            first = self.cells[profile].add(more)
            found += range(first, first + more)
            for models in self.models[profile]:
                models.extend([None] * more)
        return found

    def renew(self, slot: int, metrics: list[str]) -> list[int]:
        """Give the source exactly these metrics, in this order; returns their rows, all empty."""
        profile = int(self.profile[slot])
        for row in self.metrics(slot).values():
            self.cells[profile].clear(row)
            for models in self.models[profile]:
                models[row] = None
            self._free_rows[profile].append(row)
            self._pair_of[profile].pop(row, None)
        for pair in self._pairs.pop(slot, ()):
            self.pairs.clear(pair)
            self._free_pairs.append(pair)
        self._metrics.pop(slot, None)
        self.value_row[slot] = self.joint_row[slot] = NONE
        for metric in metrics:
            self.add_metric(slot, metric)
        return list(self.metrics(slot).values())

    def restart(self, slot: int) -> None:
        """Reset the source, as if it had never been seen."""
        self.renew(slot, [])
        self.rows.clear(slot)
        self.open.discard(slot)

    def drop(self, slot: int) -> None:
        """Remove the source; its slot and rows are emptied and free for others."""
        self.restart(slot)
        del self.slots[self.names[slot]]
        self.names[slot] = ""
        self._free.append(slot)
