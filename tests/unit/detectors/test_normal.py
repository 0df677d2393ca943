from statistics import NormalDist

import pytest

from app.detectors.support.normal import FARTHEST, deviations


def test_it_inverts_the_normal_distribution():
    for share in [i / 1000 for i in range(1, 1000)] + [1.0 - 2.0**-i for i in range(1, 54)]:
        assert deviations(share) == pytest.approx(-NormalDist().inv_cdf((1.0 - share) / 2.0), rel=1e-13), share


@pytest.mark.parametrize(
    ("share", "z"), [(0.6826894921370859, 1.0), (0.9544997361036416, 2.0), (0.9973002039367398, 3.0)]
)
def test_known_shares(share, z):
    assert deviations(share) == pytest.approx(z, rel=1e-14)


def test_it_is_exact_near_nothing_finite_at_everything_and_never_falls():
    assert deviations(0.0) == deviations(-1.0) == 0.0
    assert deviations(1e-17) == pytest.approx(1e-17 * 1.2533141373155001, rel=1e-14)
    assert deviations(1.0) == deviations(2.0) == FARTHEST > deviations(1.0 - 2.0**-53)
    shares = sorted([i / 9973 for i in range(9973)] + [1.0 - 2.0**-i for i in range(54)])
    found = [deviations(share) for share in shares]
    assert found == sorted(found)


def test_what_is_no_number_stays_none():
    found = deviations(float("nan"))
    assert found != found
