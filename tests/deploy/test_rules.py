"""Each alert fires when it should and not just before, says what it is about, and has its section in the runbook."""

import copy
import re
import shutil
import subprocess
import textwrap

import pytest

from tests.deploy.named import ROOT
from tests.deploy.rules import ALERTS, RECORDED, RUNBOOK, TESTS, cases, problems, promtool, rules


def test_promtool_takes_the_rules():
    done = promtool("check", "rules", RECORDED, ALERTS)
    assert done.returncode == 0 and "FAILED" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_are_silent(path):
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_where_it_fires_and_one_where_it_is_silent():
    assert set(cases(TESTS)) == {(rule["alert"], fires) for rule in rules(ALERTS) for fires in (True, False)}


def test_every_alert_has_what_people_need_and_every_section_an_alert():
    assert problems(rules(ALERTS), rules(RECORDED), RUNBOOK.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "lacks", ["severity", "summary", "runbook_url", "section", "alert", "recorded", "part", "setting", "command"]
)
def test_what_an_alert_lacks_is_found(lacks):
    alerts, recorded, runbook = copy.deepcopy(rules(ALERTS)), rules(RECORDED), RUNBOOK.read_text("utf-8")
    first = alerts[0]
    if lacks == "severity":
        first["labels"]["severity"] = "page"
    elif lacks in ("summary", "runbook_url"):
        del first["annotations"][lacks]
    elif lacks == "section":
        runbook = runbook.replace(f"### {first['alert']}\n", "### FaustAnomalyNothing\n")
    elif lacks == "alert":
        del alerts[0]
    elif lacks == "recorded":
        recorded = [rule for rule in recorded if rule["record"] != "faust_anomaly:lag_seconds:limit"]
    elif lacks == "part":
        runbook = runbook.replace("**Do this.**", "", 1)
    else:
        runbook += {"setting": "`kafka.no_such`\n", "command": "`kubectl exec POD -- faust-anomaly alerts shout`\n"}[
            lacks
        ]
    assert problems(alerts, recorded, runbook)


def test_what_the_document_shows_for_prometheus_and_alertmanager_is_valid(tmp_path):
    text = (ROOT / "docs/deployment.md").read_text("utf-8")
    scrape, route = (textwrap.dedent(block) for block in re.findall(r"^ *```yml\n(.*?)^ *```", text, re.S | re.M))
    (tmp_path / "prometheus.yaml").write_text(scrape)
    done = promtool("check", "config", "--syntax-only", tmp_path / "prometheus.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    names = sorted(set(re.findall(r"receiver: (\w+)", route)))
    (tmp_path / "alertmanager.yaml").write_text(
        f"{route}receivers: [{', '.join(f'{{name: {one}}}' for one in names)}]\n"
    )
    amtool = shutil.which("amtool")
    assert amtool, "amtool is missing: apt-get install prometheus-alertmanager"
    check = subprocess.run([amtool, "check-config", tmp_path / "alertmanager.yaml"], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("alerts", "<= 2 * 86400", "<= 4 * 86400"),
        ("alerts", "for: 1h", "for: 3h"),
        ("recorded", 'expr: "1"', 'expr: "3"'),
        ("alerts", 'status=~"401|429"', 'status=~".*"'),
    ],
    ids=["threshold", "for", "limit", "labels"],
)
def test_a_rule_that_is_changed_fails_its_cases(tmp_path, file, before, after):
    [access] = [path for path in TESTS if path.stem == "access"]
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/access.yaml").write_text(access.read_text())
    for path in (ALERTS, RECORDED):
        text = path.read_text()
        if path.stem == file:
            text, count = re.subn(re.escape(before), after, text)
            assert count
        (tmp_path / path.name).write_text(text)
    assert promtool("test", "rules", tmp_path / "tests/access.yaml").returncode == 1
