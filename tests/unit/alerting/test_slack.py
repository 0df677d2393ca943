"""The channel slack against a stand-in that holds to the documented API."""

import asyncio
import json
from typing import ClassVar

import pytest
from support.kafka_tools import HANG_S
from support.messages import END, PUMP, burst, context, ended, event, told
from support.slack_stand_in import CHANNEL, HOOK, TOKEN, Slack, reaches, texts

from app.alerting.channels import slack
from app.alerting.channels.api import MessageRejected, Retry
from app.errors import ConfigurationError
from app.wire.notifications import News

NOW = PUMP.timestamp + 2.0
OTHER = event(source="pump-8", episode="raw-data:3:6000:0")


def against(test):
    async def run():
        stand_in = Slack()
        async with stand_in.running() as url:
            try:
                await test(stand_in, url)
            finally:
                while Person.every:
                    await Person.every.pop().channel.close()

    asyncio.run(asyncio.wait_for(run(), HANG_S))


class Person:
    """A channel with what the alerter remembers of its answers. ``again``: the same after a restart."""

    every: ClassVar = []

    def __init__(self, url, references=None, **options):
        self.every.append(self)
        self.url, self.options, self.references = url, options, {} if references is None else references
        given = {"token": TOKEN, "channel": CHANNEL, "api_url": f"{url}/api"} | options
        known = context("127.0.0.1", reference=lambda channel, episode: self.references.get((channel, episode), ""))
        self.channel = slack.Channel("chat", slack.Options(**given), known, clock=lambda: NOW)

    def again(self):
        return Person(self.url, self.references, **self.options)

    async def tell(self, notification):
        """The answer, or the error that it raises."""
        notification.attempts += 1
        try:
            answer = await self.channel.send(notification)
        except (Retry, MessageRejected) as error:
            return error
        if len(notification.news) == 1:
            self.references["chat", notification.news[0].event.episode] = answer.reference
        return answer


def test_the_life_of_an_episode_is_one_message_and_its_thread():
    async def test(stand_in, url):
        person = Person(url)
        high = event(severity="high")
        answer = await person.tell(told(News(high, "opened"), created_at=NOW))
        [message] = stand_in.parents()
        assert answer == (f"posted {message['ts']}", f"{CHANNEL}:{message['ts']}")
        assert texts(message) == [
            ":large_orange_circle: *high: pump-7 temperature is 90.44, expected 50.02*",
            "90.44 is 40.42 above the expected 50.02; the usual error is 3.029",
            "*severity* high; highest alert score 1.00 of 1\n*value* 90.44\n"
            "*expected* 50.02, between 40.2 and 59.6\n*difference* 40.42 above the expected (81%)\n"
            "*since* 2023-10-27T09:37:40Z",
            "<https://alerts.example/view/#source=pump-7&amp;metric=temperature|view>",
        ]
        [details] = stand_in.replies(message["ts"])
        assert "*votes* prediction_interval 1.00" in texts(details)[0] and "reply_broadcast" not in details
        assert "*labels* room=B, rack=7" in texts(details)[0] and PUMP.episode in texts(details)[0]

        person = person.again()
        for why, changed in [("raised", PUMP), ("repeated", event(value=93.0))]:
            answer = await person.tell(told(News(changed, why, high), id=why, created_at=NOW))
            assert answer == (f"updated {message['ts']}", f"{CHANNEL}:{message['ts']}")
            assert stand_in.replies(message["ts"])[-1]["reply_broadcast"] is True
        assert texts(message)[0].startswith(":red_circle: *still critical: pump-7 temperature is 93,")

        await person.tell(ended())
        assert texts(message)[0] == ":white_check_mark: *ended: pump-7 temperature after 3 min 20 s (recovered)*"
        *_, raised, _, end = stand_in.replies(message["ts"])
        assert texts(raised)[0].startswith(":red_circle: raised to critical") and texts(end) == [
            ":white_check_mark: ended: pump-7 temperature after 3 min 20 s (recovered)"
        ]
        assert "reply_broadcast" not in end and len(stand_in.parents()) == 1 and len(stand_in.messages) == 5
        assert set(stand_in.calls) == {"chat.postMessage", "chat.update"}  # nothing was in doubt

    against(test)


