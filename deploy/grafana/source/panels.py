"""What the dashboards are made of: the JSON of Grafana 11.6 and 12 (schema version 41) as plain dicts.

An expression writes ``{$}`` for the selector of what is looked at, ``{$,stage="score"}`` for a narrower one. A panel
says what it shows and what is normal, and where to look next. Widths and heights are in units of Grafana's grid: 24
across.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import yaml

SCHEMA_VERSION = 41
TAG = "faust-anomaly"
TITLES = {
    "faust-anomaly-pipeline": "Pipeline Overview",
    "faust-anomaly-anomalies": "Anomaly Analysis",
    "faust-anomaly-models": "Model Performance",
    "faust-anomaly-infrastructure": "Infrastructure",
}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SELECTOR = '{job=~"$job",namespace=~"$namespace",instance=~"$instance"'
WIDTH = 24
GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"
SEVERITY = {"low": BLUE, "medium": YELLOW, "high": ORANGE, "critical": RED}

Json = dict[str, Any]


def query(expr: str, legend: str = "", **more: Any) -> Json:
    """A target. ``legend``: as ``{{partition}}``, or a name."""
    return {
        "datasource": DATASOURCE,
        "expr": expr.replace("{$", SELECTOR),
        "legendFormat": legend or "__auto",
        "range": True,
        "instant": False,
        "editorMode": "code",
        **more,
    }


def now(expr: str, legend: str = "", **more: Any) -> Json:
    """A target that is asked for one value, at the end of the time that is shown."""
    return query(expr, legend, range=False, instant=True, **more)


def steps(base: str, *more: tuple[float, str]) -> Json:
    """Colours from a value on: ``steps(GREEN, (0.8, YELLOW), (0.9, RED))``."""
    found: list[Json] = [{"color": base, "value": None}]
    return {"mode": "absolute", "steps": [*found, *({"color": color, "value": value} for value, color in more)]}


PLAIN = steps(GREEN)


@cache
def limit(name: str) -> float:
    """What the alerts compare with: the constant that deploy/prometheus/recorded.yaml records under this name."""
    rules = yaml.safe_load((Path(__file__).parents[2] / "prometheus/recorded.yaml").read_text("utf-8"))
    [expr] = [
        rule["expr"]
        for group in rules["groups"]
        for rule in group["rules"]
        if rule["record"] == f"faust_anomaly:{name}:limit"
    ]
    return prod(map(float, expr.split("*")))


def view(page: str, title: str) -> Json:
    """A link to a page of the program's own view."""
    return {"title": title, "url": f"${{view:raw}}/{page}", "targetBlank": True}


SYSTEM = view("system", "Page System of the view")
OPEN = view("", "What is open now")


def runbook(alert: str) -> Json:
    """A link to what to do about an alert."""
    return {"title": f"What to do: {alert}", "url": f"${{docs:raw}}/runbook.md#{alert.lower()}", "targetBlank": True}


def panel(
    kind: str,
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    unit: str,
    size: tuple[int, int],
    options: Json,
    thresholds: Json = PLAIN,
    links: Sequence[Json] = (),
    custom: Json | None = None,
    overrides: Sequence[Json] = (),
    interval: str | None = None,
    **defaults: Any,
) -> Json:
    """Any panel; ``size`` is width and height, and `dashboard` says where. ``defaults``: of all fields."""
    width, height = size
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [{**target, "refId": chr(ord("A") + n)} for n, target in enumerate(targets)],
        "gridPos": {"w": width, "h": height},
        "links": list(links),
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": thresholds, **defaults, **({"custom": custom} if custom else {})},
            "overrides": list(overrides),
        },
        "options": options,
        **({"interval": interval} if interval else {}),
    }


