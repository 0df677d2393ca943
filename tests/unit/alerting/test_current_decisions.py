"""What holds of what people decided."""

import pytest

from app.alerting.current_decisions import CurrentDecisions
from app.errors import AnomalyError, StateError
from app.wire import decisions
from app.wire.decisions import Acknowledgement, Feedback, Silence

LABELS = {"source": "pump-7", "severity": "high"}


def taken(*some):
    decided = CurrentDecisions()
    for one in some:
        decided.take(one.key.encode(), decisions.encode(one))
    return decided


def test_a_silence_holds_from_its_start_to_its_end_for_what_all_its_matchers_fit():
    decided = taken(Silence("s", ["source=~pump-.*", "severity!=critical"], 10.0, 20.0, "ann"))
    assert [decided.silence(LABELS, at) is not None for at in (9.9, 10.0, 19.9, 20.0)] == [False, True, True, False]
    assert decided.silence({**LABELS, "severity": "critical"}, 15.0) is None
    assert decided.silence({"source": "fan"}, 15.0) is None


def test_of_several_silences_the_one_that_ends_last_is_named():
    decided = taken(*(Silence(id, ["source=pump-7"], 0.0, end, "ann") for id, end in (("a", 20.0), ("b", 30.0))))
    assert decided.silence(LABELS, 5.0).id == "b"


def test_the_last_record_of_a_key_counts_and_one_without_a_value_takes_it_back():
    first, later = Acknowledgement("e", "ann", 1.0), Acknowledgement("e", "bob", 2.0)
    decided = taken(
        first, later, Feedback("e", "expected", "bob", 3.0), Silence("s", ["source=pump-7"], 0.0, 9.0, "ann")
    )
    assert decided.acknowledged["e"].by == "bob" and decided.feedback["e"].verdict == "expected"
    for key in (later.key, "feedback/e", "silence/s", "silence/unknown"):
        decided.take(key.encode(), None)
    assert (decided.acknowledged, decided.feedback, decided.silences()) == ({}, {}, [])


def test_each_change_is_seen_by_the_version():
    decided = CurrentDecisions()
    seen = [decided.version]
    for one in (Acknowledgement("e", "ann", 1.0), Silence("s", ["source=pump-7"], 0.0, 9.0, "ann")):
        decided.take(one.key.encode(), decisions.encode(one))
        seen.append(decided.version)
    decided.set_receiver_silences("am", [Silence("x", ["source=fan"], 0.0, 9.0, "bob")])
    seen.append(decided.version)
    decided.set_receiver_silences("am", [Silence("x", ["source=fan"], 0.0, 9.0, "bob")])  # nothing new
    assert sorted(set(seen)) == seen and decided.version == seen[-1]


def test_silences_of_a_receiver_hold_until_it_has_them_no_more():
    decided = CurrentDecisions()
    decided.set_receiver_silences(
        "am", [Silence("x", ["source=pump-7"], 0.0, 9.0, "bob"), Silence("y", ["source=~("], 0.0, 9.0, "b")]
    )
    assert decided.silence(LABELS, 5.0).id == "x" and len(decided.silences()) == 1
    assert decided.silence(LABELS, 5.0, "mail").id == "x" and decided.silence(LABELS, 5.0, "am") is None
    decided.set_receiver_silences("am", [])
    assert decided.silence(LABELS, 5.0) is None


def test_what_is_no_decision_is_refused_and_changes_nothing():
    decided = CurrentDecisions()
    with pytest.raises(StateError):
        decided.take(b"silence/s", b"{}")
    with pytest.raises(AnomalyError):
        decided.take(b"silence/s", decisions.encode(Silence("s", ["source=~("], 0.0, 9.0, "ann")))
    for everything in ([], ["source=~.*"], ["source!=pump-7"]):
        with pytest.raises(StateError, match="does not match everything"):
            decided.take(b"silence/s", decisions.encode(Silence("s", everything, 0.0, 9.0, "ann")))
    assert decided.silences() == [] and decided.version == 0