def test_many_episodes_are_one_message_and_those_that_ended_are_updated():
    async def test(stand_in, url):
        person = Person(url)
        await person.tell(told(created_at=NOW))
        await person.tell(told(News(OTHER, "opened"), News(END, "closed", PUMP), id="n-9", created_at=NOW))
        first, second = stand_in.parents()
        assert texts(first)[0].startswith(":white_check_mark: *ended: pump-7")
        assert texts(second)[0] == ":red_circle: *1 episode opened: 1 critical; 1 ended*"
        assert texts(second)[2:4][1].startswith(":white_check_mark: ended: pump-7")
        many = burst()
        many.created_at = NOW
        answer = await person.tell(many)
        message = stand_in.parents()[-1]
        assert answer.reference == f"{CHANNEL}:{message['ts']}" and len(stand_in.replies(message["ts"])) == 0
        assert texts(message)[-1] == "and 1,924 more" and "1,874 episodes opened in 40 s" in texts(message)[0]

    against(test)


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("restarted", [False, True])
def test_nothing_appears_twice_when_an_answer_is_lost(lost, restarted):
    """Lost is the answer to the message, or to its details; then the same process tries again, or the next one."""

    async def test(stand_in, url):
        person, notification = Person(url), told(created_at=NOW)
        await person.tell(told(News(OTHER, "opened"), id="n-0", created_at=NOW))
        stand_in.next = [None, "lost"][-lost:]
        assert isinstance(await person.tell(notification), Retry)
        for i in range(3):  # of others, so that there is more than one page
            await Person(url).tell(told(News(event(episode=f"e{i}"), "opened"), id=f"m-{i}", created_at=NOW))
        if restarted:
            person, notification.attempts = person.again(), 0
            person.channel._started = NOW + 1.0
        answer = await person.tell(notification)
        assert answer.said.startswith("posted")
        sent = [one for one in stand_in.messages.values() if one["metadata"]["event_payload"]["notification"] == "n-1"]
        assert [one["metadata"]["event_payload"]["part"] for one in sent] == ["message", "thread"]
        assert answer.reference == f"{CHANNEL}:{sent[0]['ts']}" and sent[1]["thread_ts"] == sent[0]["ts"]

    against(test)


def test_without_the_right_to_look_it_is_posted_again():
    async def test(stand_in, url):
        person, notification = Person(url), told(created_at=NOW)
        stand_in.scopes.remove("channels:history")
        stand_in.next = ["lost"]
        assert isinstance(await person.tell(notification), Retry)
        assert (await person.tell(notification)).said.startswith("posted")
        assert len(stand_in.parents()) == 2

    against(test)


def test_a_message_that_somebody_deleted_is_posted_anew():
    async def test(stand_in, url):
        person = Person(url)
        await person.tell(told(created_at=NOW))
        stand_in.messages.clear()
        answer = await person.tell(ended())
        [message] = stand_in.parents()
        assert answer == (f"posted {message['ts']}", f"{CHANNEL}:{message['ts']}")

    against(test)


@pytest.mark.parametrize(
    ("fault", "error", "after_s", "words"),
    [
        (429, Retry, 3.0, "429"),
        (500, Retry, None, "500"),
        ("ratelimited", Retry, None, "Slack: ratelimited"),
        ("internal_error", Retry, None, "Slack: internal_error"),
        ("invalid_auth", Retry, 60.0, "Slack: invalid_auth: the token is not accepted"),
        ("channel_not_found", Retry, 60.0, "as C0123456789"),
        ("a_new_one", Retry, 60.0, "Slack: a_new_one"),
        ("msg_too_long", MessageRejected, None, "Slack: msg_too_long"),
    ],
)
def test_what_is_refused_and_what_is_tried_again(fault, error, after_s, words):
    async def test(stand_in, url):
        person, notification = Person(url), told(created_at=NOW)
        stand_in.next = [fault]
        raised = await person.tell(notification)
        assert type(raised) is error and words in str(raised) and getattr(raised, "after_s", None) == after_s
        await person.tell(notification)
        assert len(stand_in.parents()) == 1
        assert ("conversations.history" in stand_in.calls) == (fault == 500)  # else it was not taken, for certain

    against(test)


