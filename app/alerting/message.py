"""The text of a notification: what happened, how severe, since when, what was usual before, and how it ended.

A ``Message`` is text without a format. All of it that comes from data is cleaned (``clean``): one line of bounded
length, no control characters, nothing that reverses the direction of writing. The channels escape it for HTML, Slack
and others.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from app.scoring.severity import NAMES as SEVERITIES
from app.wire import episodes
from app.wire.episodes import SILENT, Event, Numbers
from app.wire.notifications import News, Notification

WORST = 10  # episodes of a digest that are named
TITLE, TEXT, NAME = 200, 400, 80  # characters: of a title, of a line, of a name in a title
MOST_VOTES = MOST_LABELS = 8

KINDS = {  # docs/records.md: kinds of episodes
    "value": "a value unlike the expected one",
    "record": "a value beyond all before",
    "season": "unusual at this time",
    "level": "another level",
    "noise": "the values scatter",
    "stuck": "the value does not change",
    "missing": "what happens at this time has not happened",
    "rate": "rises faster or slower than usual",
    "pair": "two metrics have parted",
    "drift": "the values move away slowly",
    "pause": "no point for longer than usual",
    "silent": "the source sends nothing",
    "external": "another program reports it",
}
REASONS = {  # docs/records.md: why an episode ended
    "recovered": "the points are usual again",
    "adapted": "it goes on, and has become the new normal",
    "silence": "the source sent nothing any more",
    "returned": "it sends again",
    "forgotten": "it is not expected any more",
}
BEGINS = {"opened": "", "raised": "raised to ", "repeated": "still "}  # of a title, before the severity
VERBS = {"opened": "opened", "raised": "became worse", "repeated": "are still open"}  # of a digest
TITLES = {
    "channel_down": "A channel of alerts is down",
    "channel_up": "A channel of alerts is back",
    "test": "A test of this channel: nothing is wrong",
}


class Links(Protocol):
    """The part of a channel's context that a message needs."""

    def link(self, event: Event) -> str:
        """The page of the view about an event; "" without a view."""


@dataclass(frozen=True)
class Item:
    """One episode of a digest."""

    text: str
    severity: str
    link: str


@dataclass(frozen=True)
class Message:
    """The text of one notification.

    ``title`` is one line of at most 200 characters; ``severity`` the worst of the open episodes, "" if none is;
    ``lines`` are (label, text); ``items`` the worst of a digest, ``more`` how many are not among them.
    """

    title: str
    severity: str = ""
    text: str = ""
    lines: tuple[tuple[str, str], ...] = ()
    items: tuple[Item, ...] = ()
    more: int = 0
    link: str = ""

    @classmethod
    def of(cls, notification: Notification, context: Links) -> Message:
        if notification.about != "episodes":
            return cls(TITLES[notification.about], text=clean(notification.text, 4 * TEXT))
        if len(notification.news) == 1:
            return _of_one(notification.news[0], context)
        return _of_many(notification.news, context)

    def plain(self) -> str:
        """Plain text: title, sentence, and one line for each other part."""
        width = max((len(label) for label, _ in self.lines), default=0)
        shown = [self.title]
        if self.text:
            shown += ["", self.text]
        if self.lines:
            shown += ["", *(f"{label.ljust(width)}  {text}" for label, text in self.lines)]
        if self.items:
            shown += ["", *(f"- {item.text}" for item in self.items)]
            shown += [f"- and {self.more:,} more"] if self.more else []
        if self.link:
            shown += ["", self.link]
        return "\n".join(shown) + "\n"


# --- one episode


def _of_one(news: News, context: Links) -> Message:
    event, closed = news.event, news.why == "closed"
    about = news.began if closed else event  # sentence and votes are of this event
    lines = [*(_end(news) if closed else _state(news)), ("kind", _kind(event))]
    if about:
        lines.append(("votes", _shares(about.detectors)))
        lines.append(("metrics", _shares(about.attribution) if len(about.attribution) > 1 else ""))
    lines += [("labels", _labels(event.labels)), ("episode", event.episode)]
    cleaned = tuple((label, clean(text, TEXT)) for label, text in lines if text)
    text = clean(about.explanation, TEXT) if about else ""
    return Message(headline(news), "" if closed else event.severity, text, cleaned, link=context.link(event))


def _kind(event: Event) -> str:
    return f"{event.kind}: {KINDS[event.kind]}" if event.kind in KINDS else event.kind


