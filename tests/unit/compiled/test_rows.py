import numpy as np
import pytest

from app.compiled import rows

KIND = rows.dtype([("at", "i8"), ("x", "f8", (100,))])
MANY = 3 * rows.MAPPED // KIND.itemsize


@pytest.mark.parametrize("watched", [False, True])
def test_rows_stay_as_they_are_while_their_array_grows(watched):
    """Over the size from which on they are mapped, and while somebody looks at them."""
    held = rows.ArrayRows(KIND)
    views = []
    while held.count < MANY:
        first = held.add(1000)
        assert first == held.count - 1000 and not held.data["at"][first : held.count].any()
        held.data["at"][first : held.count] = np.arange(first, held.count)
        held.data["x"][first : held.count, 7] = 0.5
        if watched:
            views.append(held.data[:first])
    assert np.array_equal(held.column("at"), np.arange(held.count)) and (held.data["x"][: held.count, 7] == 0.5).all()
    assert all(np.array_equal(view["at"], np.arange(len(view))) for view in views[::7])
    assert held.nbytes == held.count * KIND.itemsize > rows.MAPPED