def test_a_wrong_token_or_channel_is_said_and_kept_secret():
    async def test(stand_in, url):
        stand_in.members = False
        assert "invite the app" in str(await Person(url).tell(told(created_at=NOW)))
        raised = await Person(url, token="xoxb-wrong").tell(told(created_at=NOW))
        assert "invalid_auth" in str(raised) and "xoxb" not in str(raised)

    against(test)


def test_data_reaches_nobody():
    evil = "<!channel> <@U012> @here *b* `c` &lt;!here&gt; <https://evil|view>" + "&<>" * 3000
    news = event(source=evil, metric=evil, explanation=evil, labels={evil: evil}, detectors={evil: 1.0}, kind=evil)

    async def test(stand_in, url):
        hooked = Person(url, token=None, channel=None, webhook_url=url + HOOK)
        for notification in (
            told(News(news, "opened"), created_at=NOW),
            told(News(news, "raised", news), id="n-2", created_at=NOW),
            told(*[News(news, "opened")] * 30, id="n-3", created_at=NOW),
            told(about="channel_down", text=evil, id="n-4", created_at=NOW, news=[]),
        ):
            assert hasattr(await Person(url).tell(notification), "said")
            assert hasattr(await hooked.tell(notification), "said")
        every = [*stand_in.messages.values(), *stand_in.hooked]
        assert len(every) == 10
        for message in every:
            assert reaches(message) == [] and all(block["text"]["verbatim"] for block in message["blocks"])
            assert message.get("parse", "none") == "none" and message["unfurl_links"] is False

    against(test)


def test_an_incoming_webhook():
    async def test(stand_in, url):
        person = Person(url, token=None, channel=None, webhook_url=url + HOOK)
        assert await person.tell(told()) == ("200 ok", "")
        [message] = stand_in.hooked
        assert texts(message)[0].startswith(":red_circle: *critical: pump-7") and "*votes*" in texts(message)[-1]
        stand_in.next = [503, 400]
        raised = await person.tell(told()), await person.tell(told())
        assert [type(one) for one in raised] == [Retry, MessageRejected] and "s3cr3t" not in str(raised)

    against(test)


def test_settings(tmp_path):
    for options in (
        {},
        {"token": TOKEN},
        {"channel": CHANNEL},
        {"token": TOKEN, "channel": CHANNEL, "webhook_url": "https://h/x"},
    ):
        with pytest.raises(ConfigurationError, match="expected token and channel, or webhook_url"):
            slack.Channel("chat", slack.Options(**options), context())
    with pytest.raises(ConfigurationError, match="got other text"):
        slack.Channel("chat", slack.Options(webhook_url="hooks.slack.com/s3cr3t"), context())
    (tmp_path / "token").write_text(TOKEN)
    slack.Channel("chat", slack.Options(token_file=str(tmp_path / "token"), channel=CHANNEL), context())
    assert TOKEN not in json.dumps(repr(slack.Options(token=TOKEN)))


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"text": "x" * 40_001},
        {"blocks": [slack._section("x" * 3001)]},
        {"blocks": [slack._section("")]},
        {"blocks": [slack._section("x")] * 51},
        {"blocks": [slack._section("x" * 2900)] * 5},
        {"blocks": [{"type": "section"}]},
        {"blocks": [{"type": "header", "text": {"type": "plain_text", "text": "x" * 151}}]},
        {"text": "x", "metadata": {"event_type": "a b", "event_payload": {}}},
    ],
)
def test_the_stand_in_refuses_what_slack_refuses(message):
    from support.slack_stand_in import Refusal, check

    with pytest.raises(Refusal):
        check(message)