def headline(news: News) -> str:
    """One line: critical: pump-7 temperature is 90.44, expected 50.02."""
    event, name = news.event, _series(news.event)
    if news.why == "closed":
        if event.reason == "returned":
            return clean(f"{name} sends again after {duration(event.timestamp - event.opened_at)}", TITLE)
        why = f" ({event.reason})" if event.reason else ""
        return clean(f"ended: {name} after {duration(event.timestamp - event.opened_at)}{why}", TITLE)
    said = f"{BEGINS[news.why]}{event.severity}: {name}"
    if event.kind == SILENT and news.why != "opened":
        return clean(f"{said}: nothing since {moment(event.opened_at)}", TITLE)
    if event.value is not None:
        expected = f", expected {number(event.expected)}" if isinstance(event.expected, float | int) else ""
        return clean(f"{said} is {number(event.value)}{expected}", TITLE)
    return clean(f"{said}: {event.explanation or KINDS.get(event.kind, event.kind)}", TITLE)


def _state(news: News) -> list[tuple[str, str]]:
    """Of an episode that is open."""
    event, began = news.event, news.began
    if event.kind == SILENT:
        return [("severity", event.severity), ("since", moment(event.opened_at))]
    was = f", {began.severity} when it opened" if began and began.severity != event.severity else ""
    lasted = duration(event.timestamp - event.opened_at)
    so_far = f", for {lasted} and {many(event.points, 'point')} so far" if event.points > 1 else ""
    return [
        ("severity", f"{event.severity}{was}; highest alert score {event.peak_score:.2f} of 1"),
        *_numbers(event),
        ("since", f"{moment(event.opened_at)}{so_far}"),
        ("before", _before(event)),
    ]


def _end(news: News) -> list[tuple[str, str]]:
    event = news.event
    reason = REASONS.get(event.reason, event.reason) or "no reason was given"
    lasted = duration(event.timestamp - event.opened_at)
    if event.kind == SILENT:
        return [
            ("ended", f"{moment(event.timestamp)}: {reason}"),
            ("lasted", f"{lasted}, since {moment(event.opened_at)}"),
        ]
    began = _numbers(news.began) if news.began else []
    return [
        ("ended", f"{moment(event.timestamp)}: {reason}"),
        ("lasted", f"{lasted}, {many(event.points, 'point')}, since {moment(event.opened_at)}"),
        ("peak", f"{event.severity}; highest alert score {event.peak_score:.2f} of 1"),
        ("now", _now(event)),
        *((f"{label} then", text) for label, text in began),
    ]


def _now(event: Event) -> str:
    """The first point after an episode, if there was one."""
    if event.value is None:
        return dict(_numbers(event))["values"]
    expected = f", expected {number(event.expected)}" if isinstance(event.expected, float | int) else ""
    return number(event.value) + expected


def _numbers(event: Event) -> list[tuple[str, str]]:
    """Value against expected, and by how much."""
    if event.value is None:
        worst = sorted(event.values, key=lambda metric: -event.attribution.get(metric, 0.0))
        each = [f"{metric} {_against(event, metric)}" for metric in worst[:MOST_VOTES]]
        return [
            ("values", "; ".join(each) + (f"; and {len(worst) - len(each)} more" if len(worst) > len(each) else ""))
        ]
    found = [("value", number(event.value))]
    if isinstance(expected := event.expected, float | int):
        difference = event.value - expected
        share = f" ({abs(difference / expected):.0%})" if expected and abs(difference / expected) < 100 else ""
        side = "above" if difference >= 0 else "below"
        found += [
            ("expected", number(expected) + _band(event.expected_lower, event.expected_upper)),
            ("difference", f"{number(abs(difference))} {side} the expected{share}"),
        ]
    return found


def _against(event: Event, metric: str) -> str:
    expected, lower, upper = (_at(one, metric) for one in (event.expected, event.expected_lower, event.expected_upper))
    said = f" (expected {number(expected)}{_band(lower, upper)})" if expected is not None else ""
    return number(event.values[metric]) + said


def _at(numbers: Numbers, metric: str) -> float | None:
    return numbers.get(metric) if isinstance(numbers, Mapping) else None


def _band(lower: Numbers, upper: Numbers) -> str:
    both = isinstance(lower, float | int) and isinstance(upper, float | int)
    return f", between {number(lower)} and {number(upper)}" if both else ""  # type: ignore[arg-type]


def _before(event: Event) -> str:
    """What it was like before: what the sentence says of it, and how far this is from that."""
    usual = event.explanation.partition("; ")[2]
    if usual.startswith(("the usual error", "the usual distance")) and event.figure and event.usual:
        return f"{usual}: this is {number(abs(event.figure / event.usual))} times that"
    counted = " of all " in event.explanation  # of a record, whose usual is a number of days
    return usual or (number(event.usual) if event.usual is not None and not counted else "")


# --- many


