"""Every setting of the program: default, unit, range and description stand together.

What must hold between settings is in ``checks``; where values come from, in ``sources``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_validator,
)

from app.parameters import Parameter
from app.settings.sources import Given

DEAD_LETTERS, CHANGELOG = "-dead-letters", "-sources-changelog"
NAME_LENGTH = 249  # Kafka's limit for a topic's name
SOURCE_NAMES = ("source", "sourceId", "entity_id")  # of a record without input.source_field; the first counts
# What method auto is made of, with the weights.
AUTO = {"residual": 1.0, "level": 1.0, "novelty": 1.0, "StandardAbsoluteDeviation": 0.05}


def _matching(pattern: str) -> AfterValidator:
    def matched(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return AfterValidator(matched)


def _broker(text: str) -> str:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")  # an IPv6 address
    if not re.fullmatch(r"[^\s:/,@]+", host[1:-1].replace(":", "") if bracketed else host):
        raise ValueError
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError
    return text


# "." and ".." are legal characters and no names: a broker keeps a topic in a folder of its name.
KafkaName = Annotated[str, _matching(r"(?!\.{1,2}$)[a-zA-Z0-9._-]+")]
Broker = Annotated[str, AfterValidator(_broker)]
FieldName = Annotated[str, _matching(r"(?s).{1,128}")]
HostName = Annotated[str, _matching(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")]
ClassPath = Annotated[str, _matching(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")]
DetectorName = Annotated[str, _matching(r"[A-Za-z0-9_.-]{1,64}")]


def setting(
    default: Any, help: str, min_length: int | None = None, max_length: int | None = None, **declared: Any
) -> Any:
    """A field of a declared parameter: pydantic checks its limits, tables and messages show its words."""
    parameter = Parameter(help, default, **declared)
    words: dict[str, Any] = {"unit": parameter.unit, "allowed": parameter.allowed}
    return Field(
        default,
        description=help,
        gt=parameter.above,
        ge=parameter.at_least,
        le=parameter.at_most,
        min_length=min_length,
        max_length=max_length,
        json_schema_extra=words,
    )


def kafka_name(default: str, help: str, suffix: str = "") -> Any:
    """A field for a topic or group; with the suffix of the topic named after it the name stays legal."""
    most = NAME_LENGTH - len(suffix)
    return setting(default, help, expected=f"1 to {most} of a-z A-Z 0-9 . _ -", max_length=most)


class SettingsSection(BaseModel):
    # Strict: true is no number, "8000" is no port. A number without a fraction is read as a float.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class KafkaSettings(SettingsSection):
    bootstrap_servers: list[Broker] = setting(
        ["localhost:9092"], "brokers to ask first", expected="one or more host:port", min_length=1
    )
    input_topic: KafkaName = kafka_name("raw-data", "topic of the points to score", DEAD_LETTERS)
    output_topic: KafkaName = kafka_name("anomaly-results", "topic of the results, one for each point")
    anomalies_topic: KafkaName = kafka_name("anomalies", "topic of episodes that open and close")
    group_id: KafkaName = kafka_name(
        "anomaly-detection-group", "workers of one group share the partitions and the state", CHANGELOG
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "PLAINTEXT", "how the brokers are reached"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = setting(
        "PLAIN", "how user name and password are proved"
    )
    sasl_username: str | None = setting(None, "user name for SASL", expected="text", min_length=1)
    sasl_password: SecretStr | None = setting(
        None, "password for SASL; better a variable than a line of the file", expected="text"
    )
    ssl_cafile: str | None = setting(
        None, "authorities to trust; none: the system's", expected="the path of a PEM file", min_length=1
    )
    ssl_certfile: str | None = setting(
        None, "this client's certificate", expected="the path of a PEM file", min_length=1
    )
    ssl_keyfile: str | None = setting(
        None,
        "key of the certificate, when it is not in the same file",
        expected="the path of a PEM file",
        min_length=1,
    )
    session_timeout_s: float = setting(
        10.0, "a worker silent for so long is replaced", unit="s", at_least=1.0, at_most=1800.0
    )
    ack_timeout_s: float = setting(
        30.0, "a worker whose writes wait longer for their acknowledgement stops", unit="s", at_least=1.0, at_most=600.0
    )
    fetch_min_bytes: int = setting(3000, "a fetch waits for so much", unit="bytes", at_least=1, at_most=2**30)
    fetch_max_wait_ms: int = setting(5, "but no longer than this", unit="ms", at_least=0, at_most=60_000)
    max_poll_records: int = setting(
        4000, "largest batch of one partition", unit="records", at_least=1, at_most=1_000_000
    )

    @property
    def dead_letters_topic(self) -> str:
        """Where records go that cannot be read."""
        return self.input_topic + DEAD_LETTERS

    @property
    def changelog_topic(self) -> str:
        """Where the state of the sources is kept."""
        return self.group_id + CHANGELOG


class InputSettings(SettingsSection):
    source_field: FieldName | None = setting(
        None,
        "field that names the source; none: source, sourceId or entity_id",
        expected="1 to 128 characters",
    )
    timestamp_field: FieldName | None = setting(
        None, "field of the event time; none: timestamp", expected="1 to 128 characters"
    )
    value_fields: list[FieldName] = setting(
        [],
        "fields that are metrics, each by its own name; none: value or values",
        expected="names, comma between",
    )
    timestamp_unit: Literal["s", "ms"] = setting("s", "unit of timestamps that are numbers")
    max_metrics: int = setting(
        32, "most metrics of one source; more in one point is refused", unit="metrics", at_least=1, at_most=1024
    )


EnsembleMode = Literal["weighted_average", "max", "majority_vote", "skill"]


class DetectorSettings(SettingsSection):
    """A member of the ensemble: a detector, its weight, and any parameter of the detector beside them."""

    model_config = ConfigDict(extra="allow")
    method: DetectorName = setting(
        "",
        "detector or River class; none: the name it stands under",
        expected="the name of a detector or River class",
    )
    weight: float = setting(1.0, "its share in its ensemble's score", at_least=0.0, at_most=1e6)
    ensemble: EnsembleMode = setting("weighted_average", "of method ensemble: how its members' scores become one")
    members: list[DetectorName] = setting(
        [], "of method ensemble: other detectors, by the names they stand under", expected="names of detectors"
    )

    @property
    def params(self) -> dict[str, Any]:
        """Parameters as given; ``app.detectors`` knows their ranges."""
        return dict(self.model_extra or {})


class DriftSettings(SettingsSection):
    """Drift of each source's scores: a method, and any parameter of it beside."""

    model_config = ConfigDict(extra="allow")
    method: Literal["none", "ADWIN", "PageHinkley"] = setting("none", "River's detector of drifts in a source's scores")
    reset: bool = setting(False, "after a drift the detectors of the source start anew; slower, see docs/detection.md")

    @property
    def params(self) -> dict[str, Any]:
        """Parameters as given; ``app.detectors.drift`` knows their ranges."""
        return dict(self.model_extra or {})


