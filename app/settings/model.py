"""Every setting of the program, with its default, unit, range and description.

Rules between settings are in ``checks``; files and variables are read in ``sources``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)

from app.settings.alerting import AlertingSettings
from app.settings.fields import (
    PATTERN,
    Broker,
    ClassPath,
    DetectorName,
    FieldName,
    KafkaName,
    SettingsSection,
    TokenEndpoint,
    setting,
)
from app.settings.sources import GivenSettings
from app.settings.web import ApiSettings, DashboardSettings

DEAD_LETTERS, CHANGELOG, BY_SOURCE = "-dead-letters", "-sources-changelog", "-by-source"
NOTIFICATIONS, DECISIONS, ALERTERS = "-notifications", "-decisions", "-alerter"
NAME_LENGTH = 249  # Kafka's limit for a topic's name
SOURCE_NAMES = ("source", "sourceId", "entity_id")  # of a record without input.source_field; the first counts
# The detectors of method auto, with their weights.
AUTO = {"prediction_interval": 1.0, "residual": 1.0, "level": 1.0, "novelty": 1.0, "StandardAbsoluteDeviation": 0.05}


def kafka_name(default: str, help: str, suffix: str = "") -> Any:
    """A field for a topic or group; with the suffix of the topic named after it the name stays legal."""
    most = NAME_LENGTH - len(suffix)
    return setting(default, help, expected=f"1 to {most} of a-z A-Z 0-9 . _ -", max_length=most)


class KafkaSettings(SettingsSection):
    bootstrap_servers: list[Broker] = setting(
        ["localhost:9092"], "brokers for the first connection", expected="one or more host:port", min_length=1
    )
    input_topic: KafkaName = kafka_name("raw-data", "topic of the points to score", DEAD_LETTERS)
    output_topic: KafkaName = kafka_name("anomaly-results", "topic of the results, one for each point")
    anomalies_topic: KafkaName = kafka_name("anomalies", "topic of the events: an episode opened, changed or closed")
    group_id: KafkaName = kafka_name(
        "anomaly-detection-group", "consumer group; its workers share the partitions and the state", CHANGELOG
    )
    group_instance_id: KafkaName | None = setting(
        None,
        "name of this worker in the group, its own for each; started again within its session it takes its partitions "
        "back without a rebalance; none: it leaves the group when it stops",
        expected=f"1 to {NAME_LENGTH} of a-z A-Z 0-9 . _ -",
        max_length=NAME_LENGTH,
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = setting(
        "PLAINTEXT", "protocol of the connections to the brokers"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = setting(
        "PLAIN", "SASL mechanism, with user name and password, or with a token obtained for them"
    )
    sasl_username: str | None = setting(
        None, "user name for SASL; client id for OAUTHBEARER", expected="text", min_length=1
    )
    sasl_password: SecretStr | None = setting(
        None, "password for SASL, client secret for OAUTHBEARER; set it by a variable, not in the file", expected="text"
    )
    sasl_oauth_token_endpoint: TokenEndpoint | None = setting(
        None,
        "for OAUTHBEARER: token endpoint, for client credentials; or Amazon MSK's region",
        expected="https://host/path or aws-msk://region",
    )
    sasl_oauth_scope: str | None = setting(None, "for OAUTHBEARER: scope to ask for", expected="text", min_length=1)
    ssl_cafile: str | None = setting(
        None, "trusted certificate authorities; none: the system's", expected="the path of a PEM file", min_length=1
    )
    ssl_certfile: str | None = setting(None, "client certificate", expected="the path of a PEM file", min_length=1)
    ssl_keyfile: str | None = setting(
        None,
        "private key of the client certificate; none: it is in the certificate's file",
        expected="the path of a PEM file",
        min_length=1,
    )
    session_timeout_s: float = setting(
        10.0, "time without a heartbeat after which the group replaces a worker", unit="s", at_least=1.0, at_most=1800.0
    )
    ack_timeout_s: float = setting(
        30.0,
        "longest wait for the acknowledgement of a write; then the worker stops",
        unit="s",
        at_least=1.0,
        at_most=600.0,
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = setting(
        "zstd", "codec of the record batches that a worker writes"
    )
    isolation_level: Literal["read_committed", "read_uncommitted"] = setting(
        "read_committed", "whether records of open and aborted transactions are left out or scored"
    )
    fetch_min_bytes: int = setting(3000, "minimum bytes per fetch response", unit="bytes", at_least=1, at_most=2**30)
    fetch_max_wait_ms: int = setting(
        8,
        "longest wait of a broker for fetch_min_bytes; more takes less CPU at small loads, and results come later",
        unit="ms",
        at_least=0,
        at_most=60_000,
    )
    max_poll_records: int = setting(
        4000, "most records in one batch of a partition", unit="records", at_least=1, at_most=1_000_000
    )

    _rekeys: bool = PrivateAttr(default=False)  # input.rekey, by Settings: most of what needs topics has only these

    @property
    def rekeys(self) -> bool:
        """The points are first written to the topic by source, and scored from there."""
        return self._rekeys

    _alerts: bool = PrivateAttr(default=True)  # alerting.enabled, likewise

    @property
    def alerts(self) -> bool:
        """Workers send notifications of episodes, and need the topics for it."""
        return self._alerts

    @property
    def by_source_topic(self) -> str:
        """The topic of the points by source."""
        return self.group_id + BY_SOURCE

    @property
    def log_topic(self) -> str:
        """The topic that is scored: results, snapshots and replay points go by its partitions and offsets."""
        return self.by_source_topic if self._rekeys else self.input_topic

    @property
    def dead_letters_topic(self) -> str:
        """The topic of records that cannot be read."""
        return self.input_topic + DEAD_LETTERS

    @property
    def changelog_topic(self) -> str:
        """The topic that stores the state of the sources."""
        return self.group_id + CHANGELOG

    @property
    def notifications_topic(self) -> str:
        """The topic of notifications: who was notified of what."""
        return self.group_id + NOTIFICATIONS

    @property
    def decisions_topic(self) -> str:
        """The topic of what people decided: acknowledgements, silences, feedback."""
        return self.group_id + DECISIONS

    @property
    def alerter_group(self) -> str:
        """The consumer group of the alerters, which share the partitions of the topic of anomalies."""
        return self.group_id + ALERTERS


class InputSettings(SettingsSection):
    format: Literal["telegraf", "prometheus", "metricbeat", "otlp-json", "cloudevents", "debezium"] | None = setting(
        None,
        "records as this tool writes them: sets the other settings of this section that are not given",
        expected="telegraf | prometheus | metricbeat | otlp-json | cloudevents | debezium",
    )
    points_field: FieldName | None = setting(
        None, "array with the points of a record; none: a record is a point", expected="a path of fields"
    )
    source_field: FieldName | None = setting(
        None,
        "field with the name of the source, or several as {host}/{name}; none: source, sourceId or entity_id",
        expected="a path of fields, or text with such paths in braces",
    )
    timestamp_field: FieldName | None = setting(
        None, "field with the event time; none: timestamp", expected="a path of fields"
    )
    metric_field: FieldName | None = setting(
        None, "field that names the value; none: metric, if there are no value_fields", expected="a path of fields"
    )
    value_fields: list[FieldName] = setting(
        [],
        "fields that are metrics, under their own names; none: value or values",
        expected="paths of fields, separated by commas",
    )
    values_apart: bool | None = setting(
        None,
        "each of several values of a record is a point of its own, of the series of its metric",
        expected="true or false",
    )
    numbers_as_text: bool | None = setting(
        None, 'numbers and times may be written as text: "45.2"', expected="true or false"
    )
    labels: list[FieldName] = setting(
        [],
        "fields that results and the events of episodes repeat",
        expected="paths of fields, separated by commas",
    )
    timestamp_unit: Literal["s", "ms", "us", "ns"] | None = setting(
        None, "unit of numeric timestamps; none: found for each by its size", expected="s | ms | us | ns"
    )
    rekey: bool = setting(
        False,
        "first write the points to a topic with the source as key: for an input topic with other keys, or none",
    )
    max_metrics: int = setting(
        32,
        "most metrics in values of a source; a point with more is a dead letter",
        unit="metrics",
        at_least=1,
        at_most=1024,
    )


EnsembleMode = Literal["weighted_average", "max", "majority_vote", "skill"]


class DetectorSettings(SettingsSection):
    """A member of the ensemble: a detector, its weight, and parameters of the detector as further fields."""

    model_config = ConfigDict(extra="allow")
    method: DetectorName = setting(
        "",
        "detector or River class; none: the name of this entry",
        expected="the name of a detector or River class",
    )
    weight: float = setting(1.0, "weight of its score in the ensemble", at_least=0.0, at_most=1e6)
    ensemble: EnsembleMode = setting(
        "weighted_average", "for method ensemble: how the scores of the members are combined"
    )
    members: list[DetectorName] = setting(
        [], "for method ensemble: names of the combined entries", expected="names of detectors"
    )

    @property
    def params(self) -> dict[str, Any]:
        """Parameters as given; ``app.detectors`` knows their ranges."""
        return dict(self.model_extra or {})


class DriftSettings(SettingsSection):
    """Drift detection on the scores of each source: a method, and its parameters as further fields."""

    model_config = ConfigDict(extra="allow")
    method: Literal["none", "ADWIN", "PageHinkley"] = setting(
        "none", "River's drift detector, applied to the scores of each source"
    )
    reset: bool = setting(False, "reset the detectors of a source after a drift; slower, see docs/detection.md")

    @property
    def params(self) -> dict[str, Any]:
        """Parameters as given; ``app.detectors.drift`` knows their ranges."""
        return dict(self.model_extra or {})


class HolidaySettings(SettingsSection):
    """Days that are treated as Sundays."""

    country: str | None = setting(
        None,
        "country whose public holidays are treated as Sundays; none: no day is",
        expected='an ISO 3166 code of two letters, as DE; "NO" in quotes',
    )
    region: str | None = setting(
        None,
        "state or province whose holidays are added",
        expected="a code of the package holidays, as BY; a wrong one is refused with all there are",
    )


def _time(given: Any) -> Any:
    """As text, also where YAML has made a date of it."""
    return given.isoformat() if isinstance(given, date) else given


def _is_time(text: str) -> str:
    if not 1970 <= datetime.fromisoformat(text).year < 2200:
        raise ValueError
    return text


TimeText = Annotated[str, BeforeValidator(_time), AfterValidator(_is_time)]


class MaintenanceSpan(SettingsSection):
    """A span of time whose points neither alert nor are learned."""

    name: str = setting(..., "shown in the results", expected="1 to 128 characters", min_length=1, max_length=128)
    start: TimeText = setting(..., "event time of the start", expected="ISO 8601, 1970 to 2199, as 2026-12-24T18:00")
    end: TimeText = setting(..., "event time of the end", expected="ISO 8601, 1970 to 2199, as 2026-12-27T06:00")
    sources: str = setting("*", "pattern of source names", expected="a pattern with * ? [abc]", min_length=1)


class Detection(SettingsSection):
    method: DetectorName | None = setting(
        None,
        "auto: the default set; ensemble: all of detection.detectors; none: ensemble if there are any, else auto",
        expected="auto, ensemble or the name of a detector",
    )
    threshold: float = setting(0.8, "alert score at which an episode opens", above=0.0, at_most=1.0)
    ensemble: EnsembleMode = setting("weighted_average", "how the scores of the detectors are combined")
    allow_classes: list[ClassPath] = setting(
        [], "classes, in addition to River's, that method river may use", expected="import paths"
    )
    window_points: int = setting(
        100,
        "number of past points that detectors can use; those of method auto have their own sizes",
        unit="points",
        at_least=2,
        at_most=4096,
    )
    direction: Literal["both", "above", "below"] = setting(
        "both", "side of the expected value on which values can be anomalies"
    )
    min_deviation: float = setting(
        0.0,
        "smallest distance from the expected value that can be an anomaly; in the unit of the values",
        at_least=0.0,
    )
    min_deviation_relative: float = setting(
        0.0,
        "the same, as a fraction of the expected value; 0.1 is a tenth of it",
        at_least=0.0,
    )
    range_lowest: float | None = setting(
        None, "lowest plausible value; a lower one is always an anomaly", expected="a number"
    )
    range_highest: float | None = setting(
        None, "highest plausible value; a higher one is always an anomaly", expected="a number"
    )
    timezone: str = setting(
        "UTC", "time zone of hours and weekdays, for detectors with seasons", expected="an IANA name, as Europe/Berlin"
    )
    holidays: HolidaySettings = setting(
        HolidaySettings(), "days that are treated as Sundays: country, region", expected="settings"
    )
    maintenance: list[MaintenanceSpan] = setting(
        [],
        "spans whose points neither alert nor are learned: name, start, end, sources; times without zone are local",
        expected="mappings, each with name, start and end",
        max_length=1000,
    )
    drift: DriftSettings = setting(
        DriftSettings(), "drift detection on the scores of each source: method, reset, parameters", expected="settings"
    )
    detectors: dict[DetectorName, DetectorSettings] = setting(
        {},
        "detectors by name: method, weight, parameters",
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
        """``method``, or its default."""
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
        """This detection, with the fields that the override sets."""
        said = override.model_fields_set - {"match", "metric"}
        return self.model_copy(update={name: getattr(override, name) for name in said})


class SourceOverride(Detection):
    """Detection of the sources whose name matches; other fields are as in ``detection``."""

    match: str = setting(..., "pattern of source names", expected=PATTERN, min_length=1)
    metric: str | None = setting(
        None,
        "pattern of metrics: only for points that name theirs in the field metric; none: for all points of the source",
        expected=PATTERN,
        min_length=1,
    )

    def applies_to(self, source: str, metric: str) -> bool:
        """Whether it is for a series; ``metric`` is "" for one that is a whole source."""
        wanted = self.metric is None or (metric != "" and fnmatchcase(metric, self.metric))
        return wanted and fnmatchcase(source, self.match)


class StateSettings(SettingsSection):
    snapshot_every: int = setting(
        256, "points of a source between two snapshots of its state", unit="points", at_least=1, at_most=1_000_000
    )
    replay_records: int = setting(
        50_000,
        "most records of a partition that a restart reads again",
        unit="records",
        at_least=1000,
        at_most=10**8,
    )
    idle_snapshot_s: float = setting(
        1.0,
        "time without records after which a partition writes its pending snapshots",
        unit="s",
        at_least=0.05,
        at_most=3600.0,
    )
    # With a point a minute for each source, 100,000 sources reach this number in 16 hours, 1,000 sources in two months.
    # Counted in records, not in hours, so that a replay deletes the same states.
    forget_after_records: int = setting(
        100_000_000,
        "records of the partition without a point of a series, after which its state is deleted",
        unit="records",
        at_least=1000,
        at_most=10**15,
    )
    # For a partition, not for a worker: results must not depend on which partitions a worker has.
    max_sources: int = setting(
        1_000_000,
        "most series of a partition, of 10 kB memory each by default; points of further ones are dead letters",
        unit="series",
        at_least=1,
        at_most=10**9,
    )


class OutputSettings(SettingsSection):
    """The shape of results and events."""

    timestamps: Literal["epoch", "iso"] = setting("epoch", "times as epoch seconds, or as ISO 8601 text in UTC")
    by_metric: bool = setting(
        False, "value, expected and its band are always objects by metric, also where there is one metric"
    )


class StorageSettings(SettingsSection):
    """The history of episodes, notifications and decisions, made of the topics."""

    enabled: bool = setting(True, "store a history that can be queried")
    url: SecretStr | None = setting(
        None,
        "database: sqlite:///path or postgresql://user@host/name; none: a SQLite file in the user's state folder",
        expected="sqlite:///path or postgresql://..",
    )
    retention_days: float = setting(
        90.0, "age above which history is deleted", unit="days", above=0.0, at_most=36_500.0
    )


class Settings(BaseModel):
    """All sections, checked. Made by ``load``."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    kafka: KafkaSettings = KafkaSettings()
    input: InputSettings = InputSettings()
    detection: Detection = Detection()
    sources: list[SourceOverride] = setting(
        [],
        "settings of detection for some sources: match, maybe metric, any field of detection; the first match wins",
        expected="mappings, each with match",
    )
    state: StateSettings = StateSettings()
    output: OutputSettings = OutputSettings()
    alerting: AlertingSettings = AlertingSettings()
    storage: StorageSettings = StorageSettings()
    dashboard: DashboardSettings = DashboardSettings()
    api: ApiSettings = ApiSettings()

    _given: GivenSettings = PrivateAttr(default_factory=GivenSettings)

    @model_validator(mode="after")
    def _name_topics(self) -> Settings:
        if (self.kafka.rekeys, self.kafka.alerts) != (self.input.rekey, self.alerting.enabled):
            kafka = self.kafka.model_copy()  # the default is one object for all Settings
            kafka._rekeys, kafka._alerts = self.input.rekey, self.alerting.enabled
            self.__dict__["kafka"] = kafka
        return self


SECTIONS: dict[str, Any] = {name: field.annotation for name, field in Settings.model_fields.items()}