def _of_many(news: list[News], context: Links) -> Message:
    began = [one for one in news if one.why != "closed"]
    counts = Counter(one.event.severity for one in began)
    bad = [f"{counts[severity]:,} {severity}" for severity in reversed(SEVERITIES) if counts[severity]]
    ended = len(news) - len(began)
    what = []
    if began:
        whys = {one.why for one in began}
        verb = VERBS[whys.pop()] if len(whys) == 1 else "open"
        span = _within(began) if verb == "opened" else ""
        what.append(f"{many(len(began), 'episode')} {verb}{span}: {', '.join(bad)}")
    if ended:
        what.append(f"{ended:,} ended" if began else f"{many(ended, 'episode')} ended")
    named = [*began, *(one for one in news if one.why == "closed")][:WORST]
    items = tuple(_item(one, context) for one in named)
    lines = [
        ("kinds", _counted(one.event.kind for one in news)),
        ("sources", _counted(one.event.source for one in news)),
        ("all of", _common(news)),
    ]
    severity = next((one for one in reversed(SEVERITIES) if counts[one]), "")
    cleaned = tuple((label, clean(text, TEXT)) for label, text in lines if text)
    title = clean("; ".join(what), TITLE)
    return Message(title, severity, lines=cleaned, items=items, more=len(news) - len(items))


def _within(news: list[News]) -> str:
    times = [one.event.opened_at for one in news]
    span = max(times) - min(times)
    return f" in {duration(span)}" if span >= 1.0 else ""


def _item(news: News, context: Links) -> Item:
    event, closed = news.event, news.why == "closed"
    sentence = f"{BEGINS.get(news.why, '')}{event.severity}: {_series(event)}: {event.explanation}"
    text = headline(news) if closed or not event.explanation else clean(sentence, TITLE + TEXT)
    return Item(text, "" if closed else event.severity, context.link(event))


def _counted(names: Iterable[str]) -> str:
    """pump-7 12, pump-9 3, and 140 others; the most frequent first."""
    counts = Counter(names)
    shown = [f"{clean(name, NAME)} {count:,}" for name, count in counts.most_common(5)]
    return ", ".join(shown) + (f", and {len(counts) - 5:,} others" if len(counts) > 5 else "")


def _common(news: list[News]) -> str:
    """Labels that all of them have."""
    first, *others = [one.event.labels for one in news]
    common = {name: value for name, value in first.items() if all(labels.get(name) == value for labels in others)}
    return _labels(common)


# --- parts


def _labels(labels: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={episodes.text(value)}" for name, value in [*labels.items()][:MOST_LABELS])


def _series(event: Event) -> str:
    return clean(event.source, NAME) + (f" {clean(event.metric, NAME)}" if event.metric else "")


def _shares(scores: Mapping[str, float]) -> str:
    """residual 0.83, novelty 0.7, and 3 others: the highest first."""
    ordered = sorted(scores.items(), key=lambda one: -one[1])
    shown = [f"{clean(name, NAME)} {score:.2f}" for name, score in ordered[:MOST_VOTES]]
    return ", ".join(shown) + (f", and {len(ordered) - MOST_VOTES} others" if len(ordered) > MOST_VOTES else "")


def many(count: int, what: str) -> str:
    """1 point, 2,000 points."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def number(value: float) -> str:
    """Four significant figures, and every digit before the point, as in the sentences of episodes.

    >>> number(90.4406), number(250218.0), number(0.00012345)
    ('90.44', '250218', '0.0001234')
    """
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def moment(time: float) -> str:
    """UTC, ISO 8601.

    >>> moment(1698399460.25), moment(1698399460.0)
    ('2023-10-27T09:37:40.250Z', '2023-10-27T09:37:40Z')
    """
    try:
        shown = datetime.fromtimestamp(round(time, 3), UTC)
    except (OverflowError, ValueError, OSError):
        return f"{time:.3f} s after 1970"
    return shown.isoformat(timespec="milliseconds" if shown.microsecond else "seconds").replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """The two largest units.

    >>> duration(200), duration(0.25), duration(7200), duration(90061), duration(59.7)
    ('3 min 20 s', '0.25 s', '2 h', '1 d 1 h', '1 min')
    """
    if not 10.0 <= seconds < 1e12:  # of times that cannot be right too
        return f"{max(seconds, 0.0):.2g} s"
    left = round(min(seconds, 1e15))
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(filter(None, parts[:2]))


def clean(text: str, most: int) -> str:
    r"""One line of at most ``most`` characters, with what a reader would not see shown, or left out.

    Controls and ends of lines become \\n, \\x1b; characters without a shape, as those that reverse the direction of
    writing, are left out.

    >>> clean("pump\n7\x1b[31m", 80), clean("a\u202ecod.exe", 80), clean("x" * 9, 5)
    ('pump\\n7\\x1b[31m', 'acod.exe', 'xxxx…')
    """
    text = text[: 4 * most]  # what is longer is cut anyway
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_shown, text))
    return text if len(text) <= most else text[: most - 1] + "…"


def _shown(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cc", "Zl", "Zp"):
        return character.encode("unicode_escape").decode()
    if category == "Cf":
        return character if character in "\u200c\u200d" else ""  # joiners: Persian, emoji
    return "\ufffd" if category == "Cs" else character
