"""JSON Schemas of what a worker writes, for docs/schemas: ``python -m tests.docs.tables`` writes them."""

import json
import typing
from pathlib import Path
from typing import Any

import msgspec

from app.detectors.kinds import KINDS
from app.pipeline.outcome import SILENCE, STATUS
from app.scoring import severity
from app.scoring.episodes import REASONS
from app.wire.decisions import Decision
from app.wire.episodes import EVENTS, EXTERNAL, Event
from app.wire.external import External
from app.wire.notifications import Notification
from app.wire.overdue import Overdue
from app.wire.results import Closed, Result, Standing

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"
WORDS = {
    "kind": list(KINDS),
    "severity": list(severity.NAMES),
    "status": list(STATUS),
    "direction": ["above", "below"],
    "reason": sorted({*filter(None, REASONS), SILENCE}),
}


def of(kind: Any, title: str, **fixed: Any) -> dict[str, Any]:
    """The schema of a struct: fields that may be left out are not required, and no other fields are excluded."""
    [schema] = msgspec.json.schema(kind)["$defs"].values()
    hints = typing.get_type_hints(kind)
    properties = {name: {"const": value} for name, value in fixed.items()} | schema["properties"]
    for name in properties.keys() & fixed.keys():
        properties[name] = {"const": fixed[name]}
    for name in properties.keys() & WORDS.keys():
        properties[name] = {"enum": WORDS[name]}
    optional = {name for name, hint in hints.items() if msgspec.UnsetType in typing.get_args(hint)}
    required = [name for name in properties if name not in optional]
    return {"title": title, "type": "object", "properties": properties, "required": required}


def both(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The first with the fields of the second behind its own."""
    merged = {name: first[name] | second[name] for name in ("properties",)}
    return first | merged | {"required": first["required"] + second["required"]}


def reported() -> dict[str, Any]:
    """Of an event of an episode of another program."""
    [schema] = msgspec.json.schema(Event)["$defs"].values()
    fixed = {"event": {"enum": list(EVENTS)}, "kind": {"const": EXTERNAL}, "severity": {"enum": WORDS["severity"]}}
    title = "An episode that another program reports opened, goes on or closed"
    return {**schema, "title": title, "properties": schema["properties"] | fixed}


def schemas() -> dict[str, str]:
    """File name -> text."""
    opened = both(of(Result, "An episode opened", event="opened"), of(Standing, ""))
    changed = both(of(Result, "An episode goes on", event="changed"), of(Standing, ""))
    closed = of(Closed, "An episode closed", event="closed")
    found = {
        "anomaly-results.json": of(Result, "The result of a point"),
        "anomalies.json": {"title": "The event of an episode", "oneOf": [opened, changed, closed, reported()]},
    }
    for name, kind, title in (
        ("notifications.json", Notification, "What one channel was told of episodes, or why it was not"),
        (
            "decisions.json",
            Decision | Overdue | External,
            "What people said of episodes, workers find overdue, and others report",
        ),
    ):
        found[name] = {"title": title, **msgspec.json.schema(kind)}
    version = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {name: json.dumps(version | schema, indent=1) + "\n" for name, schema in found.items()}


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (FOLDER / name).write_text(text)
