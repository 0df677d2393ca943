"""What docs/alerts.md shows of channels: their options, and messages as they look."""

import asyncio
import json
import re
import tempfile
from pathlib import Path

from app.alerting import channels
from app.alerting.channels import log, webhook
from app.alerting.message import Message
from app.cli.settings import shown
from app.wire.notifications import Notification
from tests.messages import burst, context, ended, told


def options_table() -> str:
    """Every option of every type of channel."""
    rows = ["| type | option | default | range | what it is |", "|---|---|---|---|---|"]
    for kind in channels.names():
        module = channels.find(kind)
        for name, field in module.Options.model_fields.items():
            default = "must be given" if field.is_required() else shown(field.default)
            words = field.json_schema_extra
            allowed = f"{words['allowed']} {words['unit']}".strip().replace("|", "\\|")
            secret = "secret: " if name in channels.secrets(module) else ""
            rows.append(f"| `{kind}` | `{name}` | {default} | {allowed} | {secret}{field.description} |")
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
}
