"""The dashboards of Grafana: complete as documents, and every question that they and the rules ask has an answer."""

import json
import re

import pytest
import yaml
from integration.workers import wait_for

from app.metrics import Metrics
from deploy.grafana.source import dashboards
from deploy.grafana.source.panels import TITLES, WIDTH
from tests.deploy import expressions
from tests.deploy.expressions import Asked, Shown
from tests.deploy.named import DEPLOY, ROOT
from tests.deploy.watched import PROMETHEUS, PrometheusError, Watched

EVERY = dashboards()
PANELS = [(uid, one) for uid, dashboard in EVERY.items() for one in expressions.panels(dashboard)]
ANCHOR = re.compile(r"\$\{docs:raw\}/([\w.]+)(?:#([\w-]+))?")
VIEWS = {f"${{view:raw}}/{page}" for page in ("", "system", "source")}


@pytest.mark.parametrize("uid", TITLES)
def test_a_dashboard_is_complete(uid):
    dashboard = EVERY[uid]
    assert dashboard["uid"] == uid
    assert dashboard["title"] == f"faust-anomaly / {TITLES[uid]}"
    others = {link["url"] for link in dashboard["links"] if link["type"] == "link"}
    assert others >= {f"/d/{other}" for other in TITLES if other != uid}
    every = [one for each in dashboard["panels"] for one in (each, *each.get("panels", ()))]
    assert sorted(one["id"] for one in every) == list(range(1, len(every) + 1))
    assert [one["name"] for one in dashboard["templating"]["list"]] == [
        "datasource", "job", "namespace", "instance", "view", "docs"
    ]  # fmt: skip
    unfolded = [one for one in dashboard["panels"] if not one.get("collapsed")]
    for some in (unfolded, *(one["panels"] for one in dashboard["panels"] if one.get("collapsed"))):
        cells = [cell for one in some for cell in _cells(one["gridPos"])]
        assert len(cells) == len(set(cells)), "panels lie upon each other"
        assert all(x < WIDTH for x, _ in cells)


def _cells(at):
    return [(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]


@pytest.mark.parametrize(("uid", "panel"), PANELS, ids=[f"{uid}-{panel['title']}" for uid, panel in PANELS])
def test_a_panel_says_what_it_shows_in_which_unit_and_where_to_look_next(uid, panel):
    assert panel["description"].endswith(".")
    fields = panel["fieldConfig"]["defaults"]
    assert fields["unit"]
    assert fields["thresholds"]["steps"][0]["value"] is None
    assert panel["datasource"]["uid"] == "${datasource}"
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) >= 1
    for selector in expressions.selectors(Asked("", " ".join(target["expr"] for target in panel["targets"]))):
        assert 'job=~"$job"' in selector.expr, "it looks at programs that are not ours"
    for link in panel["links"]:
        assert link["url"] in VIEWS or ANCHOR.fullmatch(link["url"]), link


def test_links_to_documents_lead_somewhere():
    texts = json.dumps(EVERY)
    for document, anchor in set(ANCHOR.findall(texts)):
        heads = re.findall(r"^#+ (.+)$", (ROOT / "docs" / document).read_text("utf-8"), re.MULTILINE)
        assert not anchor or anchor in {head.lower().replace(" ", "-") for head in heads}


def test_every_metric_of_the_program_is_on_a_dashboard():
    shown = json.dumps([panel["targets"] for _, panel in PANELS])
    assert not [one.name for one in Metrics().documented if one.name not in shown]


def test_what_is_provisioned_is_what_dashboards_name():
    [source] = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    for dashboard in EVERY.values():
        assert dashboard["templating"]["list"][0]["current"]["value"] == source["uid"]
    [provider] = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/faust-anomaly.yaml").read_text())[
        "providers"
    ]
    assert provider["type"] == "file"


def test_intervals_are_as_grafana_counts_them():
    hour = Shown(3600.0, 15.0, 1000)
    assert hour.expr(Asked("", "rate(x[$__rate_interval])")) == "rate(x[60000ms])"
    assert hour.expr(Asked("", "rate(x[$__interval])", interval="1m")) == "rate(x[60000ms])"
    assert Shown(86_400.0, 15.0, 960).expr(Asked("", "rate(x[$__rate_interval])")) == "rate(x[105000ms])"
    assert hour.expr(Asked("", 'x{job=~"$job"} + ${__range_s}')) == 'x{job=~"(faust-anomaly)"} + 3600'
    with pytest.raises(KeyError, match="jobs"):
        hour.expr(Asked("", 'x{job=~"$jobs"}'))


@pytest.mark.skipif(not PROMETHEUS, reason="needs prometheus: apt-get install prometheus")
def test_every_question_of_dashboards_and_rules_has_an_answer(job, tmp_path):
    asked = [*expressions.of_dashboards(), *expressions.of_rules(), *expressions.of_scaling()]
    asked += {one.expr: one for each in asked for one in expressions.selectors(each)}.values()
    missing, judged = asked, False
    with Watched(job, tmp_path) as watched:
        watched.feed(200)

        def answered() -> bool:
            nonlocal missing, judged
            watched.feed(10)
            judged = judged or watched.judge()
            missing = [one for one in missing if not watched.has_data(one)]
            return judged and not missing

        wait_for(answered, lambda: "\n".join(f"no data: {one.where}: {one.expr}" for one in missing), every_s=0.7)

        assert [rule for rule in watched.rules() if rule["health"] != "ok"] == []
        assert len(watched.rules()) == len([*expressions.of_rules()])

        wrong = [
            Asked("misspelt metric", "sum(rate(faust_anomaly_records_eaten_total{}[1m]))"),
            Asked("misspelt value", 'faust_anomaly_stage_duration_seconds_count{stage="socre"}'),
            Asked("no number", "0 * sum(up) / 0"),
            *expressions.selectors(Asked("hidden", "sum(faust_anomaly_lag{}) or vector(0)")),
        ]
        assert len(wrong) == 4
        assert not any(watched.has_data(one) for one in wrong)
        with pytest.raises(PrometheusError, match="parse error"):
            watched.has_data(Asked("no PromQL", "sum by (up)"))
