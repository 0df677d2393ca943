"""Schemas of the custom resources that ``deploy`` uses, out of the definitions that their operators publish.

``python -m tests.deploy.crds FILE...`` writes those of the kinds we use, without descriptions, to ``schemas``: one
file for each kind, in the current version. What is in no schema is refused: a server would drop it, or refuse it too.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).with_name("schemas")
KINDS = {
    "KafkaTopic": "kafka.strimzi.io/v1",
    "KafkaUser": "kafka.strimzi.io/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "Certificate": "cert-manager.io/v1",
}
KEPT = {"type", "properties", "items", "required", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems",
        "maxItems", "pattern", "additionalProperties", "anyOf", "oneOf", "allOf", "not"}  # fmt: skip
OPEN, EITHER = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"


def problems(resource: Mapping[str, Any]) -> list[str]:
    """What the kind's schema refuses, as ``path: why``. KeyError for a kind that is none of ``KINDS``."""
    version, kind = resource["apiVersion"], resource["kind"]
    if KINDS[kind] != version:
        return [f"$.apiVersion: {kind} is in {KINDS[kind]}, got {version}"]
    schema = json.loads((SCHEMAS / f"{kind}.json").read_text("utf-8"))
    found = Draft202012Validator(schema).iter_errors(resource)
    return sorted(f"{error.json_path}: {error.message}" for error in found)


def reduced(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of a definition as one of JSON: what decides, and objects are closed unless they say otherwise."""
    if schema.get(EITHER):
        return {"type": ["integer", "string"]}
    made: dict[str, Any] = {}
    for key in KEPT & schema.keys():
        value = schema[key]
        if key == "properties":
            made[key] = {name: reduced(each) for name, each in value.items() if name != "status"}
        elif key in ("items", "additionalProperties", "not") and isinstance(value, dict):
            made[key] = reduced(value)
        elif key in ("anyOf", "oneOf", "allOf"):
            made[key] = value  # of plain types or required names, never of descriptions
        else:
            made[key] = value
    if made.get("type") == "object" and "properties" in made and not schema.get(OPEN):
        made.setdefault("additionalProperties", False)
    return dict(sorted(made.items()))


def write(definition: Mapping[str, Any]) -> None:
    """The schema of this definition, if its kind is one we use."""
    spec = definition["spec"]
    kind, group = spec["names"]["kind"], spec["group"]
    for version in spec["versions"]:
        if KINDS.get(kind) == f"{group}/{version['name']}":
            schema = reduced(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            text = json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n"
            (SCHEMAS / f"{kind}.json").write_text(text, "utf-8")


if __name__ == "__main__":
    for file in sys.argv[1:]:
        for each in yaml.safe_load_all(Path(file).read_text("utf-8")):
            write(each)
