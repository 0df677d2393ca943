"""What the default settings reach on public data, by the program's own commands; and that two scorers agree."""

import json

import pytest
from data import DATA, needs_data

from tests.evaluate.figures import on_data, on_shipped, program, shown


def test_the_default_reaches_its_floors_on_the_series_that_ship():
    found = on_shipped()
    assert found["windows"] == 13
    assert found["nab"]["standard"] >= 48 and found["nab"]["reward_low_FP_rate"] >= 45
    assert found["hit"] >= 8 and found["false_alerts_per_1000"] <= 5.2


@pytest.fixture(scope="module")
def given():
    """What the given scorer says of the default settings."""
    return on_data(DATA)


@needs_data
def test_evaluate_says_of_nab_what_the_given_scorer_says(given):
    folder = DATA / "dev" / "nab"
    told = program("evaluate", folder, "--labels", folder / "windows.json", "--json").stdout
    total = json.loads(told)["default"]["total"]
    assert {name: round(score, 2) for name, score in total["nab"].items()} == given["nab"]
    assert round(total["false_alerts_per_1000"], 3) == given["fixed"]["false_alerts_per_1000"]
    assert f"{total['hit']}/{total['windows']}" == given["fixed"]["nab_windows_hit"]


@needs_data
def test_a_row_of_the_table_shows_what_the_scorer_says(given):
    row = shown(given)
    assert row[0] == f"{given['nab']['standard']:.1f}" and row[-1] == given["fixed"]["nab_windows_hit"]
