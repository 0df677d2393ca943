"""One record whose results fill several record batches: a crash between them, and the successor emits just the rest.

A point is (offset, index), and so is the mark up to which results have been emitted.
"""

import json
import signal

from integration import load, logs
from integration.run import Run

from app.stream.takeover import RESULTS_TAIL, WHOLE
from app.stream.transport import BATCH_BYTES

MAX_VALUE = 1_048_000  # bytes of a record of raw-data, under the broker's usual limit


def array(element) -> bytes:
    """As many elements as a record of raw-data holds."""
    elements, size = [], 2
    while True:
        one = json.dumps(element(len(elements)), separators=(",", ":")).encode()
        size += len(one) + 1
        if size > MAX_VALUE:
            return b"[" + b",".join(elements) + b"]"
        elements.append(one)


SINGLE = b'{"source":"p","value":1.5}'
LONG = array(lambda i: {"source": "p", "value": i % 9})  # more points than are read of the results' end


def test_a_crash_inside_an_array_is_made_good(job, tmp_path):
    assert len(json.loads(LONG)) > 2 * RESULTS_TAIL
    with Run(job, tmp_path) as run:
        run.make_topics(1)
        records = [(0, b"p", value) for value in (SINGLE, LONG, SINGLE)]
        load.produce(run.kafka.bootstrap_servers, run.kafka.input_topic, records)
        worker = run.start(FAUST_ANOMALY_FAILPOINT="results_half_sent:1")
        assert worker.wait() == -signal.SIGKILL, worker.said
        [written] = logs.records(run.kafka, run.kafka.output_topic)
        last = run.start().until_ready()
        run.until_saved()
        report = run.check()
        assert report.faults == {} and "results repeated" not in report
        assert report.counts["results"] == len(json.loads(LONG)) + 2
        [(*_, offset, index)] = last.recoveries
        assert json.loads(written[-1].value)["id"].endswith(f":0:{offset}:{index}"), "the last result is the mark"
        assert 0 < index < WHOLE, "it died inside an array"
        assert len(written) > RESULTS_TAIL + 1, "no other offset is in what is read of the results' end"
        assert sum(len(record.value) for record in written) > 2 * BATCH_BYTES, "of several record batches"
        assert last.metric("results_suppressed_total") == len(written)
