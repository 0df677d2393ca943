"""What ``kubectl kustomize`` makes of ``deploy/kubernetes``, and what its pods would get: variables and settings."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from app.settings import Settings, load
from tests.deploy.named import DEPLOY

KUBERNETES = DEPLOY / "kubernetes"
KUBECTL = Path(sys.executable).with_name("kubectl")
WORKLOADS = ("StatefulSet", "Deployment", "Job")
Resource = dict[str, Any]

# What is rendered: overlays as they are, and components that none of them has.
TARGETS = {
    "small": ["overlays/small"],
    "production": ["overlays/production"],
    "keda": ["overlays/keda"],
    "hpa": ["overlays/hpa"],
    "small with monitoring and certificate": ["overlays/small", "components/monitoring", "components/certificate"],
    "small with hpa": ["overlays/small", "components/hpa"],
}


@cache
def rendered(target: str) -> list[Resource]:
    """Every resource of one of ``TARGETS``. Raises with what kubectl says if it cannot be made."""
    first, *components = TARGETS[target]
    if not components:
        return kustomize(KUBERNETES / first)
    with tempfile.TemporaryDirectory() as folder:
        relative = {name: os.path.relpath(KUBERNETES / name, os.path.realpath(folder)) for name in TARGETS[target]}
        made = {"resources": [relative[first]], "components": [relative[name] for name in components]}
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(made), "utf-8")
        return kustomize(Path(folder))


def kustomize(folder: Path) -> list[Resource]:
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{folder}: {done.stderr}")
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


def of_kind(resources: list[Resource], *kinds: str) -> list[Resource]:
    return [one for one in resources if one["kind"] in kinds]


def named(resources: list[Resource], kind: str, name: str) -> Resource:
    """The only one of this kind and name."""
    [found] = [one for one in of_kind(resources, kind) if one["metadata"]["name"] == name]
    return found


class Container(NamedTuple):
    """One container of a workload, with the resources it was rendered with."""

    workload: Resource
    spec: Resource
    resources: list[Resource]

    @property
    def component(self) -> str:
        return self.pod["metadata"]["labels"]["app.kubernetes.io/component"]

    @property
    def pod(self) -> Resource:
        return self.workload["spec"]["template"]

    def environment(self, pod_name: str = "faust-anomaly-worker-0") -> dict[str, str]:
        """Variables, as the kubelet would give them."""
        found: dict[str, str] = {}
        for source in self.spec.get("envFrom", []):
            found |= named(self.resources, "ConfigMap", source["configMapRef"]["name"])["data"]
        for one in self.spec.get("env", []):
            path = one.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            found[one["name"]] = {"metadata.name": pod_name}[path] if path else one["value"]
        return found

    def file(self, path: str) -> str | None:
        """What stands in a file that comes from a ConfigMap; None for others."""
        for mount in self.spec["volumeMounts"]:
            if Path(path).is_relative_to(mount["mountPath"]):
                [volume] = [one for one in self.pod["spec"]["volumes"] if one["name"] == mount["name"]]
                if "configMap" in volume:
                    of = named(self.resources, "ConfigMap", volume["configMap"]["name"])
                    return of["data"][os.path.relpath(path, mount["mountPath"])]
        return None

    def settings(self, secrets: Mapping[str, str]) -> Settings:
        """What the program would read; ``secrets``: variable without _FILE -> the content that its file would have."""
        environ = self.environment()
        text = self.file(environ.pop("ANOMALY_CONFIG"))
        assert text is not None
        for name in [name for name in environ if name.removesuffix("_FILE") in secrets]:
            environ[name.removesuffix("_FILE")] = secrets[name.removesuffix("_FILE")]
            del environ[name]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            return load(file.name, environ=environ)


def containers(resources: list[Resource]) -> Iterator[Container]:
    """Of all workloads, those that run before others included."""
    for workload in of_kind(resources, *WORKLOADS):
        spec = workload["spec"]["template"]["spec"]
        for one in [*spec.get("initContainers", []), *spec["containers"]]:
            yield Container(workload, one, resources)
