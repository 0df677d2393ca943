"""Every setting of the program: default, unit, range and description stand together.

``load`` reads a YAML file, then environment variables, which win, and returns one frozen ``Settings``.
All problems are reported at once, each naming the setting, where its value came from (file:line or
variable), what is allowed and what was found. Nothing else in the program reads a configuration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")  # Kafka's own rule for topics; "." and ".." are not names
NAME_RANGE = "1 to 249 of a-z A-Z 0-9 . _ -"
DEAD_LETTERS, CHANGELOG = "-dead-letters", "-sources-changelog"


def setting(default: Any, description: str, unit: str = "", allowed: str = "", **limits: Any) -> Any:
    """A field; ``allowed`` is its range in words where limits and type do not say it."""
    extra = {"unit": unit, "allowed": allowed}
    if isinstance(default, (list, dict)):
        return Field(default_factory=lambda: default, description=description, json_schema_extra=extra, **limits)
    return Field(default, description=description, json_schema_extra=extra, **limits)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class KafkaSettings(Section):
    bootstrap_servers: list[str] = setting(
        ["localhost:9092"], "brokers to ask first", allowed="host:port, one or more", min_length=1)
    input_topic: str = setting("raw-data", "topic of the points to score", allowed=NAME_RANGE)
    output_topic: str = setting("anomaly-results", "topic of the results, one a point", allowed=NAME_RANGE)
    anomalies_topic: str = setting("anomalies", "topic of opened and closed episodes", allowed=NAME_RANGE)
    group_id: str = setting("anomaly-detection-group", "workers of one group share the partitions; names the state",
                            allowed=NAME_RANGE)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "PLAINTEXT", "how the brokers are reached")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = setting("PLAIN", "how the user is proved")
    sasl_username: str | None = setting(None, "user name for SASL")
    sasl_password: SecretStr | None = setting(None, "password for SASL; better given as a variable")
    ssl_cafile: str | None = setting(None, "certificates of the authorities to trust (PEM); none: the system's")
    ssl_certfile: str | None = setting(None, "this client's certificate (PEM)")
    ssl_keyfile: str | None = setting(None, "key of this client's certificate (PEM)")
    session_timeout_s: float = setting(10.0, "a worker silent for so long is replaced", "s", ge=1.0, le=1800.0)
    ack_timeout_s: float = setting(30.0, "longest wait for an acknowledgement before the worker stops", "s",
                                   ge=1.0, le=600.0)
    fetch_min_bytes: int = setting(3000, "a fetch waits for so much", "bytes", ge=1, le=2**30)
    fetch_max_wait_ms: int = setting(5, "but not for longer", "ms", ge=0, le=60_000)
    max_poll_records: int = setting(4000, "largest batch of one partition", "records", ge=1, le=1_000_000)

    @property
    def dead_letters_topic(self) -> str:
        return self.input_topic + DEAD_LETTERS

    @property
    def changelog_topic(self) -> str:
        return self.group_id + CHANGELOG


class InputSettings(Section):
    source_field: str | None = setting(None, "field that names the source; none: source, sourceId or entity_id",
                                       min_length=1)
    timestamp_field: str | None = setting(None, "field of the event time; none: timestamp", min_length=1)
    value_fields: list[str] = setting([], "fields that are metrics; none: value or values")
    timestamp_unit: Literal["s", "ms"] = setting("s", "unit of timestamps that are numbers")
    max_metrics: int = setting(32, "most metrics of one source", "metrics", ge=1, le=1024)


class DetectorSettings(Section):
    """One member of the ensemble: a detector by name, its weight, and any parameter of its own."""

    model_config = ConfigDict(extra="allow")
    method: str = setting("", "detector or River class; none: the name it stands under")
    weight: float = setting(1.0, "its share of a weighted average", ge=0.0, le=1e6)

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Detection(Section):
    method: str = setting("ensemble", "ensemble of the detectors below, or one detector alone",
                          allowed="ensemble or a detector's name", min_length=1)
    threshold: float = setting(0.8, "alert score at which an episode opens", gt=0.0, le=1.0)
    ensemble: Literal["weighted_average", "max"] = setting("weighted_average", "how the detectors' scores become one")
    window_points: int = setting(100, "past points a detector can see", "points", ge=2, le=4096)
    detectors: dict[str, DetectorSettings] = setting(
        {"moving_average": DetectorSettings(method="moving_average"),
         "StandardAbsoluteDeviation": DetectorSettings(method="StandardAbsoluteDeviation")},
        "the ensemble: name -> method, weight, parameters", allowed="one or more detectors", min_length=1)

    @field_validator("detectors", mode="before")
    @classmethod
    def _method_is_the_name(cls, detectors: Any) -> Any:
        if not isinstance(detectors, Mapping):
            return detectors
        return {name: {"method": name, **(given or {})} if given is None or isinstance(given, Mapping) else given
                for name, given in detectors.items()}

    def overridden(self, override: SourceOverride) -> Detection:
        """This detection with what the override says in its place."""
        said = {name: getattr(override, name) for name in override.model_fields_set - {"match"}}
        return self.model_copy(update=said)


class SourceOverride(Detection):
    """Detection of the sources whose name matches; what is not said here stands as in ``detection``."""

    match: str = Field(description="pattern of source names", min_length=1,
                       json_schema_extra={"unit": "", "allowed": "a pattern with * ? [..], case counts"})


class StateSettings(Section):
    snapshot_every: int = setting(256, "a source is written to the changelog after so many points", "points",
                                  ge=1, le=1_000_000)
    replay_records: int = setting(50_000, "most records of a partition read again at a restart", "records",
                                  ge=1000, le=100_000_000)
    idle_snapshot_s: float = setting(1.0, "a partition silent for so long writes what is open", "s", ge=0.05, le=3600.0)


class DashboardSettings(Section):
    enabled: bool = setting(True, "serve the web view")
    host: str = setting("127.0.0.1", "address to listen on; 0.0.0.0: all", min_length=1)
    port: int = setting(8000, "port to listen on; 0: any free one", ge=0, le=65535)
    websocket_enabled: bool = setting(True, "serve /ws")
    real_time_updates: bool = setting(True, "push results to the view as they come")


class Settings(BaseSettings):
    """All of them. Made by ``load``."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", strict=True, env_prefix="ANOMALY_",
                                      env_nested_delimiter="__", nested_model_default_partial_update=False)
    kafka: KafkaSettings = KafkaSettings()
    input: InputSettings = InputSettings()
    detection: Detection = Detection()
    sources: list[SourceOverride] = setting([], "detection of some sources; the first match wins")
    state: StateSettings = StateSettings()
    dashboard: DashboardSettings = DashboardSettings()

    _origins: ClassVar[dict] = {}

    @classmethod
    def settings_customise_sources(cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
                                   **_: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def load(config: str | Path | None = None, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """The settings of a file (else of $ANOMALY_CONFIG), then of the environment, then of the caller."""
    import yaml

    environ = os.environ if environ is None else environ
    path = config or environ.get("ANOMALY_CONFIG")
    data: dict[str, Any] = (yaml.safe_load(Path(path).read_text("utf-8")) or {}) if path else {}
    if "anomaly_detection" in data:
        data["detection"] = data.pop("anomaly_detection")
    for section, values in overrides.items():
        data[section] = {**data.get(section, {}), **values} if isinstance(values, Mapping) else values
    return Settings(**data)
