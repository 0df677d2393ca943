"""A receiver that fails in each of eight ways, and then works: what waited arrives, in order, with the ids it had."""

import asyncio
import contextlib
import ssl

import pytest
from aiohttp.test_utils import unused_port
from support.messages import context, told
from support.secured import Certificates

from app.alerting.channels import webhook
from app.alerting.delivery import Delivery, QueuedNotification
from app.metrics import Metrics
from app.wire.notifications import SENT

SAID = {
    "down": "Cannot connect to host",
    "slow": "no answer within 0.3 s",
    "500": ": 500 X",
    "reset": "disconnected|reset by peer",
    "bad TLS": "certificate verify failed|certificate has expired",
    "redirect": "301, a redirect to https://elsewhere.example",
    "429": ": 429 X",
    "half a body": "broke|not completed|payload|disconnected",
}
ANSWERS = {
    "500": "HTTP/1.1 500 X\r\nContent-Length: 1\r\n\r\nX",
    "redirect": "HTTP/1.1 301 X\r\nLocation: https://elsewhere.example/hook\r\nContent-Length: 0\r\n\r\n",
    "429": "HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 1\r\n\r\nX",
    "half a body": "HTTP/1.1 503 X\r\nContent-Length: 100\r\n\r\nhalf",
    "": "HTTP/1.1 204 X\r\n\r\n",
}


class Receiver:
    """Fails in one way until ``repair``; ``seen`` has the ids of what it was sent, ``took`` of what it took."""

    def __init__(self, failing: str, authority: Certificates) -> None:
        self.failing, self.authority, self.port = failing, authority, unused_port()
        self.seen: list[str] = []
        self.took: list[str] = []
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        if self.failing != "down":
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            end = {"end": "20200101000000Z"} if self.failing == "bad TLS" else {}
            tls.load_cert_chain(self.authority.sign(f"receiver{bool(end)}", **end))
            self.server = await asyncio.start_server(self.answer, "127.0.0.1", self.port, ssl=tls)

    async def stop(self) -> None:
        if self.server:
            self.server.close()

    async def repair(self) -> None:
        again, self.failing = self.failing in ("down", "bad TLS"), ""
        if again:
            await self.stop()
            await self.start()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
                await reader.readexactly(int(fields["content-length"]))
                self.seen.append(fields["webhook-id"])
                failing = self.failing
                if failing == "slow":
                    await asyncio.sleep(5.0)
                    break
                if failing == "reset":
                    writer.transport.abort()
                    return
                if not failing:
                    self.took.append(fields["webhook-id"])
                writer.write(ANSWERS[failing].encode())
                await writer.drain()
                if failing == "half a body":
                    break
        writer.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("failing", SAID)
def test_it_recovers(failing, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    waits, states = [], []

    async def run():
        receiver = Receiver(failing, authority)
        await receiver.start()
        url = f"https://127.0.0.1:{receiver.port}/hook"
        timeout_s = 0.3 if failing == "slow" else 60.0  # nothing else depends on a quiet machine
        channel = webhook.Channel("hook", webhook.Options(url=url, timeout_s=timeout_s), context("127.0.0.1"))

        async def sleep(seconds):
            waits.append((seconds, delivery.status.error))
            if len(waits) == 3:
                await receiver.repair()
                channel.options = webhook.Options(url=url, timeout_s=60.0)

        async def done(notification):
            states.append((notification.id, notification.state))
            if len(states) == 3:
                all_done.set()

        all_done = asyncio.Event()
        delivery = Delivery(channel, Metrics(), 1e9, lambda *_: None, sleep=sleep)
        for name in ("n-1", "n-2", "n-3"):
            delivery.put(QueuedNotification(told(id=name), done, lambda: True))
        task = asyncio.create_task(delivery.run())
        try:
            await asyncio.wait_for(all_done.wait(), 120)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await channel.close()
            await receiver.stop()
        return receiver

    receiver = asyncio.run(run())
    assert states == [("n-1", SENT), ("n-2", SENT), ("n-3", SENT)] and len(waits) == 3
    assert receiver.took == ["n-1", "n-2", "n-3"]
    assert set(receiver.seen[:-3]) <= {"n-1"}
    assert (waits[0][0] == 7.0) == (failing == "429")
    said = waits[0][1]
    assert any(part.lower() in said.lower() for part in SAID[failing].split("|")), said
