"""A small picture of the last points of a series, for messages: values, what was expected with its band, the episode.

A PNG of 1120 by 320 pixels, to be shown at half that size, so that it is sharp on every screen.
"""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, NamedTuple

from app.alerting.message import number
from app.state.sources import VALUE
from app.wire.episodes import Event, seconds

WIDTH, HEIGHT = 560, 160  # as it is shown
SCALE = 2
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 24, 20  # around the plot
MOST_POINTS = 300
MANY = 20  # points of the episode: above it they are drawn smaller
GAP = 5.0  # times the usual distance of two points: no line is drawn
WHITE, GRID, INK, GREY = "#ffffff", "#e4e7eb", "#1f2933", "#616e7c"
BAND, EXPECTED, SPAN, MARK = "#d6e4f5", "#4a7fc1", "#fdecea", "#c8102e"


class ChartPoint(NamedTuple):
    """None: unknown."""

    time: float
    value: float
    expected: float | None
    lower: float | None
    upper: float | None
    anomalous: bool


def chart(results: Iterable[Mapping[str, Any]], event: Event) -> bytes | None:
    """The picture of results of the event's series, oldest first; None if they are too few, or cannot be drawn.

    Of several metrics that are scored together, the one with the highest attribution is shown.
    """
    points = read(results, event)[-MOST_POINTS:]
    levels = [level for point in points for level in (point.value, point.expected) if level is not None]
    if len(points) < 2 or points[0].time >= points[-1].time or not math.isfinite(max(levels) - min(levels)):
        return None
    return _draw(points, levels, event)


def metric_of(event: Event) -> str:
    """The metric that is shown."""
    scores = event.attribution if event.values and event.attribution else event.values
    return max(scores, key=lambda name: scores[name]) if event.values else event.metric or VALUE


def read(results: Iterable[Mapping[str, Any]], event: Event) -> list[ChartPoint]:
    """The points of results in either shape of the settings (``output``); those without a value are left out."""
    metric, found = metric_of(event), []
    for result in results:
        value = result.get("value", result.get("values", {}).get(metric))
        if isinstance(value, float | int):
            expected, lower, upper = (
                _at(result.get(name), metric) for name in ("expected", "expected_lower", "expected_upper")
            )
            anomalous = bool(result.get("is_anomaly")) and result.get("episode") == event.episode
            found.append(ChartPoint(seconds(result["timestamp"]), float(value), expected, lower, upper, anomalous))
    return found


def _at(given: Any, metric: str) -> float | None:
    given = given.get(metric) if isinstance(given, Mapping) else given
    return float(given) if isinstance(given, float | int) else None


def _draw(points: Sequence[ChartPoint], levels: Sequence[float], event: Event) -> bytes:
    from PIL import Image, ImageDraw, ImageFont  # here: a tenth of a second, for those who send charts

    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), WHITE)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11 * SCALE)
    low, high = _range(points, levels)
    first, last = points[0].time, points[-1].time
    left, right, top, bottom = (edge * SCALE for edge in (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM))

    def x(time: float) -> float:
        return left + (right - left) * (min(max(time, first), last) - first) / (last - first)

    def y(level: float) -> float:
        return bottom - (bottom - top) * (min(max(level, low), high) - low) / (high - low)

    if event.opened_at <= last:
        end = event.timestamp if event.event == "closed" else last
        draw.rectangle((x(event.opened_at), top, max(x(end), x(event.opened_at) + SCALE), bottom), fill=SPAN)
    for level in _ticks(low, high):
        draw.line((left, y(level), right, y(level)), fill=GRID, width=SCALE // 2)
        draw.text((left - 5 * SCALE, y(level)), number(level), fill=GREY, font=font, anchor="rm")
    usual = statistics.median(b.time - a.time for a, b in pairwise(points))
    steps = [(a, b) for a, b in pairwise(points) if b.time - a.time <= GAP * max(usual, (last - first) / WIDTH)]
    for a, b in steps:
        if None not in (a.lower, a.upper, b.lower, b.upper):
            draw.polygon(_band(a, b, x, y), fill=BAND)
    for name, color, width in (("expected", EXPECTED, 3), ("value", INK, 3)):
        for a, b in steps:
            begin, until = getattr(a, name), getattr(b, name)
            if begin is not None and until is not None:
                draw.line((x(a.time), y(begin), x(b.time), y(until)), fill=color, width=width, joint="curve")
    radius = (3.0 if sum(point.anomalous for point in points) <= MANY else 1.75) * SCALE
    for point in points:
        if point.anomalous:
            across, down = x(point.time), y(point.value)
            draw.ellipse((across - radius, down - radius, across + radius, down + radius), fill=MARK)
    _legend(draw, font, left)
    for time, at, anchor in ((first, left, "lb"), (last, right, "rb")):
        draw.text((at, HEIGHT * SCALE - 3 * SCALE), _moment(time, last - first), fill=GREY, font=font, anchor=anchor)
    out = io.BytesIO()
    image.quantize(64, Image.Quantize.FASTOCTREE).save(out, "PNG")
    return out.getvalue()


def _range(points: Sequence[ChartPoint], levels: Sequence[float]) -> tuple[float, float]:
    """The axis: all values, and as much of the band as leaves them readable."""
    low, high = min(levels), max(levels)
    span = high - low or abs(high) * 0.1 or 1.0
    bands = [edge for point in points for edge in (point.lower, point.upper) if edge is not None]
    low, high = (
        min([low, *(max(edge, low - 0.5 * span) for edge in bands)]),
        max([high, *(min(edge, high + 0.5 * span) for edge in bands)]),
    )
    room = 0.08 * (high - low or span)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers between them."""
    step = 10.0 ** math.floor(math.log10((high - low) / 2.0))
    step *= next(of for of in (5.0, 2.0, 1.0) if (high - low) / (step * of) >= 2.0)
    return [count * step for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _band(
    a: ChartPoint, b: ChartPoint, x: Callable[[float], float], y: Callable[[float], float]
) -> list[tuple[float, float]]:
    edges = (a.time, a.lower), (b.time, b.lower), (b.time, b.upper), (a.time, a.upper)
    return [(x(time), y(level)) for time, level in edges if level is not None]


def _legend(draw: Any, font: Any, left: float) -> None:
    at, middle = left, 11 * SCALE
    shapes = {"value": (INK, 16, 2), "expected": (EXPECTED, 16, 2), "its band": (BAND, 16, 9), "episode": (MARK, 6, 6)}
    for text, (color, width, height) in shapes.items():
        shape = draw.ellipse if width == height else draw.rectangle
        half = height * SCALE / 2
        shape((at, middle - half, at + width * SCALE, middle + half), fill=color)
        at += (width + 5) * SCALE
        draw.text((at, middle), text, fill=GREY, font=font, anchor="lm")
        at += draw.textlength(text, font) + 16 * SCALE


def _moment(time: float, span: float) -> str:
    form = "%Y-%m-%d %H:%M:%S" if span < 7 * 86400.0 else "%Y-%m-%d %H:%M"
    return datetime.fromtimestamp(time, UTC).strftime(form) + " UTC"
