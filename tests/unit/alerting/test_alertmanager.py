"""The channel alertmanager, against Debian's Alertmanager and against a server that keeps what it is sent."""

import asyncio
import json
import shutil
import subprocess
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from support.kafka_tools import HANG_S
from support.messages import END, PUMP, context, ended, event, told

from app.alerting.channels import alertmanager
from app.alerting.channels.api import MessageRejected, Retry
from app.errors import ConfigurationError
from app.wire.decisions import Acknowledgement
from app.wire.notifications import News

CONFIG = """
route: {{receiver: us, group_by: [...], group_wait: 0s, group_interval: 50ms, repeat_interval: 1h}}
receivers: [{{name: us, webhook_configs: [{{url: "http://127.0.0.1:{port}/", send_resolved: true}}]}}]
"""
EPISODE = PUMP.episode


def channel(*urls, now=None, acknowledged=None, **options):
    known = {"acknowledgement": ({} if acknowledged is None else acknowledged).get}
    given = alertmanager.Options(urls=",".join(urls), **options)
    clock = {} if now is None else {"clock": lambda: now[0]}
    return alertmanager.Channel("am", given, context("127.0.0.1", **known), **clock)


class Told:
    """The receiver of the real Alertmanager: (status, severity) of each alert of an episode, as it was told."""

    def __init__(self):
        self.alerts, self.more = [], asyncio.Event()

    async def handle(self, request):
        self.alerts += (await request.json())["alerts"]
        self.more.set()
        return web.Response()

    async def until(self, episode, count):
        while True:
            self.more.clear()
            found = [alert for alert in self.alerts if alert["labels"]["episode"] == episode]
            if len(found) >= count:
                return sorted((alert["status"], alert["labels"]["severity"]) for alert in found)
            await self.more.wait()