def stat(title: str, description: str, target: Json, *, unit: str, **more: Any) -> Json:
    """One number, and its course behind it where it is asked for over time."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "graphMode": "none" if target["instant"] else "area",
        "colorMode": "value",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "value",
        "wideLayout": True,
        "showPercentChange": False,
    }
    more = {"size": (4, 4), "noValue": "none", "color": {"mode": "thresholds"}, **more}
    return panel("stat", title, description, [target], unit=unit, options=options, **more)


def lines(
    title: str,
    description: str,
    *targets: Json,
    unit: str,
    stacked: bool = False,
    bars: bool = False,
    thresholds: Json | None = None,
    **more: Any,
) -> Json:
    """Lines over time, or bars; thresholds are drawn where there are any."""
    custom = {
        "drawStyle": "bars" if bars else "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 80 if bars else 15 if stacked else 5,
        "gradientMode": "none",
        "showPoints": "auto",
        "spanNulls": False,
        "axisSoftMin": 0,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if thresholds else "off"},
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    more = {"size": (8, 8), "noValue": "none", "color": {"mode": "palette-classic"}, **more}
    more |= {"thresholds": thresholds or PLAIN, "custom": custom}
    return panel("timeseries", title, description, targets, unit=unit, options=options, **more)


def states(title: str, description: str, target: Json, words: Mapping[str, tuple[str, str]], **more: Any) -> Json:
    """What was when, a band for each series. ``words``: value -> (word, colour)."""
    mapped = {
        value: {"text": text, "color": color, "index": n} for n, (value, (text, color)) in enumerate(words.items())
    }
    options = {
        "mergeValues": True,
        "showValue": "never",
        "alignValue": "left",
        "rowHeight": 0.9,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    more = {"size": (8, 8), "color": {"mode": "thresholds"}, "custom": {"fillOpacity": 70, "lineWidth": 0}, **more}
    more |= {"mappings": [{"type": "value", "options": mapped}]}
    return panel("state-timeline", title, description, [target], unit="none", options=options, **more)


def table(
    title: str, description: str, targets: Sequence[Json], columns: Mapping[str, str], *, unit: str, **more: Any
) -> Json:
    """Labels of what is found now, and a column for the value of each target; ``columns``: label -> head, in order."""
    options = {
        "showHeader": True,
        "cellHeight": "sm",
        "footer": {"show": False, "reducer": ["sum"], "countRows": False},
    }
    transformations = [
        {"id": "merge", "options": {}},
        {
            "id": "filterFieldsByName",
            "options": {"include": {"names": list(columns)}},
        },
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "indexByName": {name: n for n, name in enumerate(columns)},
                "renameByName": dict(columns),
            },
        },
    ]
    more = {"size": (12, 8), "noValue": "none", **more}
    found = panel(
        "table",
        title,
        description,
        [{**target, "format": "table"} for target in targets],
        unit=unit,
        options=options,
        **more,
    )
    return {**found, "transformations": transformations}


def colored(names: Mapping[str, str]) -> list[Json]:
    """Overrides that give each name of the legend a colour."""
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
        }
        for name, color in names.items()
    ]


def dashed(pattern: str) -> Json:
    """An override that draws what is named like this as a limit."""
    return {
        "matcher": {"id": "byRegexp", "options": pattern},
        "properties": [
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
            {"id": "custom.fillOpacity", "value": 0},
        ],
    }


def row(title: str, *panels: Json, collapsed: bool = False) -> tuple[str, Sequence[Json], bool]:
    """A heading and what stands below it."""
    return title, panels, collapsed


def dashboard(uid: str, description: str, rows: Iterable[tuple[str, Sequence[Json], bool]]) -> Json:
    """The whole JSON: panels are placed from left to right, and those that do not fit begin a new line."""
    placed: list[Json] = []
    top = 0
    for title, panels, collapsed in rows:
        head = {
            "type": "row",
            "title": title,
            "collapsed": collapsed,
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            "panels": [],
        }
        inside, top = _placed(panels, top + 1)
        placed.append({**head, "panels": inside} if collapsed else head)
        if collapsed:
            top = head["gridPos"]["y"] + 1
        else:
            placed += inside
    for number, each in enumerate([inner for one in placed for inner in (one, *one.get("panels", ()))], 1):
        each["id"] = number
    return {
        "uid": uid,
        "title": f"faust-anomaly / {TITLES[uid]}",
        "description": description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "annotations": {"list": _annotations()},
        "templating": {"list": _variables()},
        "links": _links(uid),
        "panels": placed,
    }


def _placed(panels: Iterable[Json], top: int) -> tuple[list[Json], int]:
    found, x, height = [], 0, 0
    for one in panels:
        size = one["gridPos"]
        if x + size["w"] > WIDTH:
            x, top, height = 0, top + height, 0
        found.append({**one, "gridPos": {"x": x, "y": top, **size}})
        x, height = x + size["w"], max(height, size["h"])
    return found, top + height


def _variables() -> list[Json]:
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    found = [{**source, "hide": 0, "current": {"text": "Prometheus", "value": "prometheus"}, "regex": "", "refresh": 1}]
    above = ""
    for name, label in (("job", "Job"), ("namespace", "Namespace"), ("instance", "Instance")):
        expr = f"label_values(faust_anomaly_build_info{{{above}}}, {name})".replace("{}", "")
        found.append(
            {
                "name": name,
                "label": label,
                "type": "query",
                "datasource": DATASOURCE,
                "definition": expr,
                "query": {"query": expr, "refId": name},
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                # All jobs are those that were found, or panels of `up` and `process_*` would show every program. All
                # namespaces are also none: that label is known in Kubernetes alone.
                **({} if name == "job" else {"allValue": ".*"}),
                "current": {"text": ["All"], "value": ["$__all"]},
                "hide": 0,
                "regex": "",
            }
        )
        above = ",".join(filter(None, (above, f'{name}=~"${name}"')))
    for name, label, address in (
        ("view", "Address of the view", "http://127.0.0.1:8000"),
        ("docs", "Address of the documents", "https://example.org/faust-anomaly/docs"),
    ):
        value = {"text": address, "value": address}
        found.append({"name": name, "label": label, "type": "textbox", "query": address, "current": value, "hide": 0})
    return found


def _annotations() -> list[Json]:
    own = {"builtIn": 1, "type": "dashboard", "datasource": {"type": "grafana", "uid": "-- Grafana --"}}
    ours = {"datasource": DATASOURCE, "enable": True, "hide": False}
    return [
        {**own, "name": "Annotations & Alerts", "enable": True, "hide": True, "iconColor": "rgba(0, 211, 255, 1)"},
        {
            **ours,
            "name": "Starts",
            "iconColor": BLUE,
            "expr": "process_start_time_seconds{$} * 1000".replace("{$", SELECTOR),
            "useValueForTime": True,
            "titleFormat": "started",
            "textFormat": "{{instance}}",
            "step": "1m",
        },
        {
            **ours,
            "name": "Alerts",
            "iconColor": RED,
            "expr": 'max by (alertname, severity) (ALERTS{alertname=~"FaustAnomaly.+",alertstate="firing"})',
            "titleFormat": "{{alertname}}",
            "textFormat": "{{severity}}",
            "step": "1m",
        },
    ]


def _links(uid: str) -> list[Json]:
    inside = [
        {"title": title, "url": f"/d/{other}", "icon": "dashboard", "includeVars": True, "keepTime": True}
        for other, title in TITLES.items()
        if other != uid
    ]
    outside = [
        {"title": "What is open now", "url": "${view:raw}/", "icon": "external link", "targetBlank": True},
        {"title": "Runbook", "url": "${docs:raw}/runbook.md", "icon": "doc", "targetBlank": True},
    ]
    empty = {"type": "link", "tooltip": "", "tags": [], "asDropdown": False}
    plain = {"targetBlank": False, "includeVars": False, "keepTime": False}
    return [{**empty, **plain, **one} for one in (*inside, *outside)]
