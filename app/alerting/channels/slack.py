"""Slack: one message for each episode, kept up to date, with details and what happened in its thread.

With a token of an app (scope ``chat:write``) the message of an episode is updated when its severity rises, when it is
told again and when it ends. Updates notify nobody, so a rise and a reminder also appear in the channel, as replies that
are shown there; the end appears in the thread. Many episodes at once become one message that names the worst.

Slack has no key against repeats. Each message carries the notification's id as metadata, and where an earlier attempt
may have succeeded (no answer came, or the process ended), it is looked for before it is posted again. That needs the
scope ``channels:history``, for private channels ``groups:history``.

With an incoming webhook instead of a token every notification is a message of its own, and can appear twice.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from pydantic import AfterValidator, SecretStr

from app.alerting.channels.api import (
    Answer,
    BaseChannel,
    ChannelOptions,
    Context,
    MessageRejected,
    Retry,
    Url,
    exchange,
    setting,
)
from app.alerting.message import Message
from app.errors import ConfigurationError
from app.wire.notifications import News, Notification

METADATA = "faust_anomaly_notification"
DETAILS = ("before", "kind", "votes", "metrics", "labels", "episode")  # lines of a message that stand in its thread
EMOJI = {
    "critical": ":red_circle:",
    "high": ":large_orange_circle:",
    "medium": ":large_yellow_circle:",
    "low": ":white_circle:",
    "": ":white_check_mark:",  # over
}
ABOUT = {"test": ":information_source:", "channel_down": ":warning:", "channel_up": ":white_check_mark:"}
JSON = {"Content-Type": "application/json; charset=utf-8"}
QUIET = {"unfurl_links": False, "unfurl_media": False}
PLAIN = {"parse": "none", "link_names": False}  # names in the fallback are no mentions; chat.update would make some

_encode = msgspec.json.encode

MOST_BYTES = 4_000_000  # of a page of history
MOST_TEXT = 3000  # characters of a text of a block: Slack's own limit
# All blocks of a message: above some 13,000 characters Slack answers msg_blocks_too_long, which is not documented.
MOST_TITLE, MOST_ITEM, MOST_LINE, MOST_LINK = 800, 500, 600, 400
LOOK_BACK_S = 300.0  # before a notification was made: the clocks differ
MOST_PAGES, PAGE = 5, 200
DOUBTFUL_S = 10.0  # a notification so old may have been sent by a process that ended
MOST_UPDATES = 10  # of messages of episodes that ended, with one digest
FIX_S = 60.0  # until it is tried again, where somebody has to change something first


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The message is wrong, and would be the next time.
WRONG = _codes("""
    attachment_payload_limit_exceeded invalid_arg_name invalid_arguments invalid_array_arg invalid_blocks
    invalid_blocks_format invalid_charset invalid_form_data invalid_json invalid_metadata_format
    invalid_metadata_schema json_not_object markdown_text_conflict metadata_too_large msg_blocks_too_long msg_too_long
    no_text too_many_attachments
""")
# Another time it may work, without anybody doing anything.
LATER = _codes("""
    accesslimited external_channel_migrating fatal_error internal_error message_limit_exceeded rate_limited ratelimited
    request_timeout service_unavailable team_added_to_org
""")
# An old message that cannot be updated: a new one is posted.
GONE = _codes("""
    cant_update_message channel_not_found edit_window_closed invalid_ts is_inactive message_not_found
