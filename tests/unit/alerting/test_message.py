"""A message says what, how bad, by how much, since when and how it ended; whatever the data holds, it is one line."""

import unicodedata

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.messages import END, PUMP, VIEW, burst, context, ended, event, told

from app.alerting.message import KINDS, NAME, REASONS, TEXT, TITLE, Message, clean, duration
from app.alerting.silent_sources import FORGOTTEN, RETURNED
from app.detectors.kinds import KINDS as ALL_KINDS
from app.scoring.episodes import REASONS as ALL_REASONS
from app.scoring.severity import NAMES as SEVERITIES
from app.wire.notifications import News


def said(notification):
    return Message.of(notification, context())


def test_an_episode_that_opens():
    message = said(told())
    assert message.title == "critical: pump-7 temperature is 90.44, expected 50.02"
    assert message.severity == "critical"
    assert message.text == PUMP.explanation
    assert dict(message.lines) == {
        "severity": "critical; highest alert score 1.00 of 1",
        "value": "90.44",
        "expected": "50.02, between 40.2 and 59.6",
        "difference": "40.42 above the expected (81%)",
        "since": "2023-10-27T09:37:40Z",
        "before": "the usual error is 3.029: this is 13.35 times that",
        "kind": "value: a value unlike the expected one",
        "votes": "prediction_interval 1.00, novelty 1.00, residual 0.83",
        "labels": "room=B, rack=7",
        "episode": "raw-data:3:5658:0",
    }
    assert message.link == f"{VIEW}/#source=pump-7&metric=temperature"
    assert message.plain().startswith(f"{message.title}\n\n{message.text}\n\nseverity    critical")
    assert message.plain().endswith(f"\n\n{message.link}\n")


def test_an_episode_that_goes_on_says_for_how_long_and_from_which_severity():
    later = event(timestamp=PUMP.opened_at + 200.0, points=4)
    message = said(told(News(later, "raised", began=event(severity="high"))))
    assert message.title == "raised to critical: pump-7 temperature is 90.44, expected 50.02"
    lines = dict(message.lines)
    assert lines["severity"] == "critical, high when it opened; highest alert score 1.00 of 1"
    assert lines["since"] == "2023-10-27T09:37:40Z, for 3 min 20 s and 4 points so far"
    assert said(told(News(later, "repeated"))).title.startswith("still critical: pump-7")


def test_an_end_says_why_how_long_and_how_bad_it_was():
    message = said(ended())
    assert message.title == "ended: pump-7 temperature after 3 min 20 s (recovered)"
    assert (message.severity, message.text) == ("", PUMP.explanation)
    lines = dict(message.lines)
    assert lines["ended"] == "2023-10-27T09:41:00Z: the points are usual again"
    assert lines["lasted"] == "3 min 20 s, 5 points, since 2023-10-27T09:37:40Z"
    assert lines["peak"] == "critical; highest alert score 1.00 of 1"
    assert (lines["value then"], lines["expected then"]) == ("90.44", "50.02, between 40.2 and 59.6")
    alone = said(told(News(END, "closed")))
    assert lines["now"] == "55.1, expected 50.02"
    vector = said(told(News(event(END, value=None, values={"cpu": 0.2}, expected={"cpu": 0.25}), "closed")))
    assert dict(vector.lines)["now"] == "cpu 0.2 (expected 0.25)"
    silent = said(told(News(event(END, value=None, expected=None, reason="silence"), "closed", began=PUMP)))
    assert "now" not in dict(silent.lines) and "the source sent nothing any more" in dict(silent.lines)["ended"]
    assert "value then" not in dict(alone.lines) and dict(alone.lines)["lasted"] == lines["lasted"]


