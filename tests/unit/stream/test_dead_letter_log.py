"""Dead letters show in the log at once, then once in 30 s, and none is left out of the counts."""

import pytest

from app.settings.model import Settings
from app.stream.dead_letter_log import EVERY_S, DeadLetterLog
from app.wire import dead_letters, malformed
from app.wire.dead_letters import DeadLetter


def letter(label, offset):
    return DeadLetter(offset, 0, f"raw-data[0]@{offset}: wrong", label, None, b"")


@pytest.fixture
def told(caplog):
    """(dead_letter_log, at(time, *letters): what the log shows then)"""
    now = [1000.0]
    dead_letter_log = DeadLetterLog("raw-data-dead-letters", lambda: now[0])

    def at(time, *letters):
        now[0] = time
        caplog.clear()
        (dead_letter_log.add if letters else lambda _: dead_letter_log.log_due())(letters)
        return [record.getMessage() for record in caplog.records]

    return dead_letter_log, at


def test_the_first_of_each_reason_shows_at_once_and_the_others_after_a_while(told):
    dead_letter_log, at = told
    [one] = at(1000.0, letter("bad_source", 1))
    assert one == (
        "1 dead letters in raw-data-dead-letters: bad_source, such as raw-data[0]@1: wrong. "
        "Correct the producer, or name the field of the source in input.source_field."
    )
    assert at(1001.0, letter("bad_source", 2), letter("bad_source", 3)) == []
    [two] = at(1002.0, letter("empty", 4))
    assert two.startswith("1 dead letters in raw-data-dead-letters: empty, such as raw-data[0]@4")
    assert at(1029.9) == []
    [three] = at(1000.0 + EVERY_S)  # without a further one
    assert three.startswith("2 dead letters in raw-data-dead-letters: bad_source, such as raw-data[0]@3")
    assert at(1100.0) == [] and at(1101.0, letter("empty", 9)) != []
    found = [(one["reason"], one["total"], one["last"]) for one in dead_letter_log.summary()]
    assert found == [("empty", 2, 1101.0), ("bad_source", 3, 1001.0)]
    assert dead_letter_log.summary()[0]["example"] == "raw-data[0]@9: wrong"


def test_a_clock_that_is_set_back_silences_nothing(told):
    _, at = told
    assert at(1000.0, letter("empty", 1)) and at(400.0, letter("empty", 2))


def test_there_is_advice_for_every_reason_and_it_names_settings_that_exist():
    assert dead_letters.TO_DO.keys() == {*malformed.LABELS, "too_many_sources", "foreign"}
    words = [word.strip(".,:") for text in dead_letters.TO_DO.values() for word in text.split()]
    named = [word.split(".") for word in words if word.count(".") == 1]
    assert len(named) > 5
    for section, name in named:
        assert name in type(getattr(Settings(), section)).model_fields
