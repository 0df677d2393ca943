"""What becomes of points that are posted, with a producer that answers as the test says."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    TopicAuthorizationFailedError,
)

from app.errors import Busy, InvalidPoint, TopicError
from app.settings import Settings
from app.web.writers.point_writer import PointWriter, Unwritten, Written
from app.wire.writer import NewPoint

POINT, BAD = NewPoint("a", 1.5), NewPoint("a", 1e200)


class Producer:
    """``answer``: what becomes of each record: True, an exception, or None for nothing at all."""

    def __init__(self, answer=True):
        self.answer, self.records, self.futures, self.stopped = answer, [], [], False
        self.client = self._sender = SimpleNamespace(close=self.stop)

    async def send(self, topic, value, key):
        if isinstance(self.answer, tuple):
            raise self.answer[0]
        self.records.append((key, value))
        future = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        if isinstance(self.answer, Exception):
            future.set_exception(self.answer)
        elif self.answer is not None:
            future.set_result(place(len(self.records) - 1))
        return future

    async def partitions_for(self, topic):
        return {0}

    async def stop(self):
        self.stopped = True


def place(offset, log_start=0):
    return SimpleNamespace(topic="raw-data", partition=2, offset=offset, log_start_offset=log_start)


class Kafka:
    """Makes a producer for each of these answers; an exception in place of one is raised."""

    def __init__(self, *answers):
        self.answers, self.made = list(answers), []

    async def __call__(self):
        answer = self.answers.pop(0)
        if isinstance(answer, TopicError):
            raise answer
        self.made.append(Producer(answer))
        return self.made[-1]


async def write(writer, points):
    return await writer.write(writer.records(points))


def impatient(settings):
    """With less than the least ``ack_timeout_s`` that is allowed."""
    return settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"ack_timeout_s": 0.05})})


def run(test, *answers, **how):
    async def body():
        kafka = Kafka(*answers)
        writer = PointWriter(impatient(Settings()), kafka, **how)
        await test(writer, kafka)
        await writer.stop()
        assert writer.in_flight == 0 and all(producer.stopped for producer in kafka.made)

    asyncio.run(body())


def test_good_points_are_written_beside_bad_ones_and_named_by_their_place():
    async def test(writer, kafka):
        assert kafka.made == []  # nobody has sent anything
        first, bad, last = await write(writer, [POINT, BAD, POINT])
        assert (first, last) == (Written("raw-data:2:0:0"), Written("raw-data:2:1:0"))
        assert isinstance(bad, InvalidPoint) and bad.label == "out_of_range"
        assert kafka.made[0].records == [(b"a", b'{"source":"a","value":1.5}')] * 2
        assert await write(writer, []) == []

    run(test, True)


def test_only_bad_points_need_no_broker():
    async def test(writer, kafka):
        [bad] = await write(writer, [BAD])
        assert isinstance(bad, InvalidPoint) and kafka.made == []

    run(test)


@pytest.mark.parametrize(
    ("answer", "maybe", "said"),
    [
        (None, True, "no acknowledgement within 0.05 s"),
        (OutOfOrderSequenceNumber(), True, "OutOfOrderSequenceNumber"),
        (KafkaConnectionError(), True, "KafkaConnectionError"),
        (TopicAuthorizationFailedError("raw-data"), False, "--operation Write --topic raw-data"),
        ((KafkaConnectionError(),), False, "KafkaConnectionError"),
        ((TimeoutError(),), False, "no broker took it"),
    ],
)
def test_a_point_without_acknowledgement_is_not_written_and_the_next_has_a_new_producer(answer, maybe, said):
    async def test(writer, kafka):
        first, second = await write(writer, [POINT, POINT])
        assert (first.maybe, second.maybe) == (maybe, maybe)
        assert said in first.reason and said in second.reason
        assert await write(writer, [POINT]) == [Written("raw-data:2:0:0")]
        assert len(kafka.made) == 2

    run(test, answer, True)


def test_a_place_that_the_broker_does_not_say_is_no_id():
    async def test(writer, kafka):
        task = asyncio.create_task(write(writer, [POINT, POINT]))
        while not kafka.made or len(kafka.made[0].futures) < 2:
            await asyncio.sleep(0)
        for i, future in enumerate(kafka.made[0].futures):
            future.set_result(place(i - 1, log_start=-1))
        assert [type(one) for one in await task] == [Unwritten, Unwritten]

    run(test, None)


def test_a_point_that_is_too_large_is_its_own_fault():
    async def test(writer, kafka):
        [refused] = await write(writer, [POINT])
        assert isinstance(refused, InvalidPoint) and refused.label == "too_large"
        assert len(kafka.made) == 1

    run(test, (MessageSizeTooLargeError(),))


def test_no_topic_is_said_to_everybody_and_asked_again_after_a_while(monkeypatch):
    async def test(writer, kafka):
        for _ in range(3):  # of one question
            with pytest.raises(TopicError, match="is missing"):
                await write(writer, [POINT])
        monkeypatch.setattr("app.web.writers.point_writer.RETRY_S", 0.0)
        assert await write(writer, [POINT]) == [Written("raw-data:2:0:0")]

    run(test, TopicError("topic raw-data is missing"), True)


def test_points_in_flight_are_bounded_also_when_nobody_waits_for_them():
    async def test(writer, kafka):
        task = asyncio.create_task(write(writer, [POINT] * 8))
        while writer.in_flight < 8 or not kafka.made:
            await asyncio.sleep(0)
        with pytest.raises(Busy, match="8 points wait"):
            await write(writer, [POINT] * 3)
        task.cancel()  # its client has gone; what is sent is sent
        await asyncio.gather(task, return_exceptions=True)
        assert writer.in_flight == 8
        for i, future in enumerate(kafka.made[0].futures):
            future.set_result(place(i))
        await asyncio.sleep(0)
        assert writer.in_flight == 0
        kafka.made[0].answer = True
        assert len(await write(writer, [POINT] * 10)) == 10

    run(test, None, most=10)


def test_bytes_in_flight_are_bounded_too():
    async def test(writer, kafka):
        with pytest.raises(Busy):
            await write(writer, [NewPoint("a" * 200, 1.5)] * 10)
        assert writer.in_flight == 0

    run(test, most_bytes=1000)
