"""Single fetches: what a broker answers, in every version, and when it is asked again."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka import errors
from aiokafka.structs import TopicPartition

from app.kafka.log_reader import LogReader, PartitionData

LOG = TopicPartition("anomaly-results", 3)
ABORTED = [(7, 90)]
ANSWERS = {  # of the partition: number, error, high watermark, last stable offset, ..
    4: (3, 0, 120, 110, ABORTED, b"data"),
    5: (3, 0, 120, 110, 10, ABORTED, b"data"),
    11: (3, 0, 120, 110, 10, ABORTED, -1, b"data"),
}
OUT_OF_RANGE, NOT_LEADER, NO_RIGHT = 1, 6, 29


class Client:
    """Gives these answers in turn; an exception is raised. ``asked``: the requests."""

    def __init__(self, *answers, version=11, leaders=(1,)):
        self.answers, self.version, self.asked, self.updates = list(answers), version, [], 0
        self.leaders = list(leaders)
        self.cluster = SimpleNamespace(leader_for_partition=self._leader)

    def _leader(self, partition):
        return self.leaders.pop(0) if len(self.leaders) > 1 else self.leaders[0]

    def force_metadata_update(self):
        self.updates += 1

    async def send(self, node, request):
        self.asked.append((node, request))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(API_VERSION=self.version, topics=[(LOG.topic, [answer])])


def fetch(client, monkeypatch):
    monkeypatch.setattr("app.kafka.log_reader.AGAIN_S", 0.0)

    async def one():
        reader = LogReader(request_timeout_ms=5_000)
        reader._client, reader._closed = client, True
        return await reader.fetch(LOG, 100, 4_096, 20)

    return asyncio.run(one())


@pytest.mark.parametrize("version", ANSWERS)
def test_a_chunk_is_what_the_broker_says(version, monkeypatch):
    client = Client(ANSWERS[version], version=version)
    assert fetch(client, monkeypatch) == PartitionData(b"data", 100, ABORTED, 110)
    [(node, request)] = client.asked
    assert node == 1 and request.topics == [(LOG.topic, [(3, 100, 4_096)])]


def test_no_aborted_transactions_may_be_null(monkeypatch):
    assert fetch(Client((3, 0, 120, 110, 10, None, -1, b"")), monkeypatch).aborted == []


@pytest.mark.parametrize(
    "client",
    [
        Client((3, NOT_LEADER, -1, -1, -1, None, -1, b""), ANSWERS[11]),
        Client(errors.KafkaConnectionError("gone"), ANSWERS[11]),
        Client(ANSWERS[11], leaders=[None, None, 1]),
        Client(ANSWERS[11], leaders=[-1, -1, 1]),
    ],
    ids=["moved", "gone", "unknown", "none"],
)
def test_another_leader_is_looked_for(client, monkeypatch):
    assert fetch(client, monkeypatch).data == b"data"
    assert client.updates


@pytest.mark.parametrize(
    ("code", "error"), [(OUT_OF_RANGE, errors.OffsetOutOfRangeError), (NO_RIGHT, errors.TopicAuthorizationFailedError)]
)
def test_what_stays_so_is_raised(code, error, monkeypatch):
    with pytest.raises(error):
        fetch(Client((3, code, -1, -1, -1, None, -1, b"")), monkeypatch)


def test_one_answer_is_no_larger_than_is_asked_for():
    client = Client(ANSWERS[11])

    async def several():
        reader = LogReader(request_timeout_ms=5_000)
        reader._client, reader._closed = client, True
        wanted = {LOG: 100} | {TopicPartition("anomaly-results", number): 0 for number in range(10, 15)}
        return await reader.fetch_of_leader(wanted, 1_000, 20, 2_500)

    assert list(asyncio.run(several())) == [LOG]
    [(_, request)] = client.asked
    assert request._max_bytes == 2_500 and len(request.topics[0][1]) == 6
