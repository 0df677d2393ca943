import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.compiled import jit, numeric
from app.compiled.numeric import exp, log, rounded, single

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.floats(min_value=0.0, exclude_min=True, allow_infinity=False, allow_subnormal=False))
def test_log_is_the_libraries_within_two_units_in_the_last_place(x):
    assert abs(numeric.log(x) - math.log(x)) <= 2 * math.ulp(math.log(x))


@given(st.floats(-708.0, 709.0))
def test_exp_is_the_libraries_within_two_units_in_the_last_place(x):
    assert abs(numeric.exp(x) - math.exp(x)) <= 2 * math.ulp(math.exp(x))


def test_log_and_exp_answer_at_their_edges():
    assert numeric.log(0.0) == -math.inf and math.isnan(numeric.log(-1.0)) and numeric.log(math.inf) == math.inf
    assert numeric.exp(-1e4) == 0.0 and numeric.exp(1e4) == math.inf and math.isnan(numeric.exp(math.nan))
    assert numeric.exp(0.0) == 1.0 and numeric.log(1.0) == 0.0


def all_of(x):
    return log(abs(x)), exp(x), rounded(x), single(x)


def test_compiled_code_has_the_same_bits():
    both = jit.compiled(all_of)
    for x in [0.0, 1e-310, 0.3, 1.0, 2.5, 55.5, 700.0, -700.0, -0.1, 1e300, *near_ties()]:
        assert both(x) == all_of(x)
    assert both.signatures, "it was compiled"


def test_a_deviation_counts_standard_deviations_with_a_sign():
    assert numeric.deviation(13.0, 10.0, 2.0) == 1.5
    assert numeric.deviation(7.0, 10.0, 2.0) == -1.5


def test_a_deviation_from_a_constant_is_cut_and_none_is_none():
    assert numeric.deviation(5.0, 5.0, 0.0) == 0.0 and numeric.deviation(0.0, 0.0, 0.0) == 0.0
    assert numeric.deviation(1e-300, 0.0, 0.0) == 1e9 and numeric.deviation(-1.0, 0.0, 0.0) == -1e9
    assert numeric.deviation(1e9 + 1.0, 1e9, 0.0) == pytest.approx(1.0), "noise of rounding is no scale"


@given(st.floats(-1e150, 1e150), st.floats(-1e150, 1e150), st.floats(0.0, 1e151))
def test_a_deviation_is_always_finite(x, mean, std):
    assert abs(numeric.deviation(x, mean, std)) <= numeric.MAX_DEVIATION


@given(finite)
def test_whole_numbers_are_cut_not_wrapped(x):
    assert numeric.whole(x) == int(max(-(2.0**53), min(2.0**53, x)))


def test_what_is_not_finite_has_no_whole_part():
    assert [numeric.whole(v) for v in (math.nan, math.inf, -math.inf)] == [0, 0, 0]


@given(st.floats(0.0, 1.0))
def test_scores_are_rounded_to_six_decimals(score):
    assert abs(numeric.rounded(score) - score) <= 5.000001e-7
    assert numeric.rounded(numeric.rounded(score)) == numeric.rounded(score)
    assert len(repr(numeric.rounded(score))) <= 8 or "e" in repr(numeric.rounded(score))


def near_ties():
    """Numbers halfway between two of single precision, and the nearest ones on both sides of these."""
    for exponent in range(-120, 126, 7):
        for odd in (1.0, 1.0 + 2.0**-23, 2.0 - 2.0**-23):
            half = math.ldexp(odd + 2.0**-24, exponent)
            yield from (half, math.nextafter(half, 0.0), math.nextafter(half, math.inf), math.ldexp(odd, exponent))


@given(st.one_of(st.floats(1e-37, 3e38), st.floats(0.0, 1.0).map(lambda u: 10.0 ** (75.0 * u - 37.0))))
def test_single_rounds_as_a_field_of_single_precision_does(x):
    assert numeric.single(x) == float(np.float32(x)) and numeric.single(-x) == -numeric.single(x)


def test_single_rounds_ties_to_even_at_every_magnitude():
    for x in near_ties():
        assert numeric.single(x) == float(np.float32(x)), x.hex()


def test_single_cuts_what_single_precision_has_not():
    largest = float(np.float32(3e38))
    assert [numeric.single(x) for x in (1e39, 1e300, math.inf, -math.inf)] == [largest, largest, largest, -largest]
    assert [numeric.single(x) for x in (0.0, -0.0, 9e-38, -1e-300)] == [0.0] * 4


def test_single_of_a_single_is_itself():
    """So a field that is read and written back keeps its bits."""
    some = np.random.default_rng(1).integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        size = np.abs(some.astype(np.float64))
    for x in some[(size >= 1e-37) & (size <= 3e38)].tolist():
        assert numeric.single(x) == x


def test_a_rounding_that_only_cuts_bits_is_seen_to_differ():
    """The negative control."""

    def cut(x):
        return float((np.float64(x).view(np.uint64) >> np.uint64(29) << np.uint64(29)).view(np.float64))

    assert any(cut(x) != float(np.float32(x)) for x in near_ties())
