"""The picture in messages: what is where, and that no data breaks it."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor
from support.messages import PUMP, event

from app.alerting.chart import BAND, EXPECTED, HEIGHT, INK, MARK, SCALE, WIDTH, chart, read

END = PUMP.timestamp


def results(values, step_s=10.0, **more):
    last = len(values) - 1
    return [
        {"timestamp": END - step_s * (last - i), "value": value, "expected": 50.0, "expected_lower": 40.0,
         "expected_upper": 60.0, "is_anomaly": i == last, "episode": PUMP.episode if i == last else "", **more}
        for i, value in enumerate(values)
    ]  # fmt: skip


def pixels(picture):
    """Color -> (columns, rows) of its pixels in the plot."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    assert image.size == (WIDTH * SCALE, HEIGHT * SCALE)
    found = {}
    for color in (INK, EXPECTED, BAND, MARK):
        down, across = np.nonzero((np.asarray(image) == ImageColor.getrgb(color)).all(axis=2))
        below = down > 24 * SCALE  # the legend
        found[color] = across[below], down[below]
    return found


def test_what_is_where():
    found = pixels(chart(results([50.0, 52.0, 49.0, 51.0, 90.0]), PUMP))
    assert all(len(across) for across, _ in found.values())
    (across, down), (_, band) = found[MARK], found[BAND]
    assert min(across) > 0.95 * WIDTH * SCALE and max(down) < 0.4 * HEIGHT * SCALE
    assert min(band) > max(down)  # the anomaly is above it
    assert len(chart(results([50.0] * 300), PUMP)) < 20_000


def test_a_band_that_is_far_wider_than_the_values_leaves_them_readable():
    wide = [
        {**one, "expected": 1.5, "expected_lower": -1e9, "expected_upper": 1e9} for one in results([1.0, 2.0, 1.0, 2.0])
    ]
    _, rows = pixels(chart(wide, PUMP))[INK]
    assert max(rows) - min(rows) > 0.3 * HEIGHT * SCALE


def test_no_line_is_drawn_over_a_pause():
    before = [one | {"timestamp": one["timestamp"] - 1000.0} for one in results([50.0, 60.0, 50.0, 60.0])]
    across, _ = pixels(chart([*before, *results([50.0, 60.0, 50.0, 60.0])], PUMP))[INK]
    assert not any(0.3 < column / (WIDTH * SCALE) < 0.8 for column in across)


def test_both_shapes_of_results_and_vectors_are_read():
    plain = read(results([50.0, 51.0]), PUMP)
    shaped = [
        {**one, "timestamp": f"2023-10-27T09:37:{30 + 10 * i}Z", "values": {"temperature": one.pop("value")}}
        | {name: {"temperature": one[name]} for name in ("expected", "expected_lower", "expected_upper")}
        for i, one in enumerate(results([50.0, 51.0]))
    ]
    assert read(shaped, PUMP) == plain
    vector = event(metric="", value=None, values={"cpu": 1.0, "memory": 2.0}, attribution={"cpu": 0.9, "memory": 0.2})
    rows = [{"timestamp": END, "values": {"cpu": 7.0, "memory": 8.0}, "expected": {"cpu": 6.0}}, {"timestamp": END}]
    assert [(one.value, one.expected, one.lower) for one in read(rows, vector)] == [(7.0, 6.0, None)]


@pytest.mark.parametrize("values", [[], [1.0], [1e308, -1e308], [float("nan")] * 3])
def test_what_cannot_be_drawn(values):
    assert chart(results(values), PUMP) is None


def test_points_of_one_time_cannot_be_drawn():
    assert chart(results([1.0, 2.0], step_s=0.0), PUMP) is None


numbers = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.sampled_from([0.0, 1e-300, 1e300, -1e15])


@settings(max_examples=30)
@given(st.lists(st.tuples(numbers, numbers | st.none(), numbers | st.none()), min_size=2, max_size=6))
def test_no_data_breaks_it(rows):
    given = [
        {"timestamp": float(i), "value": value, "expected": expected, "expected_lower": lower, "expected_upper": lower}
        for i, (value, expected, lower) in enumerate(rows)
    ]
    picture = chart(given, PUMP)
    assert picture is None or picture.startswith(b"\x89PNG")
