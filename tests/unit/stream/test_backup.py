"""What a copy reads, and what is committed when it is put back; tests/integration/test_backup.py has the rest."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from app.errors import HistoryLost, StateError
from app.kafka.topics import Topic
from app.settings import load
from app.stream.copies import group, restore
from app.stream.copies.file import Commit

KAFKA = load(environ={}).kafka
TP = TopicPartition(KAFKA.input_topic, 0)
OURS = '{"v":1,"replay":40,"input":"i","changelog":"c"}'


class Compacted:
    """A log of (offset, key); the cleaner comes after the first record was read, and another one is written."""

    def __init__(self):
        self.log, self.at, self.end = [(0, b"a"), (1, b"b"), (2, b"c")], 0, 3

    def assign(self, logs):
        pass

    def pause(self, *logs):
        pass

    resume = pause

    def seek(self, tp, offset):
        self.at = offset

    async def beginning_offsets(self, logs):
        return dict.fromkeys(logs, 0)

    async def last_stable_offsets(self, logs):
        return dict.fromkeys(logs, self.end)

    async def position(self, tp):
        return self.at

    async def getmany(self, **options):
        offset, key = next(of for of in self.log if of[0] >= self.at)
        self.at = offset + 1
        if self.end == 3:
            self.log, self.end = [(0, b"a"), (2, b"c"), (3, b"b")], 4
        return {TP: [SimpleNamespace(offset=offset, key=key)]}


def test_what_is_compacted_while_it_is_read_is_found_where_it_is_then():
    async def keys():
        return [record.key async for record in group.whole(Compacted(), [TP])]

    assert asyncio.run(keys()) == [b"a", b"c", b"b"]


def restoring(commits, changelog="c"):
    found = {KAFKA.input_topic: Topic(1, id="i"), KAFKA.changelog_topic: Topic(1, id=changelog)}
    of = {"log": KAFKA.input_topic, "input": KAFKA.input_topic, "topics": ["the-changelog"]}
    head = SimpleNamespace(**of, ids={"the-changelog": "c"}, commits=commits)
    made = SimpleNamespace(last={}, partitions={})
    return restore._Restore(SimpleNamespace(kafka=KAFKA), SimpleNamespace(head=head), made, found, None)


@pytest.mark.parametrize(
    "present, position",
    [
        ({}, 50),
        ({TP: OffsetAndMetadata(70, OURS)}, 70),  # the group was further since
        ({TP: OffsetAndMetadata(70, "set by a tool")}, 50),
        ({TP: OffsetAndMetadata(45, OURS)}, 50),
    ],
)
def test_the_replay_point_of_the_copy_goes_with_the_higher_position(present, position):
    made = restoring([Commit(*TP, 50, OURS)], changelog="new")._back({TP: 0}, {TP: 90}, present)
    assert made == {TP: OffsetAndMetadata(position, '{"v":1,"replay":40,"input":"i","changelog":"new"}')}


def test_records_that_are_gone_or_never_were_are_refused():
    put = restoring([Commit(*TP, 50, OURS)])
    with pytest.raises(HistoryLost, match="2 records were deleted since"):
        put._back({TP: 42}, {TP: 90}, {})
    with pytest.raises(HistoryLost, match="ends at 49"):
        put._back({TP: 0}, {TP: 49}, {})
    with pytest.raises(StateError, match="is not a worker's"):
        restoring([Commit(*TP, 50, "")])._back({TP: 0}, {TP: 90}, {})


def test_where_the_changelog_is_still_there_only_lost_offsets_are_put_back(monkeypatch):
    written = []

    async def commit(kafka, commits):
        written.append(commits)

    monkeypatch.setattr(group, "commit", commit)
    put = restoring([Commit(*TP, 50, OURS)])
    assert asyncio.run(put._has_own_changelog())
    commits = put._back({TP: 0}, {TP: 90}, {})
    made = asyncio.run(put._only_commits(commits, {}))
    assert written == [commits] and "only offsets" in made.remarks[0]
    with pytest.raises(StateError, match="nothing is to be put back"):
        asyncio.run(put._only_commits(commits, {TP: OffsetAndMetadata(60, OURS)}))


def test_a_new_cluster_is_asked_again_until_it_has_the_topic_of_groups(monkeypatch):
    answers = [GroupCoordinatorNotAvailableError(), {TP: OffsetAndMetadata(7, OURS)}]

    class Admin:
        async def list_consumer_group_offsets(self, group):
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    @asynccontextmanager
    async def connected(kafka):
        yield Admin()

    monkeypatch.setattr(group, "connected", connected)
    assert asyncio.run(group.commits(KAFKA)) == {TP: OffsetAndMetadata(7, OURS)} and not answers