class Detection(SettingsSection):
    method: DetectorName | None = setting(
        None,
        "auto, all of the detectors below, or one alone; none: ensemble where detectors are given, else auto",
        expected="auto, ensemble or the name of a detector",
    )
    threshold: float = setting(0.8, "alert score at which an episode opens", above=0.0, at_most=1.0)
    ensemble: EnsembleMode = setting("weighted_average", "how the scores of the detectors become one")
    allow_classes: list[ClassPath] = setting(
        [], "classes beside River's that a detector of method river may be made of", expected="import paths"
    )
    window_points: int = setting(100, "past points that a detector sees", unit="points", at_least=2, at_most=4096)
    direction: Literal["both", "above", "below"] = setting(
        "both", "on which side of the expected value a value can be an anomaly"
    )
    min_deviation: float = setting(
        0.0,
        "a value nearer to the expected one is no anomaly; in the unit of the values",
        at_least=0.0,
    )
    min_deviation_relative: float = setting(
        0.0,
        "likewise, as a share of the expected value's size; .1: a tenth of it",
        at_least=0.0,
    )
    range_lowest: float | None = setting(
        None, "lowest plausible value; one below it is an anomaly, whatever detectors find", expected="a number"
    )
    range_highest: float | None = setting(None, "highest plausible value, likewise", expected="a number")
    drift: DriftSettings = setting(
        DriftSettings(), "drifts of a source's scores: method, reset, parameters of the method", expected="settings"
    )
    detectors: dict[DetectorName, DetectorSettings] = setting(
        {},
        "the ensemble: name -> method, weight, parameters",
        expected="detectors by name",
        max_length=32,
    )

    @field_validator("detectors", mode="before")
    @classmethod
    def _stand_for_their_name(cls, detectors: Any) -> Any:
        if not isinstance(detectors, Mapping):
            return detectors
        return {
            name: {"method": name, **(given or {})} if isinstance(given, Mapping | None) else given
            for name, given in detectors.items()
        }

    @property
    def effective_method(self) -> str:
        """``method``, or what stands in its place."""
        return self.method or ("ensemble" if self.detectors else "auto")

    def members(self) -> dict[str, DetectorSettings]:
        """The detectors that score, by name."""
        method = self.effective_method
        if method == "ensemble":
            return {name: one if one.method else one.model_copy(update={"method": name})
                    for name, one in self.detectors.items()}  # fmt: skip
        weights = AUTO if method == "auto" else {method: 1.0}
        found = {}
        for name, weight in weights.items():
            one = self.detectors.get(name, DetectorSettings())
            weight = one.weight if "weight" in one.model_fields_set else weight
            found[name] = one.model_copy(update={"method": one.method or name, "weight": weight})
        return found

    def overridden(self, override: SourceOverride) -> Detection:
        """This detection, with what the override says in its place."""
        said = override.model_fields_set - {"match"}
        return self.model_copy(update={name: getattr(override, name) for name in said})


