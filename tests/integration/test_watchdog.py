"""Workers without progress end by themselves and report why; those that only wait continue."""

import asyncio
import time

from aiokafka import AIOKafkaProducer
from integration.load import Load
from integration.test_history import points, runs, start, stopped, until_answered, until_answered_or_ended  # noqa: F401 - runs is a fixture
from integration.workers import wait_for

QUICK = {"ack_timeout_s": 1.0}


STUCK = {
    "assigns_nothing": "nobody in the group",
    "takes_nothing": "assigned here, no progress at offset 0 of 200",
    "never_recovers": "assigned here, no progress during recovery",
    "commits_hang": "4 commits in a row failed, the last by TimeoutError: no answer within 1 s",
    "blocks": "the event loop did not turn for 3 s",
    "producer_meets_no_broker": "the producer could not start, though a broker answered a moment ago",
    "consumer_meets_no_broker": "the consumer could not start, though a broker answered a moment ago",
}


def test_workers_that_get_nowhere_leave(runs):  # noqa: F811
    made = runs(*STUCK, "as_it_is", kafka=QUICK)
    for altered, run in made.items():
        start(run, altered)
        points(run, 200)
    asyncio.run(transaction(made["as_it_is"]))
    until_answered(made["as_it_is"], 202)  # with the mark of the transaction
    began = time.monotonic()
    for altered, said in STUCK.items():
        stopped(made[altered], said)
    time.sleep(max(0.0, began + 6.0 - time.monotonic()))
    assert made["as_it_is"].lag() == 0
    [worker] = made["as_it_is"].workers
    assert worker.code is None and "[ERROR]" not in worker.said and "Traceback" not in worker.said


async def transaction(run):
    topic = run.kafka.input_topic
    producer = AIOKafkaProducer(bootstrap_servers=run.job.servers, transactional_id=topic)
    async with producer, producer.transaction():
        await producer.send(topic, b'{"source":"pump-1","value":7}', b"pump-1", partition=0)


def test_a_worker_more_than_there_are_partitions_stays(runs):  # noqa: F811
    [run] = runs("standby", kafka={"session_timeout_s": 60.0}).values()
    workers = [start(run) for _ in range(3)]  # for two partitions
    points(run, 200)
    for worker in workers:
        worker.until_ready()
    until_answered(run)
    wait_for(lambda: sum(worker.metric("assigned_partitions") for worker in workers) == 2)
    standby = next(worker for worker in workers if not worker.metric("assigned_partitions"))
    for worker in workers:
        if worker is not standby:
            worker.stop()  # they keep their partitions, and the lag stands still
    points(run, 100)
    time.sleep(6.0)  # twice what an impatient worker waits
    assert standby.code is None and standby.get("/livez")[0] == 200
    for worker in workers:
        worker.cont()
    until_answered(run, 300)


def test_a_broker_that_is_away_for_longer_than_an_acknowledgement_may_take(runs, kafka):  # noqa: F811
    """A worker with results on their way ends; one without waits, or ends by the rule of failing commits, since
    aiokafka sometimes does not find the coordinator of its group again; a stop ends in time. Nothing is lost."""
    [patient] = runs("patient").values()  # the broker's own start may take half a minute on a busy machine
    busy, leaving = runs("busy", "leaving", kafka={"ack_timeout_s": 4.0}).values()
    for run in (patient, busy, leaving):
        run.start()
        points(run, 200)
    for run in (patient, busy, leaving):
        until_answered(run)
    with Load(busy.kafka.bootstrap_servers, busy.kafka.input_topic, 2, per_s=2000) as loading:
        wait_for(lambda: busy.workers[0].metric("results_delivered_total") > 2000)
        kafka.kill()
        went = time.monotonic()
        try:
            took = leaving.workers[0].term()
            stopped_for = busy.workers[0].wait(), leaving.workers[0].code
            print(f"\na stop without a broker took {took:.1f} s; {stopped_for}")
            time.sleep(max(0.0, went + 6.0 - time.monotonic()))
        finally:
            kafka.start()
        ended, left = stopped_for
        # aiokafka's consumer may also raise while it closes without a broker: no clean end, and nothing committed.
        assert ended == 70 and left in (1, 70), leaving.workers[0]._last()
        assert took < 2.0 + 5.0 + 3.0
        assert left == 1 or "the stop is not done after 7 s" in leaving.workers[0].said
        busy.start()
        leaving.start()
        loading.stop()
    for run in (patient, leaving):
        points(run, 100, first=200)
        until_answered_or_ended(run, 300)
    [waiting] = patient.workers
    if waiting.code is not None:
        stopped(patient, "4 commits in a row failed")
        patient.start()
        until_answered(patient, 300)
    for run in (patient, busy, leaving):
        run.until_saved()
        assert run.check().faults == {}
