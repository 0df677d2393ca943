"""The files of ``deploy`` that are made from the program: ``python -m tests.deploy.generate`` writes them."""

import json
from collections.abc import Callable
from functools import partial

from deploy.grafana.source import dashboards
from tests.deploy import resources, strimzi
from tests.deploy.named import ROOT


def dashboard(uid: str) -> str:
    """As Grafana exports it."""
    return json.dumps(dashboards()[uid], indent=2, ensure_ascii=False) + "\n"


GENERATED: dict[str, Callable[[], str]] = {
    "deploy/kubernetes/components/strimzi/topics.yaml": strimzi.topics,
    "deploy/kubernetes/components/strimzi/users.yaml": strimzi.users,
    "deploy/kubernetes/components/monitoring/rules.yaml": resources.prometheus_rule,
    **{f"deploy/grafana/dashboards/{uid}.json": partial(dashboard, uid) for uid in dashboards()},
}


def write() -> None:
    """Every file, where it is not what it should be."""
    for name, make in GENERATED.items():
        path, text = ROOT / name, make()
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            print(f"wrote {name}")


if __name__ == "__main__":
    write()