class SourceOverride(Detection):
    """Detection of the sources whose name matches; what is not said here is as in ``detection``."""

    match: str = setting(
        ..., "pattern of source names", expected="a pattern with * ? [abc]; upper and lower case differ", min_length=1
    )


class StateSettings(SettingsSection):
    snapshot_every: int = setting(
        256, "a source's state is written after so many of its points", unit="points", at_least=1, at_most=1_000_000
    )
    replay_records: int = setting(
        50_000,
        "most records of a partition that are read again after a restart",
        unit="records",
        at_least=1000,
        at_most=10**8,
    )
    idle_snapshot_s: float = setting(
        1.0, "a partition silent for so long writes what is not yet written", unit="s", at_least=0.05, at_most=3600.0
    )
    # A partition of 100,000 sources that speak once a minute takes 16 hours for so many, one of 1,000 sources two
    # months. Counted in records, not in hours, so that a replay forgets what the first reading forgot.
    forget_after_records: int = setting(
        100_000_000,
        "a source without a point for more records of its partition starts anew, and leaves memory and changelog",
        unit="records",
        at_least=1000,
        at_most=10**15,
    )
    # Of a partition, not of a worker: which partitions a worker has is no matter of the log.
    max_sources: int = setting(
        1_000_000,
        "live sources of one partition; a point of one more is a dead letter (8 kB of memory each by default)",
        unit="sources",
        at_least=1,
        at_most=10**9,
    )


class DashboardSettings(SettingsSection):
    enabled: bool = setting(True, "serve the web view")
    host: str = setting(
        "127.0.0.1", "address it listens on; 0.0.0.0: all", expected="an address or host name", min_length=1
    )
    port: int = setting(8000, "port it listens on; 0: any that is free", at_least=0, at_most=65535)
    allowed_hosts: list[HostName] = setting(
        [],
        "names it may be asked under, as behind a proxy; addresses and localhost always are",
        expected="host names, comma between",
    )
    websocket_enabled: bool = setting(True, "serve the stream of results to the view")
    real_time_updates: bool = setting(True, "the view shows results as they come")


class Settings(BaseModel):
    """All sections, checked. Made by ``load``."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    kafka: KafkaSettings = KafkaSettings()
    input: InputSettings = InputSettings()
    detection: Detection = Detection()
    sources: list[SourceOverride] = setting(
        [],
        "detection of some sources: match and any field of detection; the first match wins",
        expected="mappings, each with match",
    )
    state: StateSettings = StateSettings()
    dashboard: DashboardSettings = DashboardSettings()

    _given: Given = PrivateAttr(default_factory=Given)


SECTIONS: dict[str, Any] = {name: field.annotation for name, field in Settings.model_fields.items()}
