"""What the default settings reach on public data, by the program's own commands; and that two scorers agree."""

import json

import pytest
from support.data import DATA, needs_data

from tests.bench.report import table
from tests.docs import pages
from tests.evaluate.command import renewed, rows_of
from tests.evaluate.figures import on_data, on_shipped, program, shown


@pytest.fixture(scope="module")
def given():
    """What the given scorer says of the default settings."""
    return on_data(DATA)


@needs_data
@pytest.mark.parametrize(
    ("data", "figure", "floor"),
    [
        ("nab", "standard", 80.0),
        ("nab", "reward_low_FP_rate", 73.0),
        ("nab", "reward_low_FN_rate", 84.0),
        ("kpi", "delay_f1", 0.90),
        ("kpi_core", "ap", 0.74),
        ("skab", "f1", 0.85),
    ],
)
def test_each_set_reaches_its_floor_with_one_configuration(given, data, figure, floor):
    assert given[data][figure] >= floor


@needs_data
def test_false_alerts_are_few_at_the_default_threshold(given):
    """Half as many as `novelty` without a band made, and so fewer windows of NAB: what lies in its band is not told."""
    assert given["fixed"]["false_alerts_per_1000"] <= 0.4
    hit, windows = map(int, given["fixed"]["nab_windows_hit"].split("/"))
    assert windows == 59 and hit >= 44


def test_the_series_that_ship_reach_theirs():
    found = on_shipped()
    assert found["nab"]["standard"] >= 88 and found["nab"]["reward_low_FP_rate"] >= 85
    assert found["nab"]["reward_low_FN_rate"] >= 91
    assert found["windows"] == 13 and found["hit"] >= 11
    assert found["false_alerts_per_1000"] <= 0.4


@needs_data
def test_evaluate_says_of_nab_what_the_given_scorer_says(given):
    folder = DATA / "dev" / "nab"
    told = program("evaluate", folder, "--labels", folder / "windows.json", "--json").stdout
    [found] = json.loads(told).values()
    total = found["total"]
    assert {name: round(score, 2) for name, score in total["nab"].items()} == given["nab"]
    assert round(total["false_alerts_per_1000"], 3) == given["fixed"]["false_alerts_per_1000"]
    assert f"{total['hit']}/{total['windows']}" == given["fixed"]["nab_windows_hit"]


@needs_data
def test_a_row_of_the_table_shows_what_the_scorer_says(given):
    row = shown(given)
    assert row[0] == f"{given['nab']['standard']:.1f}" and row[-1] == given["fixed"]["nab_windows_hit"]


def test_rows_of_the_page_are_renewed_and_others_stay():
    known = [["default", "40.0"], ["zscore", "20.0"], ["iqr", "7.0"]]
    written = table(["detector", "NAB"], known)
    page = f"before | | |\n<!-- detection -->\n{written}\n\na machine.\n<!-- /detection -->\nafter | | |\n"
    assert rows_of(pages.block("detection", page)) == known
    assert renewed(known, [["default", "81.3"], ["iqr", "8.0"]]) == [
        ["default", "81.3"], ["iqr", "8.0"], ["zscore", "20.0"],
    ]  # fmt: skip