""")
ADVICE = {
    "not_in_channel": "invite the app to the channel: /invite @name",
    "channel_not_found": "expected the id of a channel of which the app is a member, as C0123456789",
    "is_archived": "the channel is archived",
    "invalid_auth": "the token is not accepted",
    "not_authed": "the token is not accepted",
    "account_inactive": "the token is of an app that was removed",
    "token_revoked": "the token was revoked",
    "token_expired": "the token has expired",
    "missing_scope": "the app needs the scope chat:write",
}

log = logging.getLogger(__name__)


def _id(text: str) -> str:
    if not re.fullmatch("[CDG][A-Z0-9]{2,30}", text):
        raise ValueError
    return text


class Options(ChannelOptions):
    token: SecretStr | None = setting(None, "token of the app's bot", expected="xoxb-.. of an app")
    token_file: str | None = setting(None, "file with the token", expected="the path of a file")
    channel: Annotated[str, AfterValidator(_id)] | None = setting(
        None, "id of the channel, with a token", expected="the id of a channel, as C0123456789"
    )
    webhook_url: SecretStr | None = setting(
        None, "address of an incoming webhook, instead of token and channel", expected="https://hooks.slack.com/.."
    )
    webhook_url_file: str | None = setting(None, "file with that address", expected="the path of a file")
    api_url: Url = setting("https://slack.com/api", "the web API", expected="https://host/path")


class Channel(BaseChannel):
    MESSAGES_PER_MINUTE = 12.0
    options: Options

    def __init__(self, name: str, options: Options, context: Context, clock: Any = time.time) -> None:
        super().__init__(name, options, context)
        token, webhook = options.secret("token"), options.secret("webhook_url")
        if (token is None) == (webhook is None) or (token is None) != (options.channel is None):
            raise ConfigurationError("expected token and channel, or webhook_url")
        if webhook is not None and not re.fullmatch(r"https?://[^\s/]+/\S+", webhook):
            raise ConfigurationError("webhook_url: expected https://hooks.slack.com/.., got other text")
        self._clock, self._started = clock, clock()
        self._notification = ""  # the last one, and what of it was posted: part -> ts
        self._posted: dict[str, str] = {}
        self._unsure = False  # whether what was posted last has arrived

    async def send(self, notification: Notification) -> Answer:
        message = Message.of(notification, self.context)
        shown: dict[str, Any] = {"text": fallback(message), "blocks": blocks(message, notification.about)}
        if webhook := self.options.secret("webhook_url"):
            shown["blocks"] += _sections(_lines(message, DETAILS))
            reply = await exchange(self.session, "POST", webhook, body=_encode({**shown, **QUIET}), headers=JSON)
            return Answer(reply.said)
        if notification.id != self._notification:
            self._notification, self._posted = notification.id, {}
            old = notification.created_at < max(self._started, self._clock() - DOUBTFUL_S)
            self._unsure = old or notification.attempts > 1
        if notification.about == "episodes" and len(notification.news) == 1:
            return await self._one(notification, message, shown)
        at = await self._post(notification, "message", shown)
        await self._update_ended(notification.news)
        return Answer(f"posted {_ts(at)}", at)

    # --- episodes

    async def _one(self, notification: Notification, message: Message, shown: dict[str, Any]) -> Answer:
        """The message of an episode, new or updated; and its thread."""
        [news] = notification.news
        known, at = self.context.reference(self.name, news.event.episode), self._posted.get("message")
        if at is None and known and await self._update(known, shown):
            at = self._posted["message"] = known
        if at is None:
            at = await self._post(notification, "message", shown)
        updated = at == known
        more = _reply(news, message) if updated else {"blocks": _sections(_lines(message, DETAILS))}
        if more["blocks"]:
            await self._post(notification, "thread", {"text": shown["text"], **more}, at)
        return Answer(f"{'updated' if updated else 'posted'} {_ts(at)}", at)

    async def _update(self, at: str, shown: dict[str, Any]) -> bool:
        """Whether the message was there to be updated."""
        try:
            await self._call("chat.update", {**_place(at), **shown, **PLAIN})
        except _Failed as failed:
            if failed.code in GONE:
                return False
            raise failed.as_error() from failed
        return True

    async def _update_ended(self, news: list[News]) -> None:
        """Messages of episodes of which a digest has told the end; what cannot be updated stays as it is."""
        ended = [(one, self.context.reference(self.name, one.event.episode)) for one in news if one.why == "closed"]
        for one, at in [(one, at) for one, at in ended if at][:MOST_UPDATES]:
            alone = Notification(id="", state="queued", channel=self.name, news=[one], created_at=0.0)
            message = Message.of(alone, self.context)
            try:
                await self._update(at, {"text": fallback(message), "blocks": blocks(message)})
            except (Retry, MessageRejected) as error:
                log.warning("channel %s: a message was not updated: %s", self.name, error)
                return

    # --- the API

    async def _post(
        self, notification: Notification, part: str, shown: dict[str, Any], thread: str | None = None
    ) -> str:
        """Post one part of a notification once; where it is, as ``channel:ts``."""
        if part in self._posted:
            return self._posted[part]
        at = await self._find(notification, part, thread) if self._unsure else None
        if at is None:
            payload = {"notification": notification.id, "part": part}
            where = {**_place(thread, "thread_ts")} if thread else {"channel": self.options.channel}
            body = {
                **where,
                **shown,
                **QUIET,
                **PLAIN,
                "metadata": {"event_type": METADATA, "event_payload": payload},
            }
            self._unsure = True
            try:
                answer = await self._call("chat.postMessage", body)
            except _Failed as failed:
                self._unsure = False
                raise failed.as_error() from failed
            except Retry as error:
                self._unsure = error.after_s is None  # else it was turned away
                raise
            self._unsure = False
            at = f"{answer['channel']}:{answer['ts']}"
        self._posted[part] = at
        return at

    async def _find(self, notification: Notification, part: str, thread: str | None) -> str | None:
        """Where an earlier attempt has posted it; None if it has not, or if that cannot be known."""
        wanted = {"notification": notification.id, "part": part}
        channel = thread.partition(":")[0] if thread else self.options.channel
        asked = {"channel": channel, "include_all_metadata": "true", "limit": str(PAGE)}
        asked["oldest"] = f"{notification.created_at - LOOK_BACK_S:.6f}"
        if thread:
            asked["ts"] = _ts(thread)
        for _ in range(MOST_PAGES):
            try:
                answer = await self._call(f"conversations.{'replies' if thread else 'history'}", asked, reads=True)
            except _Failed as failed:
                if failed.code in LATER:
                    raise failed.as_error() from failed
                log.warning("channel %s: what was posted cannot be looked up: %s", self.name, failed.code)
                return None
            for one in answer.get("messages", []):
                metadata = one.get("metadata", {})
                if metadata.get("event_type") == METADATA and metadata.get("event_payload") == wanted:
                    return f"{channel}:{one['ts']}"
            asked["cursor"] = answer.get("response_metadata", {}).get("next_cursor", "")
            if not asked["cursor"]:
                break
        return None

    async def _call(self, method: str, arguments: dict[str, Any], reads: bool = False) -> dict[str, Any]:
        """What a method of the web API answers. Raises _Failed, Retry or MessageRejected."""
        token = self.options.secret("token") or ""
        url, headers = f"{self.options.api_url.rstrip('/')}/{method}", {"Authorization": f"Bearer {token}"}
        if reads:
            reply = await exchange(
                self.session, "GET", f"{url}?{urlencode(arguments)}", headers=headers, hide=[token], most=MOST_BYTES
            )
        else:
            reply = await exchange(
                self.session, "POST", url, body=_encode(arguments), headers=headers | JSON, hide=[token]
            )
        try:
            answer = msgspec.json.decode(reply.body, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise Retry(f"Slack: expected a JSON object, got {reply.said}") from error
        if answer.get("ok") is not True:
            raise _Failed(str(answer.get("error", "no reason was given")))
        return answer


class _Failed(Exception):
    """The API answered ok: false."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    def as_error(self) -> Retry | MessageRejected:
        advice = f": {ADVICE[self.code]}" if self.code in ADVICE else ""
        if self.code in WRONG:
            return MessageRejected(f"Slack: {self.code}{advice}")
        return Retry(f"Slack: {self.code}{advice}", None if self.code in LATER else FIX_S)


