"""The benchmark's own judgement: a checker that flags nothing would make every figure worthless."""

import importlib
import math
from collections import Counter

import pytest

from tests.bench import check, job, throughput
from tests.bench.latency import quantile
from tests.docs import pages

SERIES = [value for _, value in job.values(500, 1)]


@pytest.fixture
def stock_faust(monkeypatch):
    for name in ("BROKER", "INPUT", "OUTPUT", "GROUP"):
        monkeypatch.setenv("BENCH_" + name, "none")
    return importlib.import_module("tests.bench.rivals.stock_faust")


def near(found, expected):
    return found == expected or math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)


def test_the_running_window_says_what_the_whole_window_says():
    window = job.Window()
    for x, (mean, score) in zip(SERIES, job.reference(SERIES)):
        found_mean, found_score = window.step(x)
        assert near(found_mean, mean) and near(found_score, score)


def test_the_window_as_bytes_says_the_same(stock_faust):
    window, state = job.Window(), None
    for x in SERIES:
        state, mean, score = stock_faust.step(state, x)
        assert all(map(near, (mean, score), window.step(x)))


def answers():
    said = job.reference(SERIES)
    return {
        (0, i): check.Answer(f"raw:0:{i}:0", "s0", float(i), x, score, score >= 0.8, mean)
        for i, (x, (mean, score)) in enumerate(zip(SERIES, said))
    }


def verdict_on(found):
    verdict = check.Verdict()
    check.compare([(0, i, check.Point("s0", float(i), x)) for i, x in enumerate(SERIES)], found, verdict)
    return verdict


def test_right_answers_pass():
    verdict = verdict_on(answers())
    assert (verdict.compared, verdict.wrong) == (len(SERIES), 0) and verdict.exact


WRONG = {"source": "s1", "timestamp": 0.5, "value": 1.0, "expected": 50.0, "anomaly_score": 0.5, "is_anomaly": True}


@pytest.mark.parametrize("field, value", [*WRONG.items(), ("expected", None)])
def test_one_wrong_answer_is_found(field, value):
    found = answers()
    setattr(found[0, 300], field, value)
    assert verdict_on(found).wrong == 1


@pytest.mark.parametrize("field", ["lost", "repeated", "differing", "wrong"])
def test_nothing_may_be_lost_repeated_or_wrong(field):
    assert check.Verdict(compared=1).exact
    assert not check.Verdict(**{"compared": 1, field: 1}).exact


def test_an_empty_comparison_is_not_exact():
    assert not check.Verdict().exact


def test_moments_are_first_middle_and_last():
    assert throughput.moments(Counter({5: 1, 10: 6, 20: 3})) == (5, 10, 20)


def test_quantiles_of_the_numbers_up_to_a_hundred():
    numbers = list(range(1, 101))
    assert (quantile(numbers, 0.5), quantile(numbers, 0.99), quantile([7], 0.99)) == (51, 100, 7)


def test_the_page_gets_the_figures_between_its_marks(tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    pages.write("bench", "new", page)
    assert page.read_text() == "before\n<!-- bench -->\nnew\n<!-- /bench -->\nafter\n"


@pytest.mark.parametrize("text", ["", "<!-- bench -->", "<!-- bench --><!-- /bench --><!-- bench -->"])
def test_a_page_without_one_pair_of_marks_is_left_alone(tmp_path, text):
    page = tmp_path / "benchmarks.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="expected one"):
        pages.write("bench", "new", page)
    assert page.read_text() == text