def test_a_vector_names_its_metrics_the_worst_first():
    both = {"cpu": 0.98, "memory": 40.0}
    one = event(
        metric="", value=None, values=both, expected={"cpu": 0.2, "memory": 41.0}, expected_lower={"cpu": 0.1},
        expected_upper={"cpu": 0.3}, attribution={"memory": 0.1, "cpu": 0.99},
        explanation="cpu: 0.98 is 0.78 above the expected 0.2; the usual error is 0.03",
    )  # fmt: skip
    message = said(told(News(one, "opened")))
    assert message.title == f"critical: pump-7: {one.explanation}"
    lines = dict(message.lines)
    assert lines["values"] == "cpu 0.98 (expected 0.2, between 0.1 and 0.3); memory 40 (expected 41)"
    assert lines["metrics"] == "cpu 0.99, memory 0.10"


@pytest.mark.parametrize(
    ("explanation", "figure", "usual", "before"),
    [
        ("50.3, but 130 is expected at this time: 79.7 below it; the usual error is 1.9", -79.7, 1.9,
         "the usual error is 1.9: this is 41.95 times that"),
        ("unchanged at 40 for 11 points; outside episodes lately never for more than 3", 11.0, 3.0,
         "outside episodes lately never for more than 3"),
        ("the last 20 values are 52.9 on average, and 50.02 was expected", 52.9, 50.02, "50.02"),
        ("30 after 412 values of 5", 412.0, 5.0, "5"),
        ("7 after 250567: the counter began anew", 7.0, 250567.0, "250567"),
        ("61.3 is the highest of all 4120 values so far, in 2.86 days", 4120.0, 2.86, None),
        ("90 is unusual: zscore scores it 4", None, None, None),
    ],
)  # fmt: skip
def test_what_it_was_like_before(explanation, figure, usual, before):
    one = event(explanation=explanation, figure=figure, usual=usual)
    assert dict(said(told(News(one, "opened"))).lines).get("before") == before


def test_without_a_view_there_is_no_link_and_without_numbers_no_line_of_them():
    none = dict.fromkeys(("value", "expected", "figure", "usual"))
    one = event(kind="pause", explanation="no point for 300 s", detectors={}, labels={}, **none)
    message = Message.of(told(News(one, "opened")), context(view_url=""))
    assert message.link == "" and message.title == "critical: pump-7 temperature: no point for 300 s"
    assert [label for label, _ in message.lines] == ["severity", "since", "kind", "episode"]


def test_a_burst_is_one_message_that_counts_and_names_the_worst():
    message = said(burst())
    assert message.title == "1,874 episodes opened in 40 s: 13 critical, 1,861 high; 60 ended"
    assert message.severity == "critical" and message.more == 1924
    assert [item.severity for item in message.items] == ["critical"] * 10
    assert message.items[0].text == f"critical: pump-0 temperature: {PUMP.explanation}"
    assert message.items[0].link == f"{VIEW}/#source=pump-0&metric=temperature"
    lines = dict(message.lines)
    assert lines["kinds"] == "value 1,934" and lines["all of"] == "room=B, rack=7"
    assert lines["sources"].endswith("and 1,929 others")
    assert "- and 1,924 more" in message.plain() and len(message.plain()) < 4000


@pytest.mark.parametrize(
    ("whys", "title"),
    [
        (["closed", "closed"], "2 episodes ended"),
        (["repeated", "repeated"], "2 episodes are still open: 2 critical"),
        (["raised", "opened"], "2 episodes open: 2 critical"),
        (["opened", "closed"], "1 episode opened: 1 critical; 1 ended"),
    ],
)
def test_a_digest_says_what_happened(whys, title):
    message = said(told(*(News(END if why == "closed" else PUMP, why) for why in whys)))
    assert message.title == title and len(message.items) == 2


@pytest.mark.parametrize("about", ["channel_down", "channel_up", "test"])
def test_news_of_the_alerter_itself(about):
    message = said(told(about=about, news=[], text="slack: 503 for 5 min\r\nsince noon"))
    assert message.title and message.text == r"slack: 503 for 5 min\r\nsince noon"