def _place(at: str, ts: str = "ts") -> dict[str, str]:
    return dict(zip(("channel", ts), at.split(":", 1)))


def _ts(at: str) -> str:
    return at.partition(":")[2]


# --- what is shown


def blocks(message: Message, about: str = "episodes") -> list[dict[str, Any]]:
    """A message without its details, as Slack's blocks."""
    emoji = ABOUT.get(about) or EMOJI[message.severity]
    shown = [_section(f"{emoji} *{escape(message.title, MOST_TITLE)}*")]
    if message.text:
        shown.append(_section(escape(message.text, MOST_TEXT)))
    shown += _sections([line for line in _lines(message) if line not in _lines(message, DETAILS)])
    for item in message.items:
        shown.append(_section(f"{EMOJI[item.severity]} {escape(item.text, MOST_ITEM)} {_link(item.link)}".rstrip()))
    if message.more:
        shown.append(_section(f"and {message.more:,} more"))
    if link := _link(message.link):
        shown.append(_section(link))
    return shown


def fallback(message: Message) -> str:
    """What a notification on a telephone shows."""
    return escape("\n".join(filter(None, [message.title, message.text])), MOST_TEXT)


def escape(text: str, most: int) -> str:
    """Text in which nothing is a mention, a link or an entity, of at most ``most`` characters.

    >>> escape("<!channel> & co", 80), escape("1 < 2", 6)
    ('&lt;!channel&gt; &amp; co', '1 …')
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text if len(text) <= most else re.sub(r"&[a-z]*$", "", text[: most - 1]) + "…"


def _reply(news: News, message: Message) -> dict[str, Any]:
    """What an update adds to the thread; ``reply_broadcast``: to the channel, too."""
    if news.why == "closed":
        return {"blocks": [_section(f"{EMOJI['']} {escape(message.title, MOST_TITLE)}")]}
    said = f"{EMOJI[message.severity]} {escape(message.title, MOST_TITLE)}"
    lines = [escape(message.text, MOST_TEXT), *_lines(message, ("before", "votes", "metrics"))]
    return {"blocks": [_section(said), *_sections(list(filter(None, lines)))], "reply_broadcast": True}


def _lines(message: Message, labels: tuple[str, ...] = ()) -> list[str]:
    """The lines with these labels, else all."""
    return [
        f"*{escape(label, MOST_LINE)}* {escape(text, MOST_LINE)}"
        for label, text in message.lines
        if not labels or label in labels
    ]


def _sections(lines: list[str]) -> list[dict[str, Any]]:
    """As few blocks as hold these lines."""
    found: list[str] = []
    for line in lines:
        if found and len(found[-1]) + 1 + len(line) <= MOST_TEXT:
            found[-1] += f"\n{line}"
        else:
            found.append(line)
    return list(map(_section, found))


def _section(text: str) -> dict[str, Any]:
    """Verbatim: Slack makes no links and mentions of what looks like some."""
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _link(url: str) -> str:
    return f"<{url.replace('&', '&amp;')}|view>" if 0 < len(url) <= MOST_LINK else ""
