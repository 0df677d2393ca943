"""How one channel's messages are sent: in order, again until taken, given up late, and its failing is said."""

import asyncio

import pytest

from app.alerting.channels.api import Answer, BaseChannel, Context, MessageRejected, Retry
from app.alerting.delivery import DOWN_AFTER_S, LONGEST_WAIT_S, Delivery, QueuedNotification
from app.metrics import Metrics
from app.wire.notifications import FAILED, QUEUED, SENT, Notification


class Script(BaseChannel):
    """Answers as it was told, then takes everything."""

    def __init__(self, *answers):
        super().__init__("ops", None, Context(session=lambda: None))
        self.answers, self.got = list(answers), []

    async def send(self, notification):
        self.got.append(notification.id)
        answer = self.answers.pop(0) if self.answers else Answer("200", "ref")
        if isinstance(answer, Exception):
            raise answer
        return answer


class Sending:
    """A delivery whose time passes as it waits."""

    def __init__(self, channel, give_up_after_s=86_400.0):
        self.now, self.waits, self.reports, self.done = 1000.0, [], [], []
        self.delivery = Delivery(
            channel, Metrics("python"), give_up_after_s, lambda *said: self.reports.append(said),
            lambda: self.now, self._sleep, lambda: 0.5,
        )  # fmt: skip

    async def _sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    async def _done(self, notification):
        self.done.append((notification.id, notification.state, notification.answer, notification.attempts))

    def send(self, *ids, ours=lambda id: True):
        async def run():
            for id in ids:
                notification = Notification(id=id, state=QUEUED, channel="ops", created_at=self.now)
                self.delivery.put(QueuedNotification(notification, self._done, lambda id=id: ours(id)))
            task = asyncio.create_task(self.delivery.run())
            while self.delivery.status.waiting:
                assert not task.done(), task.result()
                await asyncio.sleep(0)
            task.cancel()

        asyncio.run(run())
        return self.done


def test_messages_are_sent_in_order_each_until_it_is_taken():
    channel = Script(Retry("500"), Answer("200"), Retry("reset"), OSError("no route"))
    sending = Sending(channel)
    assert sending.send("a", "b") == [("a", SENT, "200", 2), ("b", SENT, "200", 3)]
    assert channel.got == ["a", "a", "b", "b", "b"]


def test_it_waits_longer_each_time_and_as_long_as_it_is_asked_to():
    sending = Sending(Script(*[Retry("500")] * 9, Retry("429", 300.0), Retry("429", 1e9)))
    sending.send("a")
    assert sending.waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert sending.waits[8:] == [LONGEST_WAIT_S, 300.0, 3600.0]


def test_a_refused_message_does_not_hold_up_the_next_one():
    assert Sending(Script(MessageRejected("too large"))).send("a", "b") == [
        ("a", FAILED, "too large", 1),
        ("b", SENT, "200", 1),
    ]


def test_a_message_is_given_up_after_its_time_and_the_reason_is_kept():
    sending = Sending(Script(*[Retry("no route")] * 100), give_up_after_s=600.0)
    [(_, state, answer, attempts)] = sending.send("a")
    assert state == FAILED and answer.endswith("attempts: no route") and attempts == len(sending.waits) + 1
    assert 600.0 < sending.now - 1000.0 < 800.0


def test_a_channel_that_stays_down_is_reported_once_and_once_when_it_is_back():
    sending = Sending(Script(*[Retry("connection refused")] * 12))
    sending.send("a", "b")
    assert sending.reports == [("ops", True, "connection refused"), ("ops", False, "connection refused")]
    short = Sending(Script(Retry("500"), Retry("500")))
    short.send("a")
    assert short.reports == [] and sum(short.waits) < DOWN_AFTER_S


def test_what_belongs_to_another_alerter_by_now_is_left_to_it():
    channel = Script(Retry("500"))
    ours = iter([True, False])
    assert Sending(channel).send("a", "b", ours=lambda id: id == "b" or next(ours))[0][0] == "b"
    assert channel.got == ["a", "b"]


def test_an_error_of_the_channel_itself_is_tried_again():
    assert Sending(Script(ZeroDivisionError("ours"))).send("a") == [("a", SENT, "200", 2)]


def test_what_a_channel_says_is_in_its_metrics():
    sending = Sending(Script(MessageRejected("no"), Retry("later")))
    sending.send("a", "b", "c")
    page = sending.delivery.metrics.render()[0].decode()
    assert 'faust_anomaly_notifications_total{channel="ops",state="failed"} 1.0' in page
    assert 'faust_anomaly_notifications_total{channel="ops",state="sent"} 2.0' in page
    assert 'faust_anomaly_channel_up{channel="ops"} 1.0' in page


@pytest.mark.parametrize("state", [SENT, FAILED])
def test_the_reference_comes_back_with_what_was_sent(state):
    sending = Sending(Script(*([MessageRejected("no")] if state == FAILED else [])))
    kept = []

    async def keep(notification):
        kept.append(notification)

    sending._done = keep
    sending.send("a")
    assert (kept[0].state, kept[0].reference) == (state, "ref" if state == SENT else "")


@pytest.mark.parametrize("left", [0, 1])
def test_a_channel_whose_messages_went_to_another_process_is_neither_up_nor_down_here(left):
    """It may work there, and here nothing would ever show that it does."""
    channel = Script(*[Retry("500")] * 3)
    sending = Sending(channel)
    up = sending.delivery.metrics.labelled
    ids = ["a", "b"][: 1 + left]
    assert sending.send(*ids, ours=lambda id: id == "b" or len(channel.got) < 3) == [("b", SENT, "200", 1)][:left]
    assert up("channel_up") == ({("ops",): 1} if left else {})
    assert (sending.delivery.status.failing_since, sending.delivery.status.error) == (0.0, "")