NASTY = "a\nb\r\x00\x1b]0;x\x07\x9b\u2028\u202ec\u2066\u200bd\ufeff\U000e0041"


def test_what_the_data_holds_stays_on_its_line():
    one = event(
        source=NASTY, metric=NASTY, labels={NASTY: NASTY}, explanation=NASTY, kind=NASTY, reason=NASTY,
        detectors={NASTY: 1.0}, attribution={NASTY: 1.0, "b": 0.5}, values={NASTY: 1.0}, episode=NASTY,
    )  # fmt: skip
    for why in ("opened", "raised", "repeated", "closed"):
        for value in (1.0, None):
            news = News(event(one, value=value), why, began=one)
            for message in (said(told(news)), said(told(news, news))):
                texts = [message.title, message.text, *(text for _, text in message.lines)]
                texts += [item.text for item in message.items]
                assert all(text.isprintable() for text in texts)


def test_what_the_data_holds_is_bounded():
    long = "x" * 1000
    one = event(source=long, metric=long, explanation=long, labels={f"{i}{long}": long for i in range(64)}, kind=long)
    for news in ([News(one, "opened")], [News(one, "closed", began=one)], [News(one, "opened")] * 30):
        message = said(told(*news))
        assert len(message.title) <= TITLE and all(len(text) <= TEXT for _, text in message.lines)
        assert len(message.plain()) < 12_000


def test_names_of_all_writings_stay_readable():
    for name in ("Pumpe Süd", "насос-7", "ポンプ", "مضخة", "👩‍🔧", "می‌خواهم"):
        assert clean(name, NAME) == name


def test_every_kind_and_reason_has_words():
    assert set(KINDS) >= set(ALL_KINDS) and set(REASONS) == {*filter(None, ALL_REASONS), RETURNED, FORGOTTEN}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 s"),
        (-1.0, "0 s"),
        (9.99, "10 s"),
        (3600.0, "1 h"),
        (86460.0, "1 d"),
        (float("inf"), "inf s"),
        (1e9, "11574 d 1 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, shown):
    assert duration(seconds) == shown


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 5e-324, 1e308, -1e308])
BANDS = st.none() | NUMBERS | st.dictionaries(st.text(max_size=9), NUMBERS, max_size=4)
SCORES = st.dictionaries(st.text(max_size=300), NUMBERS, max_size=12)
EVENTS = st.builds(
    type(PUMP), event=st.just("opened"), episode=st.text(), kind=st.text(), severity=st.sampled_from(SEVERITIES),
    source=st.text(), metric=st.text(), timestamp=NUMBERS, opened_at=NUMBERS, points=st.integers(0, 10**12),
    peak_score=NUMBERS, reason=st.text(), value=st.none() | NUMBERS, values=SCORES, expected=BANDS,
    expected_lower=BANDS, expected_upper=BANDS, explanation=st.text(), figure=st.none() | NUMBERS,
    usual=st.none() | NUMBERS, detectors=SCORES, attribution=SCORES,
    labels=st.dictionaries(st.text(), st.text() | NUMBERS | st.booleans(), max_size=12),
)  # fmt: skip
NEWS = st.builds(News, EVENTS, st.sampled_from(["opened", "raised", "repeated", "closed"]), began=st.none() | EVENTS)


@example([News(event(timestamp=1e308, opened_at=-1e308), why) for why in ("opened", "closed")])
@example([News(event(timestamp=1e308, opened_at=-1e308), "closed")])
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(NEWS, min_size=1, max_size=4))
def test_whatever_an_event_holds_there_is_a_message(news):
    message = said(told(*news))
    assert 0 < len(message.title) <= TITLE
    texts = [message.title, message.text, *(text for _, text in message.lines), *(item.text for item in message.items)]
    assert all(len(text) <= TITLE + TEXT for text in texts)
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for text in texts for c in text)
