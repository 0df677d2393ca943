"""Alerters killed while episodes open and close. ``python -m tests.chaos --alerters 100`` does it a hundred times."""

import random

from chaos.alerters import Receiver, judged, lives, play

EPISODES, KILLS = 120, 3


def test_nothing_is_lost_and_nothing_contradicts_when_alerters_are_killed(kafka, tmp_path):
    found = play(kafka.bootstrap_servers, tmp_path, EPISODES, KILLS, pause_s=0.15)
    print(found.text())
    assert found.kills == KILLS and found.messages > KILLS
    assert found.findings == []


def test_the_judge_flags_what_a_careless_alerter_says():
    turns = lives(random.Random(1), 30, 4)
    receiver = Receiver(random.Random(1))
    of = [[event for turn in turns for event in turn if event["episode"] == episode]
          for episode in dict.fromkeys(event["episode"] for turn in turns for event in turn)]  # fmt: skip
    good = [{**event, "why": event["event"]} for events in of for event in (events[0], events[-1])]

    def told(*news):
        receiver.messages = [{"data": {"episodes": [one]}} for one in news]
        return judged(receiver, turns)

    assert told(*good) == []
    assert len(told(*good[1:])) == 0  # it was over before it could be told
    assert any("never told" in said for said in told(*good[2:]))
    assert any("the last word" in said for said in told(*good[:-1]))
    assert any("the last word" in said for said in told(good[1], good[0], *good[2:]))
    assert any("told twice" in said for said in told(good[0], *good))
    assert any("there is none" in said for said in told(*good, {**good[0], "episode": "raw-data:0:0:9"}))
    receiver._take("a", b'{"data": {"episodes": []}}')
    receiver._take("a", b'{"data": {"episodes": [] }}')
    receiver.messages = []
    assert any("other words" in said for said in judged(receiver, turns))
