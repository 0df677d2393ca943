"""Every expression of the dashboards and the rules, and what must be asked for to see that each has data.

Expressions hide what is wrong: `... or vector(0)` gives data whatever a metric is called, and an alert gives none while
all is well. So each selector is asked for too, and of a rule what it compares, for the present.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from deploy.grafana.source import dashboards
from tests.deploy.named import DEPLOY

RULES = [path for path in sorted((DEPLOY / "prometheus").glob("*.y*ml")) if "\ngroups:" in path.read_text("utf-8")]
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
QUOTED = r'"(?:[^"\\]|\\.)*"'
BRACES = rf'\{{(?:[^}}"]|{QUOTED})*\}}'
SELECTOR = re.compile(rf"[a-zA-Z_:][\w:]*{BRACES}")
RECORDED = re.compile(r"\b([a-z_]+:[\w:]+)(?:\[(\w+)\])?")
PAST = re.compile(r"\s+offset\s+\w+")
TOKEN = re.compile(
    rf"(?P<apart>{QUOTED}|{BRACES})|(?P<compare>==|!=|>=|<=|<|>)(?!\s*bool\b)"
    r"|\b(?P<word>unless|absent_over_time|absent)\b"
)
SEEN_FROM_INSIDE = {"unless": "and", "absent": "count", "absent_over_time": "count_over_time"}
ABSENT_WHILE_WELL = re.compile(r"ALERTS\b")  # a series for each alert, while it fires


class Asked(NamedTuple):
    """One question to Prometheus. ``where``: dashboard and panel, or the rule."""

    where: str
    expr: str
    instant: bool = True
    interval: str = ""  # the panel's least
    finite: bool = True  # NaN and infinity are no data


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Those with queries, also in rows that are folded."""
    for one in dashboard["panels"]:
        yield from (each for each in (one, *one.get("panels", ())) if each["type"] != "row")


def of_dashboards() -> Iterator[Asked]:
    """As Grafana asks, but for the variables."""
    for uid, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                where = f"{uid} / {panel['title']} {target['refId']}"
                yield Asked(where, target["expr"], target["instant"], panel.get("interval", ""))
        for annotation in dashboard["annotations"]["list"]:
            if "expr" in annotation and not ABSENT_WHILE_WELL.search(annotation["expr"]):
                yield Asked(f"{uid} / {annotation['name']}", annotation["expr"])


def of_rules() -> Iterator[Asked]:
    """What each rule compares; a rate of nothing may be divided by another."""
    rules = [
        (path.name, rule)
        for path in RULES
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]
    recorded: dict[str, str] = {}
    for name, rule in sorted(rules, key=lambda one: "alert" in one[1]):
        expr = _unfolded(compared(rule["expr"]), recorded)
        if "record" in rule:
            recorded[rule["record"]] = expr if SELECTOR.search(expr) else f"vector({expr})"
        yield Asked(f"{name} / {rule.get('record') or rule['alert']}", expr, finite=False)


def of_scaling() -> Iterator[Asked]:
    """What KEDA asks; there are no namespaces here."""
    [made] = yaml.safe_load_all((DEPLOY / "kubernetes/components/keda/scaled-object.yaml").read_text("utf-8"))
    for trigger in made["spec"]["triggers"]:
        yield Asked("keda", trigger["metadata"]["query"].replace(', namespace="faust-anomaly"', ""))


def _unfolded(expr: str, recorded: Mapping[str, str]) -> str:
    """With the expressions in place of the names of what is recorded: that may be nothing while all is well."""

    def instead(found: re.Match[str]) -> str:
        return f"({recorded[found[1]]})" + (f"[{found[2]}:]" if found[2] else "")

    return RECORDED.sub(instead, expr)


def selectors(asked: Asked) -> Iterator[Asked]:
    """Each selector of an expression by itself."""
    for found in SELECTOR.findall(asked.expr):
        if not ABSENT_WHILE_WELL.match(found):
            yield Asked(f"{asked.where}: {found}", found)


def compared(expr: str) -> str:
    """The expression with data for all that it looks at, also where nothing is to be told, and from the first day on.

    >>> compared('max by (channel) (up{job="a"}) < 1 unless absent(x{of!="=="}) > 2')
    'max by (channel) (up{job="a"}) < bool 1 and count(x{of!="=="}) > bool 2'
    """

    def instead(found: re.Match[str]) -> str:
        if found["compare"]:
            return f"{found['compare']} bool"
        return SEEN_FROM_INSIDE[found["word"]] if found["word"] else found[0]

    return TOKEN.sub(instead, PAST.sub("", expr))


def seconds(duration: str) -> float:
    """Of what Grafana and Prometheus write: 15s, 1m."""
    found = re.fullmatch(r"(\d+)(ms|[smhd])", duration)
    assert found, duration
    return int(found[1]) * UNITS[found[2]]


@dataclass(frozen=True)
class Shown:
    """What Grafana puts for its variables where the last ``range_s`` seconds are shown.

    ``points`` across, of what is scraped each ``scrape_s``. Both intervals are as its documents have them: what is
    between two points of a chart but no less than a scrape; and that and a scrape, but no less than four of these.
    """

    range_s: float
    scrape_s: float
    points: int = 1000

    def interval_s(self, least: str = "") -> float:
        """``$__interval``."""
        return max(self.range_s / self.points, seconds(least) if least else self.scrape_s)

    def expr(self, asked: Asked) -> str:
        """The expression as Prometheus gets it; KeyError for a variable that there is not."""
        interval_s = self.interval_s(asked.interval)
        values = {
            "__interval": _duration(interval_s),
            "__interval_ms": f"{1000 * interval_s:.0f}",
            "__rate_interval": _duration(max(interval_s + self.scrape_s, 4 * self.scrape_s)),
            "__range": _duration(self.range_s),
            "__range_s": f"{self.range_s:.0f}",
            "job": "(faust-anomaly)",  # all of one
            **dict.fromkeys(("namespace", "instance"), ".*"),  # allValue
        }
        return VARIABLE.sub(lambda found: values[found[1] or found[2]], asked.expr)


def _duration(value_s: float) -> str:
    return f"{1000 * value_s:.0f}ms"
