"""Whoever reads slowly, or not at all, holds nobody up: not the worker, not its commits, not other readers."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from integration import load, logs
from integration.run import Run
from integration.workers import PORT, wait_for
from support.kafka_tools import HANG_S

PER_S = 500  # records
UNREAD_S = 4.0  # at least, and until every reader is stuck
STUCK = 10  # times in a row that not a byte more was taken
MOST_S = 60.0
LONGEST_STALL_S = 4.0  # of a busy machine
MOST_MB = 40.0
HEAD = b"Host: 127.0.0.1\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\n" + HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PATHS = ("/metrics", "/api/sources?limit=1000", "/api/anomalies?limit=1000", "/")


def unread(port: int) -> socket.socket:
    """A connection whose owner never reads, with as little room as the kernel gives."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.setblocking(False)
    return connection


class Asking:
    """Asks for a path again and again and reads no answer."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = unread(port)
        self._request = b"GET " + path.encode() + b" HTTP/1.1\r\n" + HEAD + b"\r\n"
        self.full = 0  # times in a row that not a byte more was taken

    def ask(self) -> None:
        self.full += 1
        with contextlib.suppress(BlockingIOError):
            while self.socket.send(self._request * 100):
                self.full = 0


@contextlib.contextmanager
def never_polling(servers: list[str], topic: str, group: str) -> Iterator[AIOKafkaConsumer]:
    """A member of a group on the topic that does not ask for a record, in a thread of its own."""
    loop, ready, ending = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[AIOKafkaConsumer] = []

    async def sit() -> None:
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, group_id=group, auto_offset_reset="earliest")
        await consumer.start()
        found.append(consumer)
        ready.set()
        await ending.wait()
        await consumer.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(sit(),), daemon=True)
    thread.start()
    assert ready.wait(HANG_S)
    yield found[0]
    loop.call_soon_threadsafe(ending.set)
    thread.join(30.0)


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def test_readers_that_do_not_read_hold_nobody_up(job, tmp_path):
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(Run(job, tmp_path)).make_topics()
        worker = run.start().until_ready()
        found = PORT.search(worker.said)
        assert found
        port, pid = int(found[1]), worker.process.pid
        kafka = run.kafka
        source = stack.enter_context(load.Load(kafka.bootstrap_servers, kafka.input_topic, 4, PER_S))
        wait_for(lambda: worker.metric("results_delivered_total") > 2 * PER_S)

        group = f"{job.name}-alert"
        consumer = stack.enter_context(never_polling(kafka.bootstrap_servers, kafka.anomalies_topic, group))
        wait_for(consumer.assignment)
        pages = [stack.enter_context(unread(port)) for _ in range(3)]
        for page in pages:
            page.send(UPGRADE)
        scraper = stack.enter_context(unread(port))
        scraper.send(b"GET /metrics HTTP/1.1\r\nHo")  # and hangs
        asking = [Asking(port, path) for path in PATHS]
        for each in asking:
            stack.enter_context(each.socket)

        def statistics():
            return json.loads(worker.get("/api/statistics")[1])

        wait_for(lambda: statistics()["pages_open"] == len(pages))

        def done():
            return time.monotonic(), worker.metric("results_delivered_total"), worker.metric("commits_total")

        begin_mb, progress = resident_mb(pid), [done()]
        while (so_far_s := time.monotonic() - progress[0][0]) < UNREAD_S or any(each.full < STUCK for each in asking):
            assert so_far_s < MOST_S, [each.full for each in asking]
            for each in asking:
                each.ask()
            if (now := done())[2] > progress[-1][2]:
                progress.append(now)
            assert now[0] - progress[-1][0] < LONGEST_STALL_S, progress[-3:]
            time.sleep(0.05)
        grown_mb = resident_mb(pid) - begin_mb
        took_s, delivered, _ = (last - first for first, last in zip(progress[0], progress[-1]))
        print(f"\n{delivered:.0f} results, {len(progress) - 1} commits, {grown_mb:.1f} MB more in {so_far_s:.0f} s")

        assert statistics()["pages_open"] == len(pages)
        assert delivered > 0.6 * PER_S * took_s
        assert grown_mb < MOST_MB
        sent = source.stop()
        run.until_done()
        assert sum(logs.ends(kafka, kafka.input_topic)) == sent
        assert worker.code is None and "ERROR" not in worker.said
