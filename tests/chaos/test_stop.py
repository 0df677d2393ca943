"""A worker that is asked to stop loses nothing and leaves nothing to be done again."""

import time

import pytest
from integration import logs
from integration.load import Load
from integration.run import PARTITIONS, Run
from integration.workers import wait_for

from app.kafka import topics

PER_S = 1200  # records
UNSAVED = {"ANOMALY_STATE__IDLE_SNAPSHOT_S": "3600"}  # on a slow machine a worker under load looks idle for .5 s


@pytest.fixture
def run(job, tmp_path):
    with Run(job, tmp_path) as run:
        yield run.make_topics()


def test_sigterm_saves_everything_and_the_next_start_replays_nothing(run):
    with Load(run.kafka.bootstrap_servers, run.kafka.input_topic, PARTITIONS, PER_S) as load:
        worker = run.start().until_ready()
        time.sleep(1.5)
        worker.term()  # in the middle of the load
        assert worker.code == 0
        worker = run.start().until_ready()
        assert worker.recoveries and all(sources for _, sources, *_ in worker.recoveries)
        wait_for(lambda: load.handed > 5_000)
        load.stop()
    run.until_done()
    worker.term()  # before or after idle_snapshot_s
    assert worker.code == 0
    report = run.check()  # everything saved
    assert report.faults == {}
    assert report.counts["results"] >= 5_000
    written = topics.names(run.kafka)[1:]
    ends = [logs.ends(run.kafka, topic) for topic in written]
    worker = run.start().until_ready()
    assert [begin for _, _, begin, *_ in worker.recoveries] == [end for _, _, _, end, *_ in worker.recoveries]
    time.sleep(1.5)
    assert worker.metric("replayed_points_total") == 0
    assert [logs.ends(run.kafka, topic) for topic in written] == ends
    worker.term()
    assert worker.code == 0


def test_sigterm_amid_a_revocation_hands_over_everything_once(run):
    """Asked to leave while its partitions are being taken: stopped between two rounds of snapshots, then told."""
    with Load(run.kafka.bootstrap_servers, run.kafka.input_topic, PARTITIONS, PER_S) as load:
        leaving = run.start(FAUST_ANOMALY_FAILPOINT="draining_revoked:2:stop", **UNSAVED).until_ready()
        staying = run.start()
        wait_for(lambda: leaving.is_stopped, lambda: leaving.said)
        leaving.process.terminate()
        leaving.cont()
        assert leaving.wait() == 0
        staying.until_ready()
        wait_for(lambda: load.handed > 2_000)
        load.stop()
    run.until_saved()
    report = run.check()
    assert report.faults == {} and report.counts["results"] >= 2_000
    assert "Traceback" not in leaving.said and staying.code is None
