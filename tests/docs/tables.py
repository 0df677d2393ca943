"""The tables of the documents that are made from the program: ``python -m tests.docs.tables`` writes them."""

from functools import partial
from typing import Any

from app import detectors, metrics
from app.kafka import permissions, topics
from app.settings import RuleSettings, SilentSettings, as_text, describe, load
from app.settings.messages import allowed, named_fields
from tests.docs import alerts, pages, schemas, sizing


def settings_table() -> str:
    """Every setting with its default, without those of the default detectors."""
    rows = ["| setting | default | unit | range | what it is |", "|---|---|---|---|---|"]
    for row in describe(load(environ={})):
        if not row.name.startswith("detection.detectors."):
            values = row.range.replace("|", "\\|")
            rows.append(f"| `{row.name}` | {as_text(row.value)} | {row.unit} | {values} | {row.description} |")
    return "\n".join(rows)


def parameters_table() -> str:
    """Every parameter of every detector."""
    rows = ["| method | parameter | default | range | what it is |", "|---|---|---|---|---|"]
    for method in detectors.names():
        for name, each in detectors.find(method).params.declared.items():
            values = each.allowed.replace("|", "\\|")
            rows.append(f"| `{method}` | `{name}` | {as_text(each.default)} | {values} | {each.help} |")
    return "\n".join(rows)


def fields_table(model: Any) -> str:
    """Every field of the entries of a list."""
    rows = ["| field | default | range | what it is |", "|---|---|---|---|"]
    for name, field in named_fields(model).items():
        default = "must be given" if field.is_required() else as_text(field.default)
        rows.append(f"| `{name}` | {default} | {allowed(field)} | {field.description} |")
    return "\n".join(rows)


def rights_of_all() -> dict[str, list[permissions.Right]]:
    """Program -> what its user must be allowed, with the default names."""
    settings = load(environ={})
    kafka = settings.kafka
    return {
        "worker": permissions.of_worker(settings),
        "worker, POST /data": permissions.of_posts(kafka.input_topic),
        "alerter": permissions.of_alerter(kafka),
        "alerter, decisions": permissions.of_deciders(kafka),
        "generate": permissions.of_generator(kafka.input_topic),
        "topics --create": permissions.of_topic_creator(kafka, topics.names(kafka)),
    }


def rights_table() -> str:
    """A row for each permission; those that a program has on every topic share one."""
    rows = ["| user of | operation | on | for |", "|---|---|---|---|"]
    every = len(topics.names(load(environ={}).kafka))
    for program, needed in rights_of_all().items():
        for operation, use in dict.fromkeys((right.operation, right.use) for right in needed):
            of = [right for right in needed if (right.operation, right.use) == (operation, use)]
            on = "each of the topics" if len(of) == every else ", ".join(f"{kind} `{name}`" for _, kind, name, _ in of)
            rows.append(f"| `{program}` | {operation} | {on} | {use} |")
    return "\n".join(rows)


def acl_commands() -> str:
    """The commands for all of the table, one user for each program."""
    users = {
        "worker": "anomaly",
        "worker, POST /data": "anomaly",
        "alerter": "alerter",
        "alerter, decisions": "alerter",
        "generate": "producer",
        "topics --create": "admin",
    }
    lines = ["```sh"]
    for program, needed in rights_of_all().items():
        lines.append(f"# {program}")
        for command in permissions.commands(needed, "kafka-1:9092", users[program]):
            lines.append(command.replace(" --operation", " \\\n    --operation"))
    return "\n".join([*lines, "```"])


TABLES = {
    "settings": settings_table,
    "parameters": parameters_table,
    "rules": partial(fields_table, RuleSettings),
    "silent": partial(fields_table, SilentSettings),
    "metrics": metrics.table,
    "rights": rights_table,
    "acls": acl_commands,
    **alerts.TABLES,
    **sizing.TABLES,
}


if __name__ == "__main__":
    for name, table in TABLES.items():
        pages.write(name, table())
    schemas.write()
