"""The state of the topic of decisions: acknowledgements, feedback, silences, and overdue series found by workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.alerting.matchers import Matchers
from app.errors import AnomalyError, StateError
from app.wire import decisions, external, overdue
from app.wire.decisions import Acknowledgement, Feedback, Silence
from app.wire.overdue import Overdue


@dataclass(frozen=True)
class _Silenced:
    silence: Silence
    matchers: Matchers


class CurrentDecisions:
    """All decisions in force. ``version`` changes with them, ``overdue_version`` with the overdue series."""

    def __init__(self) -> None:
        self.version = 0
        self.acknowledged: dict[str, Acknowledgement] = {}  # by episode
        self.feedback: dict[str, Feedback] = {}  # by episode
        self.overdue: dict[int, Overdue] = {}  # by partition of the scored topic
        self.overdue_version = 0
        self._silences: dict[str, _Silenced] = {}  # by key
        self._receiver_silences: dict[str, list[_Silenced]] = {}  # by channel: silences that its receiver has

    def take(self, key: bytes | None, value: bytes | None) -> None:
        """Take one record, in the order of the topic. Raises StateError if it is not a decision."""
        name = (key or b"").decode("utf-8", "replace")
        if overdue.is_key(key):
            self._take_overdue(name, value)
            return
        if external.is_key(key):
            return  # state of reported episodes: app/alerting/external.py
        if value is None:
            self.version += 1
            kind, _, of = name.partition("/")
            self._silences.pop(name, None)
            if kind == "acknowledgement":
                self.acknowledged.pop(of, None)
            elif kind == "feedback":
                self.feedback.pop(of, None)
            return
        match decisions.decode(value):
            case Acknowledgement() as found:
                self.acknowledged[found.episode] = found
            case Feedback() as found:
                self.feedback[found.episode] = found
            case Silence() as found:
                matchers = Matchers.of(found.matchers)
                if matchers.matches({}):
                    raise StateError(
                        f"a silence must have a matcher that does not match everything, got {found.matchers}"
                    )
                self._silences[found.key] = _Silenced(found, matchers)
        self.version += 1

    def _take_overdue(self, name: str, value: bytes | None) -> None:
        if value is not None:
            of = overdue.decode(value)
            self.overdue[of.partition] = of
        elif (number := name.removeprefix(overdue.PREFIX)).isdecimal():
            self.overdue.pop(int(number), None)
        self.overdue_version += 1

    def set_receiver_silences(self, channel: str, silences: Iterable[Silence]) -> None:
        """Replace the silences that the receiver of a channel has, such as Alertmanager's own."""
        known = [one.silence for one in self._receiver_silences.get(channel, [])]
        found = []
        for silence in silences:
            try:
                found.append(_Silenced(silence, Matchers.of(silence.matchers)))
            except AnomalyError:
                continue  # syntax of a newer version: it silences only there
        if [one.silence for one in found] != known:
            self._receiver_silences[channel] = found
            self.version += 1

    def silences(self) -> list[Silence]:
        """All of them, also ended ones."""
        every = [*self._silences.values(), *(one for of in self._receiver_silences.values() for one in of)]
        return [one.silence for one in every]

    def silence(self, labels: Mapping[str, str], at: float, channel: str = "") -> Silence | None:
        """The silence that matches these labels at this time and ends last, or None.

        Silences that the receiver of ``channel`` itself has do not count: the receiver applies them.
        """
        others = (one for name, of in self._receiver_silences.items() if name != channel for one in of)
        every = [*self._silences.values(), *others]
        covering = [
            one.silence
            for one in every
            if one.silence.starts_at <= at < one.silence.ends_at and one.matchers.matches(labels)
        ]
        return max(covering, key=lambda one: one.ends_at, default=None)