@asynccontextmanager
async def running(directory):
    """(address of a real Alertmanager, what its receiver is told)."""
    program = shutil.which("prometheus-alertmanager")
    assert program, "prometheus-alertmanager is missing: apt-get install prometheus-alertmanager"
    receiver, app = Told(), web.Application()
    app.router.add_post("/", receiver.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        (directory / "config.yml").write_text(CONFIG.format(port=server.port))
        url = f"http://127.0.0.1:{unused_port()}"
        process = subprocess.Popen(
            [
                *(program, f"--config.file={directory}/config.yml", f"--storage.path={directory}/data"),
                *(f"--web.listen-address={url.removeprefix('http://')}", "--cluster.listen-address="),
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            async with aiohttp.ClientSession() as session:
                while True:
                    try:
                        async with session.get(f"{url}/-/ready") as answer:
                            if answer.status == 200:
                                break
                    except aiohttp.ClientConnectionError:
                        assert process.poll() is None
                    await asyncio.sleep(0.02)
            yield url, receiver
        finally:
            process.terminate()
            process.wait(HANG_S)


def test_with_alertmanager(tmp_path):
    async def run():
        async with running(tmp_path) as (url, receiver), aiohttp.ClientSession(f"{url}/api/v2/") as api:

            async def silence(**matcher):
                times = {"startsAt": datetime.now(UTC), "endsAt": datetime.now(UTC) + timedelta(hours=1)}
                body = {name: time.isoformat() for name, time in times.items()}
                body |= {"matchers": [matcher], "createdBy": "ann", "comment": "we know"}
                async with api.post("silences", json=body) as answer:
                    assert answer.status == 200
                    return (await answer.json())["silenceID"]

            async def states():
                async with api.get("alerts") as answer:
                    return {one["labels"]["severity"]: one for one in await answer.json()}

            gone = f"http://127.0.0.1:{unused_port()}"
            acknowledged = {}
            to = channel(gone, url, acknowledged=acknowledged)
            answer = await to.send(told(News(event(severity="high"), "opened")))
            assert answer.said.startswith("1 of 2 instances took it; ") and gone[7:] in answer.said
            assert await receiver.until(EPISODE, 1) == [("firing", "high")]
            [alert] = receiver.alerts
            assert alert["labels"] == {
                "alertname": "Anomaly", "source": "pump-7", "metric": "temperature", "severity": "high",
                "kind": "value", "episode": EPISODE, "rack": "7", "room": "B",
            }  # fmt: skip
            assert alert["annotations"]["summary"] == PUMP.explanation
            assert (alert["annotations"]["value"], alert["annotations"]["expected"]) == ("90.44", "50.02")
            assert alert["startsAt"] == "2023-10-27T09:37:40Z" and alert["generatorURL"].endswith("&metric=temperature")

            await to.send(told(News(PUMP, "raised", event(severity="high")), id="n-2"))
            said = [("firing", "critical"), ("firing", "high"), ("resolved", "high")]
            assert await receiver.until(EPISODE, 3) == said
            before = await states()
            await to.refresh([PUMP])
            after = await states()
            assert list(after) == ["critical"] and after["critical"]["endsAt"] > before["critical"]["endsAt"]

            others = await silence(name="source", value='valve-.*"', isRegex=True, isEqual=False)
            await silence(name="alertname", value="HostDown", isRegex=False)
            everything = await silence(name="alertname", value="Anom.*", isRegex=True)
            found = {tuple(one.matchers): one for one in await to.silences()}
            assert set(found) == {('source!~"valve-.*\\""',), ('source=~".*"',)}
            all_of_ours = found['source=~".*"',]
            assert (all_of_ours.by, all_of_ours.comment, all_of_ours.id) == ("ann", "we know", f"am/{everything}")
            assert 3590 < all_of_ours.ends_at - all_of_ours.starts_at < 3610
            for id in (everything, others):
                async with api.delete(f"silence/{id}") as done:
                    assert done.status == 200

            # An acknowledgement silences the episode at its severity, until it is taken back, or until the end.
            async def silenced():
                await to.refresh([PUMP])
                return (await states())["critical"]["status"]["silencedBy"]

            acknowledged[EPISODE] = Acknowledgement(EPISODE, by="bob", at=0.0, comment="a leak")
            [first] = await silenced()
            assert await silenced() == [first] and await to.silences() == []
            async with api.get(f"silence/{first}") as answer:
                assert (await answer.json())["comment"] == "acknowledged by bob: a leak"
            by = acknowledged.pop(EPISODE)
            assert await silenced() == []
            acknowledged[EPISODE] = by
            assert len(await silenced()) == 1

            # Another episode is acknowledged by a silence there, and its end is told.
            other = {"episode": "raw-data:0:1:0", "source": "valve-1"}
            await to.send(told(News(event(**other), "opened"), id="n-3"))
            assert await receiver.until("raw-data:0:1:0", 1) == [("firing", "critical")]
            by_hand = await silence(name="episode", value="raw-data:0:1:0", isRegex=False)
            async with api.get("alerts", params={"filter": 'source="valve-1"'}) as answer:
                assert (await answer.json())[0]["status"]["silencedBy"] == [by_hand]
            await to.send(told(News(event(END, **other), "closed", event(**other)), id="n-4"))
            assert (await receiver.until("raw-data:0:1:0", 2))[1] == ("resolved", "critical")
            async with api.get(f"silence/{by_hand}") as answer:
                assert (await answer.json())["status"]["state"] == "expired"

            await to.send(ended())
            assert await receiver.until(EPISODE, 4) == sorted([*said, ("resolved", "critical")])
            await to.refresh([PUMP])  # listed before it ended: an end is not taken back
            assert await states() == {}
            await to.close()

    asyncio.run(asyncio.wait_for(run(), HANG_S))


class Kept:
    """An instance that keeps what it is sent, and answers with ``status``."""

    def __init__(self):
        self.requests, self.alerts, self.status, self.headers = [], [], 200, {}

    async def post(self, request):
        self.requests.append(request)
        if self.status == 200:
            self.alerts.append(await request.json())
        return web.Response(status=self.status, headers=self.headers, text='"no"')

    async def silences(self, request):
        return web.json_response([])

    def last(self):
        """What was said of last: severity -> whether it fires, and its end."""
        return {one["labels"]["severity"]: one["endsAt"] for one in self.alerts[-1]}


def against(instances, test):
    async def run():
        servers = []
        for kept in instances:
            app = web.Application(client_max_size=2**24)
            app.router.add_post("/prefix/api/v2/alerts", kept.post)
            app.router.add_get("/prefix/api/v2/silences", kept.silences)
            servers.append(TestServer(app, host="127.0.0.1"))
            await servers[-1].start_server()
        try:
            await test(*(f"http://127.0.0.1:{server.port}/prefix/" for server in servers))
        finally:
            for server in servers:
                await server.close()

    asyncio.run(asyncio.wait_for(run(), HANG_S))


def test_what_is_over_is_said_for_five_minutes_and_what_is_open_ends_by_itself():
    kept, now = Kept(), [PUMP.opened_at + 10.0]

    async def test(url):
        to = channel(url, now=now)
        await to.send(told())
        assert kept.last() == {"critical": "2023-10-27T09:41:50.000+00:00"}  # 4 minutes ahead
        now[0] += 60.0
        await to.refresh([PUMP])
        assert kept.last() == {"critical": "2023-10-27T09:42:50.000+00:00"}
        now[0] = END.timestamp + 1.0
        await to.send(ended())
        assert kept.last() == {"critical": "2023-10-27T09:41:00.000+00:00"}  # when it ended
        for _ in range(5):
            before = len(kept.alerts)
            await to.refresh([])
            assert len(kept.alerts) == before + 1 and kept.last() == {"critical": "2023-10-27T09:41:00.000+00:00"}
            now[0] += 60.0
        before = len(kept.alerts)
        await to.refresh([])
        assert len(kept.alerts) == before
        await to.close()

    against([kept], test)


def test_a_process_that_takes_over_says_the_same_labels():
    """Labels of points change; those of an alert must not, and the severity before is known by the first event."""
    kept, now = Kept(), [PUMP.opened_at + 100.0]

    async def test(url):
        to = channel(url, now=now)
        began = event(severity="medium", labels={"room": "A"})
        raised = event(labels={"room": "B"}, severity="high", timestamp=PUMP.timestamp + 60.0)
        await to.send(told(News(raised, "raised", began)))
        assert [(one["labels"]["severity"], one["labels"]["room"]) for one in kept.alerts[-1]] == [
            ("medium", "A"),
            ("high", "A"),
        ]
        assert kept.last()["medium"] == "2023-10-27T09:39:20.000+00:00"  # now
        await to.refresh([event(severity="critical", labels={})])  # rose meanwhile: the labels that are known
        assert {one["labels"]["severity"]: one["labels"].get("room") for one in kept.alerts[-2]} == {
            "high": "A",
            "critical": "A",
        }
        await to.close()

    against([kept], test)


def test_names_of_labels_are_legal_and_ours_stay():
    labels = {"host.name": "a", "host-name": "b", "7th": True, "severity": "mine", "__x": 1, "none": "", "ä": 0.5}
    found = channel("http://h")._labels(event(labels=labels, metric=""))
    assert found == {
        "alertname": "Anomaly", "source": "pump-7", "kind": "value", "episode": EPISODE, "host_name": "b",
        "exported_host_name": "a", "_7th": "true", "exported_severity": "mine", "exported___x": "1", "_": "0.5",
    }  # fmt: skip


def test_a_future_start_is_now():
    kept, now = Kept(), [PUMP.opened_at - 3600.0]

    async def test(url):
        to = channel(url, now=now)
        await to.send(told())
        await to.send(ended())
        first, second = (one for [one] in kept.alerts)
        assert first["startsAt"] < first["endsAt"]
        assert second["startsAt"] == second["endsAt"] == "2023-10-27T08:37:40.000+00:00"
        await to.close()

    against([kept], test)


def test_many_alerts_are_said_in_requests_of_500():
    kept = Kept()

    async def test(url):
        to = channel(url)
        many = [event(episode=f"raw-data:0:{i}:0") for i in range(1200)]
        answer = await to.send(told(*(News(one, "opened") for one in many)))
        assert answer.said == "1 of 1 instances took it"
        await to.refresh(many)
        assert list(map(len, kept.alerts)) == [500, 500, 200] * 2
        await to.close()

    against([kept], test)


def test_an_instance_that_fails_is_left_out_until_all_is_said_again():
    good, bad = Kept(), Kept()
    bad.status = 503

    async def test(*urls):
        to = channel(*urls)
        for _ in range(3):
            assert (await to.send(told())).said == f'1 of 2 instances took it; {urls[1][:-8]}: 503 "no"'
        assert len(bad.requests) == 1
        bad.status = 200
        await to.refresh([PUMP])
        assert len(bad.alerts) == 1
        assert (await to.send(told())).said == "2 of 2 instances took it"
        await to.close()

    against([good, bad], test)


@pytest.mark.parametrize(("status", "error"), [(400, MessageRejected), (503, Retry), (429, Retry)])
def test_when_no_instance_takes_it(status, error):
    first, second = Kept(), Kept()
    first.status, second.status = status, status
    first.headers["Retry-After"] = "7"

    async def test(*urls):
        to = channel(*urls)
        for _ in range(2):  # all are asked again
            with pytest.raises(error) as raised:
                await to.send(told())
            assert all(url[:-8] in str(raised.value) for url in urls)
        assert error is MessageRejected or raised.value.after_s == 7.0
        assert len(first.requests) == len(second.requests) == 2
        first.status = 200
        await to.send(told())
        await to.close()

    against([first, second], test)


def test_words_about_ourselves():
    kept = Kept()

    async def test(url):
        to = channel(url)
        for about in ("test", "channel_down", "channel_up"):
            await to.send(told(about=about, text="mail is down"))
        [first], [second], [third] = kept.alerts
        assert first["labels"] == {"alertname": "AnomalyTest"} and first["endsAt"] > first["startsAt"]
        assert second["labels"] == third["labels"] == {"alertname": "AnomalyChannelDown"}
        assert second["annotations"]["description"] == "mail is down"
        assert third["endsAt"] == third["startsAt"]
        await to.close()

    against([kept], test)


def test_who_sends(tmp_path):
    (tmp_path / "token").write_text("t0ken\n")
    kept = Kept()

    async def test(url):
        for options, said in [
            ({"username": "ann", "password": "pä"}, "Basic YW5uOnDDpA=="),
            ({"bearer_token_file": str(tmp_path / "token")}, "Bearer t0ken"),
        ]:
            to = channel(url, **options)
            await to.send(told())
            assert kept.requests[-1].headers["Authorization"] == said
            assert kept.requests[-1].headers["Content-Type"] == "application/json"
            await to.close()
        with pytest.raises(ConfigurationError, match="got both"):
            channel(url, username="ann", bearer_token="t")
        with pytest.raises(ConfigurationError, match="username with the password"):
            channel(url, password="p")
        with pytest.raises(ConfigurationError, match="password_file"):
            channel(url, username="ann", password_file=str(tmp_path / "none"))

    against([kept], test)
    assert json.dumps(kept.alerts).count("t0ken") == 0
