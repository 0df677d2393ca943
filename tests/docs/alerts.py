"""What docs/alerts.md shows of channels: their options, and messages as they look."""

import asyncio
import json
import re
import tempfile
from pathlib import Path

from app.alerting import channels
from app.alerting.channels import alertmanager, email, log, slack, webhook
from app.alerting.message import Message
from app.settings import as_text
from app.settings.messages import allowed, named_fields, unit
from app.wire.notifications import News, Notification
from tests.support.messages import PUMP, burst, context, ended, told


def options_table() -> str:
    """Every option of every type of channel."""
    rows = ["| type | option | default | range | what it is |", "|---|---|---|---|---|"]
    for kind in channels.names():
        module = channels.find(kind)
        for name, field in named_fields(module.Options).items():
            default = "must be given" if field.is_required() else as_text(field.default)
            values = f"{allowed(field)} {unit(field)}".strip().replace("|", "\\|")
            secret = "secret: " if name in channels.secrets(module) else ""
            rows.append(f"| `{kind}` | `{name}` | {default} | {values} | {secret}{field.description} |")
    return "\n".join(rows)


def _plain(notification: Notification) -> str:
    return f"```text\n{Message.of(notification, context()).plain().strip()}\n```"


def opened() -> str:
    return _plain(told())


def closed() -> str:
    return _plain(ended())


def digest() -> str:
    return _plain(burst())


def line() -> str:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "alerts.log"
        asyncio.run(log.Channel("log", log.Options(), context(log_file=str(path))).send(told()))
        return _wrapped(path.read_text())


def body() -> str:
    return _wrapped(webhook.payload(ended(), context()).decode())


def alert() -> str:
    channel = alertmanager.Channel("am", alertmanager.Options(urls=["http://alertmanager:9093"]), context())
    [made] = channel._alerts(News(PUMP, "opened"), PUMP.timestamp + 2.0, {})
    return _wrapped(json.dumps(made))


def chat() -> str:
    blocks = slack.blocks(Message.of(told(), context()))
    return "\n".join(["```text", *(block["text"]["text"] for block in blocks), "```"])


def mail() -> str:
    options = email.Options(**{"host": "mail.example", "from": "anomalies@pumps.example", "to": "ann@example.com"})
    made = email.compose(ended(), options, context(), first="<n-1@pumps.example>")
    return "\n".join(["```text", *(f"{name}: {made[name]}" for name in made if not name.startswith("Content")), "```"])


def _wrapped(text: str) -> str:
    """JSON on lines of at most 118 characters, but for texts that are longer."""
    lines = [""]
    for part in re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^",])+,?', json.dumps(json.loads(text), ensure_ascii=False)):
        if lines[-1] and len(lines[-1]) + len(part) > 118:
            lines.append("")
        lines[-1] += part
    return "\n".join(["```json", *lines, "```"])


TABLES = {
    "channels": options_table,
    "alert_opened": opened,
    "alert_closed": closed,
    "alert_digest": digest,
    "alert_line": line,
    "alert_body": body,
    "alert_alert": alert,
    "alert_chat": chat,
    "alert_mail": mail,
}
