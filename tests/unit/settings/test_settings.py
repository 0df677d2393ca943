"""Settings: what is said of a wrong one, where values come from, and what the table of all of them holds."""

import re
import typing
from operator import attrgetter
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, ValidationError

from app.cli.settings import settings as command
from app.errors import ConfigurationError
from app.pipeline import Pipeline
from app.settings import (
    Detection,
    DetectorSettings,
    KafkaSettings,
    Settings,
    SourceOverride,
    as_text,
    describe,
    load,
    messages,
    sources,
)

AS_IT_IS = """\
kafka: {bootstrap_servers: ["localhost:9092"], input_topic: raw-data, output_topic: anomaly-results, group_id: anomaly-detection-group}
anomaly_detection: {method: ensemble, threshold: 0.8, detectors: {statistical: {method: zscore, threshold: 3.0}}}
dashboard: {host: 0.0.0.0, port: 8000, websocket_enabled: true, real_time_updates: true}
"""  # noqa: E501  the file as users have it


def leaves(model: type[BaseModel] = Settings, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all settings that are not sections, found without the code under test."""
    found = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += leaves(field.annotation, (*at, name))
        else:
            found.append((*at, name))
    return found


def wrong(text: str = "", environ: dict[str, str] | None = None, tmp_path: Path | None = None, **overrides) -> str:
    """The message that refuses these settings."""
    file = None
    if text:
        assert tmp_path is not None
        file = tmp_path / "anomaly.yaml"
        file.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError) as refused:
        load(file, environ or {}, **overrides)
    return str(refused.value)


def test_the_file_that_users_have_loads_as_it_is(tmp_path):
    file = tmp_path / "anomaly.yaml"
    file.write_text(AS_IT_IS)
    found = load(file, {})
    assert found.kafka == KafkaSettings()
    assert found.dashboard.host == "0.0.0.0"
    assert found.detection.threshold == 0.8
    assert found.detection.detectors == {"statistical": DetectorSettings(method="zscore", threshold=3.0)}
    assert found.detection.detectors["statistical"].params == {"threshold": 3.0}


def test_nothing_given_is_the_defaults_and_they_are_in_range():
    found = load(None, {})
    assert found == Settings()
    assert Settings(**found.model_dump(exclude={"kafka": {"sasl_password"}})) == found
    assert (found.kafka.dead_letters_topic, found.kafka.changelog_topic) == (
        "raw-data-dead-letters",
        "anomaly-detection-group-sources-changelog",
    )


def spans(end, start="2026-12-24T18:00"):
    return f"[{{name: x, start: {start}, end: {end}}}]"


# Setting, what its value is, what must be said of it: allowed and found.
WRONG = [
    ("kafka", "bootstrap_servers", "[localhost]", "kafka.bootstrap_servers[0]", "host:port", "'localhost'"),
    ("kafka", "bootstrap_servers", "[]", "kafka.bootstrap_servers", "one or more host:port", "a list of 0"),
    ("kafka", "bootstrap_servers", "['a:0']", "kafka.bootstrap_servers[0]", "host:port", "'a:0'"),
    ("kafka", "bootstrap_servers", "['a:65536']", "kafka.bootstrap_servers[0]", "host:port", "'a:65536'"),
    ("kafka", "group_id", "a b", "kafka.group_id", "1 to 231 of a-z A-Z 0-9 . _ -", "'a b'"),
    ("kafka", "group_id", "7", "kafka.group_id", "1 to 231", "7"),
    ("kafka", "group_id", "", "kafka.group_id", "1 to 231", "nothing"),
    ("kafka", "input_topic", "x" * 237, "kafka.input_topic", "1 to 236", "'xxx"),
    ("kafka", "output_topic", "x" * 250, "kafka.output_topic", "1 to 249", "'xxx"),
    ("kafka", "output_topic", "..", "kafka.output_topic", "1 to 249", "'..'"),
    ("kafka", "security_protocol", "TLS", "kafka.security_protocol", "PLAINTEXT | SSL | SASL_PLAINTEXT", "'TLS'"),
    ("kafka", "session_timeout_s", "10 s", "kafka.session_timeout_s", "a number from 1 to 1_800 s", "'10 s'"),
    ("kafka", "session_timeout_s", ".nan", "kafka.session_timeout_s", "a number from 1 to 1_800 s", "nan"),
    ("kafka", "ack_timeout_s", "true", "kafka.ack_timeout_s", "a number from 1 to 600 s", "True"),
    ("kafka", "max_poll_records", "1.5", "kafka.max_poll_records", "a whole number from 1", "1.5"),
    ("kafka", "grup_id", "x", "kafka.grup_id", "did you mean group_id?", ""),
    ("kafka", "frobnicate", "x", "kafka.frobnicate", "known: ack_timeout_s, anomalies_topic", ""),
    ("detection", "threshold", "0", "detection.threshold", "a number above 0 and of at most 1", "0"),
    ("detection", "threshold", "1.01", "detection.threshold", "a number above 0 and of at most 1", "1.01"),
    ("detection", "window_points", "1", "detection.window_points", "from 2 to 4_096 points", "1"),
    ("detection", "ensemble", "mean", "detection.ensemble", "weighted_average | max", "'mean'"),
    ("detection", "detectors", "5", "detection.detectors", "detectors by name", "5"),
    ("detection", "detectors", "{zscore: 5}", "detection.detectors.zscore", "a mapping of settings", "5"),
    ("detection", "detectors", "{'a b': {}}", "detection.detectors.a b", "1 to 64 of", "'a b'"),
    ("detection", "detectors", "{zscore: {weight: -1}}", "detection.detectors.zscore.weight", "from 0 to", "-1"),
    ("detection", "detectors", "{zscore: {weight: 0}}", "detection.detectors", "a weight above 0", "0 for all"),
    ("detection", "detectors", "{zscore: {treshold: 3}}", "detection.detectors.zscore.treshold", "threshold", ""),
    ("detection", "detectors", "{zscore: {warmup: x}}", "detection.detectors.zscore.warmup", "number", "'x'"),
    ("detection", "detectors", "{a: {}}", "detection.detectors.a.method", "moving_average", "'a'"),
    ("detection", "direction", "up", "detection.direction", "both | above | below", "'up'"),
    ("detection", "min_deviation", "-1", "detection.min_deviation", "a number of at least 0", "-1"),
    ("detection", "min_deviation_relative", ".inf", "detection.min_deviation_relative", "number of at least 0", "inf"),
    ("detection", "range_highest", "high", "detection.range_highest", "a number", "'high'"),
    ("detection", "method", "zscor", "detection.method", "moving_average", "'zscor'"),
    ("detection", "timezone", "Berlin", "detection.timezone", "Europe/Berlin or UTC", "'Berlin'"),
    ("detection", "holidays", "{country: XX}", "detection.holidays.country", "must be one of AD, AE", "'XX'"),
    ("detection", "holidays", "{country: NO}", "detection.holidays.country", '"NO" in quotes', "False"),
    ("detection", "holidays", "{country: DE, region: X}", "detection.holidays.region", "BW, BY", "'X'"),
    ("detection", "holidays", "{region: BY}", "detection.holidays.region", "given with holidays.country", "'BY'"),
    ("detection", "maintenance", "[5]", "detection.maintenance[0]", "a mapping of settings", "5"),
    ("detection", "maintenance", spans("2027-01-01", "1"), "detection.maintenance[0].start", "ISO 8601", "1"),
    ("detection", "maintenance", spans("tomorrow"), "detection.maintenance[0].end", "ISO 8601", "'tomorrow'"),
    ("detection", "maintenance", spans("2300-01-01"), "detection.maintenance[0].end", "1970 to", "date(2300, 1, 1)"),
    ("detection", "maintenance", spans("2026-12-24"), "detection.maintenance[0].end", "later than start", "12-24'"),
    ("anomaly_detection", "threshold", "2", "detection.threshold", "a number above 0 and of at most 1", "2"),
    ("input", "timestamp_unit", "min", "input.timestamp_unit", "s | ms | us | ns", "'min'"),
    ("input", "value_fields", "[a, b, a]", "input.value_fields", "each field once", "'a'"),
    ("input", "source_field", "timestamp", "input.source_field", "not name 'timestamp'", "input.timestamp_field"),
    ("input", "value_fields", "[entity_id]", "input.value_fields", "not name 'entity_id'", "input.source_field"),
    ("input", "format", "collectd", "input.format", "telegraf | prometheus | metricbeat", "'collectd'"),
    ("input", "source_field", '"{host"', "input.source_field", "close each { with a }", "'{host'"),
    ("input", "source_field", '"{host}/{}"', "input.source_field", "a field in each pair of braces", "'{host}/{}'"),
    ("input", "timestamp_field", '"{a}"', "input.timestamp_field", "only source_field has braces", "'{a}'"),
    ("input", "timestamp_field", "at.*", "input.timestamp_field", "must name one field", "'at.*'"),
    ("input", "value_fields", '["a.*.b"]', "input.value_fields", "a star at the end only", "'a.*.b'"),
    ("input", "value_fields", "[a.b.c.d.e.f.g]", "input.value_fields", "at most 6 names with dots", "'a.b.c.d.e.f.g'"),
    ("input", "value_fields", "[" + "x" * 129 + "]", "input.value_fields", "names of at most 128 bytes", "xxx'"),
    ("input", "labels", "['|']", "input.labels", "must name a field", "'|'"),
    ("input", "points_field", "5", "input.points_field", "a path of fields", "5"),
    ("dashboard", "enabled", "1", "dashboard.enabled", "true or false", "1"),
    ("dashboard", "port", "'8000'", "dashboard.port", "a whole number from 0 to 65_535", "'8000'"),
    ("alerting", "allowed_addresses", "[a b]", "alerting.allowed_addresses[0]", "addresses or networks", "'a b'"),
    ("alerting", "allowed_addresses", "[10.0.0]", "alerting.allowed_addresses[0]", "addresses or n", "'10.0.0'"),
    ("alerting", "allowed_addresses", "[10.0.0.0/33]", "alerting.allowed_addresses[0]", "networks", "'10.0.0.0/33'"),
    ("state", "replay_records", "10", "state.replay_records", "a whole number from 1_000", "10"),
]


@pytest.mark.parametrize(("section", "name", "value", "setting", "allowed", "found"), WRONG)
def test_a_wrong_setting_is_named_with_its_line_its_range_and_what_was_found(
    section, name, value, setting, allowed, found, tmp_path
):
    said = wrong(f"# comment\n\n{section}:\n  {name}: {value}\n", tmp_path=tmp_path)
    assert said.startswith(f"{setting} ({tmp_path / 'anomaly.yaml'}:4): ")
    assert allowed in said
    assert found in said
    assert "\n" not in said


def test_a_pattern_of_metrics_needs_points_that_name_theirs(tmp_path):
    text = "input: {value_fields: [cpu]}\nsources:\n- {match: '*', metric: 'c*'}\n- {match: '*', metric: 5}\n"
    said = wrong(text, tmp_path=tmp_path)
    assert "sources[0].metric (" in said and "must not be given with input.value_fields" in said and "got 'c*'" in said
    assert "sources[1].metric (" in said and "must be a pattern with" in said


@pytest.mark.parametrize("path", leaves(), ids=".".join)
def test_every_setting_is_refused_by_name_and_line_where_it_stands(path, tmp_path):
    lines: dict[tuple[str, ...], str] = {}
    for one in leaves():
        for depth in range(1, len(one)):
            lines.setdefault(one[:depth], f"{'  ' * (depth - 1)}{one[depth - 1]}:")
        lines[one] = f"{'  ' * (len(one) - 1)}{one[-1]}: {'!!set ' if len(one) > 1 else ''}{{}}"
    said = wrong("\n".join(lines.values()), tmp_path=tmp_path)
    line = list(lines).index(path) + 1
    assert f"{'.'.join(path)} ({tmp_path / 'anomaly.yaml'}:{line}): must be " in said


def test_all_problems_are_listed_at_once(tmp_path):
    text = (
        "kafka:\n  group_id: a b\n  output_topic: raw-data\ndetection:\n"
        "  detectors:\n    moving_average: {wieght: 1}\nstat: {}\n"
    )
    said = wrong(text, {"ANOMALY_DASHBOARD__PORT": "-1", "ANOMALY_KAFKA_GROUP_ID": "x"}, tmp_path)
    file = tmp_path / "anomaly.yaml"
    assert said.splitlines()[0] == "6 settings are wrong:"
    for start in (
        f"kafka.group_id ({file}:2): must be",
        f"kafka.output_topic ({file}:3): must differ from all other topics",
        f"detection.detectors.moving_average.wieght ({file}:6): no such parameter",
        f"stat ({file}:7): no such setting; did you mean state?",
        "dashboard.port (ANOMALY_DASHBOARD__PORT): must be a whole number from 0 to 65_535, got -1",
        "ANOMALY_KAFKA_GROUP_ID (environment): did you mean ANOMALY_KAFKA__GROUP_ID?",
    ):
        assert any(line.startswith(start) for line in said.splitlines()), said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kafka: [", ":1: not plain YAML: "),
        ("kafka:\n  group_id: x\n group_id: y", ":3: not plain YAML: "),
        ("kafka:\n\tgroup_id: x", ":2: not plain YAML: "),
        ("- kafka", ":1: expected sections (kafka:, detection:, ...), found a list of 1"),
        ("kafka: !!python/object/apply:os.getcwd []", ":1: not plain YAML: could not determine a constructor"),
        ("kafka: &a {group_id: *a}", ":1: not plain YAML: "),
        ("1: x", ":1: not plain YAML: names of settings must be words"),
        ("a: \x00", "not plain YAML"),
        ("a: " + "[" * 5000, "not plain YAML"),
        ("kafka: {}\nkafka: {}", ":2): is given twice, first on line 1; keep one"),
        ("state: {}\nstate:\n  snapshot_every: 1\n  snapshot_every: 2", ":4): is given twice, first on line 3"),
        ("kafka: []", "kafka ({file}:1): must be a mapping of settings, got a list of 0"),
        ("sources: {}", "sources ({file}:1): must be mappings, each with match, got a mapping"),
        ("sources:\n- threshold: .5", "sources[0].match ({file}:2): is missing: must be a pattern"),
        ("sources:\n- 5", "sources[0] ({file}:2): must be a mapping of settings, got 5"),
        (
            "sources:\n- match: a\n  treshold: .5",
            "sources[0].treshold ({file}:3): no such setting; did you mean threshold?",
        ),
        (
            "sources:\n- match: a\n  detectors:\n    zscore: {warmup: -1}",
            "sources[0].detectors.zscore.warmup ({file}:4): must be",
        ),
        (
            "detection: {}\nanomaly_detection: {}",
            "anomaly_detection ({file}:2): is another name of detection, which is given too ({file}:1); keep one",
        ),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_its_line(text, said, tmp_path):
    found = wrong(text, tmp_path=tmp_path)
    assert said.replace("{file}", str(tmp_path / "anomaly.yaml")) in found
    assert str(tmp_path / "anomaly.yaml") in found


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    missing = tmp_path / "none.yaml"
    for path in (missing, tmp_path):
        with pytest.raises(ConfigurationError, match=re.escape(f"{path}: expected a readable settings file")):
            load(path, {})
    with pytest.raises(ConfigurationError, match=re.escape(f"{missing}: expected a readable")):
        load(None, {"ANOMALY_CONFIG": str(missing)})
    bad = tmp_path / "latin.yaml"
    bad.write_bytes(b"kafka: {group_id: \xe4}")
    with pytest.raises(ConfigurationError, match="expected UTF-8, byte 18 is not"):
        load(bad, {})


def test_a_span_ends_after_it_starts_also_if_only_one_of_its_times_is_local(tmp_path):
    file = tmp_path / "anomaly.yaml"
    span = '{name: x, start: 2026-12-24 18:00:00, end: "2026-12-24T17:30Z"}'  # PyYAML makes a date of the first
    file.write_text(f"detection: {{timezone: Europe/Berlin, maintenance: [{span}]}}")
    assert load(file, {}).detection.maintenance[0].start == "2026-12-24T18:00:00"
    said = wrong(f"detection: {{timezone: Europe/London, maintenance: [{span}]}}", tmp_path=tmp_path)
    assert "detection.maintenance[0].end" in said
    said = wrong(f"sources: [{{match: a, maintenance: [{span}]}}]", tmp_path=tmp_path)
    assert "sources[0].maintenance[0].end" in said


def test_a_plausible_range_is_not_empty(tmp_path):
    said = wrong("detection: {range_highest: 5}\nsources:\n- {match: a, range_lowest: 5.0}\n", tmp_path=tmp_path)
    assert said.startswith("sources[0].range_lowest")
    assert said.endswith("must be below range_highest = 5.0, got 5.0")


def test_a_variable_beats_the_file_and_the_command_line_beats_both(tmp_path):
    file = tmp_path / "anomaly.yaml"
    file.write_text("kafka:\n  group_id: file\n  input_topic: file\n  output_topic: results\n")
    environ = {"ANOMALY_CONFIG": str(file), "ANOMALY_KAFKA__GROUP_ID": "variable"}
    found = load(None, environ | {"ANOMALY_KAFKA__INPUT_TOPIC": "variable"}, kafka={"input_topic": "argument"})
    assert (found.kafka.group_id, found.kafka.input_topic, found.kafka.output_topic) == (
        "variable",
        "argument",
        "results",
    )
    origins = {row.name: row.origin for row in describe(found)}
    assert origins["kafka.group_id"] == "ANOMALY_KAFKA__GROUP_ID"
    assert origins["kafka.input_topic"] == "command line"
    assert origins["kafka.output_topic"] == f"{file}:4"
    assert origins["kafka.anomalies_topic"] == "default"


STRUCTURED = ("detectors", "sources", "maintenance", "rules", "channels", "time_intervals", "silent")


@pytest.mark.parametrize("path", [path for path in leaves() if path[-1] not in STRUCTURED], ids=".".join)
def test_every_setting_can_be_given_as_a_variable(path):
    """Its default as text, put into a variable, is its default again."""
    value = attrgetter(".".join(path))(Settings())
    needed = {
        "region": {"ANOMALY_DETECTION__HOLIDAYS__COUNTRY": "DE"},
        "tls_key_file": {"ANOMALY_API__TLS_CERTIFICATE_FILE": "own.pem"},
        "oidc_issuer": {"ANOMALY_API__OIDC_AUDIENCE": "us"},
        "oidc_audience": {"ANOMALY_API__OIDC_ISSUER": "https://id.example"},
    }
    others = needed.get(path[-1], {})
    if value is None:
        known = {
            "method": "zscore",
            "range_lowest": -5.5,
            "range_highest": 7.25,
            "country": "DE",
            "region": "BY",
            "root_path": "/anomaly",
            "oidc_issuer": "https://login.example/realms/ours",
            "timestamp_unit": "us",
            "sasl_oauth_token_endpoint": "https://login.example/oauth2/token",
            "format": "telegraf",
            "view_url": "https://anomalies.example/view",
            "values_apart": True,
            "numbers_as_text": False,
        }
        value = known.get(path[-1], "some-text")
    many = {"cors_origins": "https://a.one,https://a.two", "trusted_proxies": "10.0.0.1,10.1.0.0/16"}.get(
        path[-1], "a.one,a.two"
    )
    variable = "ANOMALY_" + "__".join(path).upper()
    given = load(None, others | {variable: as_text(value) if value != [] else many})
    found = attrgetter(".".join(path))(given)
    if value == []:
        assert found == many.split(",")
    elif isinstance(found, SecretStr):
        assert found.get_secret_value() == value
    else:
        assert found == value
    assert next(row.origin for row in describe(given) if row.name == ".".join(path)) == variable


def test_variables_reach_into_lists_detectors_and_overrides():
    given = load(
        None,
        {
            "ANOMALY_KAFKA__BOOTSTRAP_SERVERS": "a:9092, [::1]:9092",
            "ANOMALY_DETECTION__DETECTORS__RESIDUAL__THRESHOLD": "4.5",
            "ANOMALY_DETECTION__DETECTORS__STANDARDABSOLUTEDEVIATION__WEIGHT": "2",
            "ANOMALY_SOURCES": '[{match: "pump-*", threshold: 0.9}]',
            "ANOMALY_KAFKA__GROUP_ID": "007",
            "ANOMALY_KAFKA__SASL_USERNAME": "",
            "ANOMALY_DASHBOARD_PORT": "tcp://10.0.0.7:80",
            "PATH": "/bin",
        },
    )
    assert given.kafka.bootstrap_servers == ["a:9092", "[::1]:9092"]
    assert given.kafka.group_id == "007"
    assert given.kafka.sasl_username is None
    assert given.detection.effective_method == "auto"
    assert given.detection.members() == {
        "prediction_interval": DetectorSettings(method="prediction_interval", weight=1.0),
        "residual": DetectorSettings(method="residual", threshold=4.5, weight=1.0),
        "level": DetectorSettings(method="level", weight=1.0),
        "novelty": DetectorSettings(method="novelty", weight=1.0),
        "StandardAbsoluteDeviation": DetectorSettings(method="StandardAbsoluteDeviation", weight=2.0),
    }
    assert given.sources[0].match == "pump-*"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"ANOMALY_KAFKA__GRUP_ID": "x"}, "kafka.grup_id (ANOMALY_KAFKA__GRUP_ID): no such setting; did you mean"),
        ({"ANOMALY_KAFAK__GROUP_ID": "x"}, "ANOMALY_KAFAK__GROUP_ID (environment): no such setting; did you mean kaf"),
        ({"ANOMALY_KAFKA_GROUP_ID": "x"}, "ANOMALY_KAFKA_GROUP_ID (environment): did you mean ANOMALY_KAFKA__GROUP_I"),
        ({"ANOMALY_KAFKA__MAX_POLL_RECORDS": "many"}, "(ANOMALY_KAFKA__MAX_POLL_RECORDS): must be a whole number"),
        ({"ANOMALY_KAFKA__BOOTSTRAP_SERVERS": "a"}, "kafka.bootstrap_servers[0] (ANOMALY_KAFKA__BOOTSTRAP_SERVERS)"),
        ({"ANOMALY_SOURCES": "pump"}, "sources (ANOMALY_SOURCES): must be mappings, each with match, got 'pump'"),
        (
            {"ANOMALY_DETECTION__THRESHOLD": ".5", "ANOMALY_ANOMALY_DETECTION__THRESHOLD": ".6"},
            "detection.threshold (ANOMALY_ANOMALY_DETECTION__THRESHOLD): is given twice",
        ),
        (
            {"ANOMALY_DETECTION__DETECTORS__ZSCORE__TRESHOLD": "3"},
            "detection.detectors.zscore.treshold (ANOMALY_DETECTION__DETECTORS__ZSCORE__TRESHOLD): no such parameter",
        ),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named(environ, said):
    assert said in wrong(environ=environ)


TOKENS = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}


def test_tokens_for_msk_need_no_user():
    kafka = load(environ={}, kafka={**TOKENS, "sasl_oauth_token_endpoint": "aws-msk://eu-central-1"}).kafka
    assert kafka.sasl_username is None


@pytest.mark.parametrize(
    ("kafka", "setting"),
    [
        ({"output_topic": "raw-data"}, "kafka.output_topic"),
        ({"anomalies_topic": "anomaly-results"}, "kafka.anomalies_topic"),
        ({"output_topic": "raw-data-dead-letters"}, "kafka.output_topic"),
        ({"group_id": "g", "anomalies_topic": "g-sources-changelog"}, "kafka."),
        ({"input_topic": "raw.data", "output_topic": "raw_data"}, "kafka.output_topic"),
        ({"security_protocol": "SASL_SSL", "sasl_username": "me"}, "kafka.sasl_password"),
        ({"security_protocol": "SASL_PLAINTEXT", "sasl_password": "x"}, "kafka.sasl_username"),
        ({**TOKENS, "sasl_username": "me", "sasl_password": "x"}, "kafka.sasl_oauth_token_endpoint"),
        ({**TOKENS, "sasl_oauth_token_endpoint": "https://a/b", "sasl_username": "me"}, "kafka.sasl_password"),
        ({"sasl_oauth_token_endpoint": "http://a.example/b"}, "kafka.sasl_oauth_token_endpoint"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(kafka, setting):
    assert wrong(kafka=kafka).startswith(setting)


KAFKAS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@given(st.text(max_size=300) | st.text("ab.-_", min_size=1, max_size=260))
def test_a_topic_is_accepted_if_kafka_accepts_it(name):
    legal = 0 < len(name) <= 249 and set(name) <= KAFKAS and name not in (".", "..")
    try:
        KafkaSettings(output_topic=name)
    except ValidationError:
        assert not legal
    else:
        assert legal


@pytest.mark.parametrize("word", ["22:00", "1:5", "-3:1", "190:20:30.15", "2026:2028"])
def test_what_has_colons_is_text(word):
    """PyYAML's own loader makes numbers to base 60 of most of these."""
    assert sources.parse(f"a: [{word}, 15, -1.5, 0x10]").values == {"a": [word, 15, -1.5, 16]}


@pytest.mark.parametrize("number", ["1e1", "1E+1", "1.0e1", "10", "+10", "10."])
def test_a_number_is_a_number_however_it_is_written(number, tmp_path):
    file = tmp_path / "anomaly.yaml"
    file.write_text(f"kafka: {{session_timeout_s: {number}}}")
    assert load(file, {}).kafka.session_timeout_s == 10.0
    assert load(None, {"ANOMALY_KAFKA__SESSION_TIMEOUT_S": number}).kafka.session_timeout_s == 10.0


def test_a_password_is_never_shown(tmp_path):
    given = load(None, {"ANOMALY_KAFKA__SASL_PASSWORD": "hunter2"})
    assert given.kafka.sasl_password.get_secret_value() == "hunter2"
    assert next(row.value for row in describe(given) if row.name == "kafka.sasl_password") == "******"
    assert "hunter2" not in repr(given) + str(describe(given))
    for text in (
        "kafka: {sasl_password: [hunter2]}",
        "kafka: {sasl_pasword: hunter2}",
        "kafka: {sasl_password: {hunter2: 1}}",
    ):
        assert "hunter2" not in wrong(text, tmp_path=tmp_path).replace("sasl_password.hunter2", "")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_variable_may_name_a_file_with_the_value(end, tmp_path):
    """Whatever it is for: a secret, a name, a list, the parameter of a detector, a whole section."""
    values = {
        "ANOMALY_KAFKA__SASL_PASSWORD": "  hunter2\n%",  # all but the last line end belongs to it
        "ANOMALY_KAFKA__BOOTSTRAP_SERVERS": "a:9092,b:9092",
        "ANOMALY_STORAGE__URL": "postgresql://me:hunter2@host/name",
        "ANOMALY_DETECTION__DETECTORS__RESIDUAL__THRESHOLD": "4.5",
        "ANOMALY_ANOMALY_DETECTION__THRESHOLD": "0.75",
        "ANOMALY_SOURCES": '[{match: "pump-*", threshold: 0.9}]',
        "ANOMALY_ALERTING__CHANNELS__PAGER__TYPE": "webhook",
    }
    environ = {}
    for variable, value in values.items():
        file = tmp_path / variable
        file.write_bytes((value + end).encode())
        environ[f"{variable}_FILE"] = str(file)
    found = load(None, environ)
    assert found.model_dump() == load(None, values).model_dump()
    origins = {row.name: row.origin for row in describe(found)}
    password = origins["kafka.sasl_password"]
    assert password == f"ANOMALY_KAFKA__SASL_PASSWORD_FILE={tmp_path}/ANOMALY_KAFKA__SASL_PASSWORD"
    printed = CliRunner().invoke(command, env=environ)
    assert printed.exit_code == 0, printed.output
    assert f"******  {password} " in re.sub(r"(\*{6}) +", r"\1  ", printed.output)
    assert "hunter2" not in printed.output + repr(found)


def test_a_setting_that_names_a_file_is_named_by_its_own_variable():
    """They are files that are reread: api.tokens_file, and the options of channels."""
    given = {
        "ANOMALY_API__TOKENS_FILE": "/there/are/none",
        "ANOMALY_ALERTING__CHANNELS__PAGER__TYPE": "webhook",
        "ANOMALY_ALERTING__CHANNELS__PAGER__SIGNING_SECRET_FILE": "/there/are/none",
        "ANOMALY_ALERTING__CHANNELS__LOG_FILE": "{type: log}",
    }
    found = load(None, given)
    assert found.api.tokens_file == "/there/are/none"
    assert found.alerting.channels["pager"].options == {"signing_secret_file": "/there/are/none"}
    assert found.alerting.channels["log_file"].type == "log"


def test_what_is_wrong_with_the_file_of_a_value_is_said_without_its_content(tmp_path):
    def said(content: bytes | None, name: str = "KAFKA__SASL_PASSWORD", **others: str) -> str:
        file = tmp_path / "value"
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        found = wrong(environ={f"ANOMALY_{name}_FILE": str(file)} | others)
        assert "hunter2" not in found
        return found.replace(str(file), "FILE")

    at = "kafka.sasl_password (ANOMALY_KAFKA__SASL_PASSWORD_FILE=FILE): "
    assert said(None) == f"{at}expected a readable file with the value: No such file or directory"
    assert said(b"\n") == said(b"") == f"{at}expected a file with the value, and it is empty"
    assert said(b"hunter2\xff") == f"{at}expected UTF-8 in the file, byte 7 is not"
    assert said(b"hunter2" * 200_000) == f"{at}expected a file with the value, and it has more than 1048576 bytes"
    twice = "is given twice, as ANOMALY_KAFKA__SASL_PASSWORD and ANOMALY_KAFKA__SASL_PASSWORD_FILE; keep one"
    assert twice in said(b"hunter2", ANOMALY_KAFKA__SASL_PASSWORD="hunter2")
    for content in (b"hunter2", None):
        misspelt = said(content, "KAFKA__SASL_PASWORD")
        assert "kafka.sasl_pasword (ANOMALY_KAFKA__SASL_PASWORD_FILE=FILE): no such setting; did you mean" in misspelt
    # The file of a secret, given for another setting: of no value in a file anything is said.
    for name in ("KAFKA__SESSION_TIMEOUT_S", "KAFKA__BOOTSTRAP_SERVERS", "KAFKA__SECURITY_PROTOCOL", "KAFKA", "SOURCES",
                 "DETECTION__TIMEZONE", "DETECTION__METHOD", "DETECTION__HOLIDAYS__COUNTRY", "INPUT__SOURCE_FIELD",
                 "DETECTION__DETECTORS__RESIDUAL__THRESHOLD", "API__ROOT_PATH", "ALERTING__VIEW_URL"):  # fmt: skip
        assert "_FILE=FILE): " in said(b"{hunter2", name)
    for name in ("KAFKA", "DETECTION__DETECTORS", "DETECTION__MAINTENANCE", "ALERTING__CHANNELS", "KAFKA__GROUP_ID"):
        assert "_FILE=FILE): " in said(b"x: [hunter2]", name)
    assert "must differ from all other topics" in said(b"anomalies", "KAFKA__OUTPUT_TOPIC")
    assert "did you mean ANOMALY_KAFKA__SASL_PASSWORD_FILE?" in wrong(environ={"ANOMALY_KAFKA_SASL_PASSWORD_FILE": "x"})
    assert "did you mean ANOMALY_API__TOKENS_FILE?" in wrong(environ={"ANOMALY_API_TOKENS_FILE": "x"})


def test_an_override_says_only_what_differs():
    given = load(None, {}, detection={"threshold": 0.7}, sources=[{"match": "pump-*", "window_points": 50}])
    (override,) = given.sources
    assert given.detection.overridden(override).window_points == 50
    assert given.detection.overridden(override).threshold == 0.7
    assert type(given.detection.overridden(override)) is Detection
    pipeline = Pipeline.of(given)
    assert [pipeline.profile_of(name) for name in ("pump-7", "Pump-7", "fan")] == [1, 0, 0]
    assert {row.name for row in describe(given) if row.name.startswith("sources")} == {
        "sources[0].match",
        "sources[0].window_points",
    }


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        load(None, {}).kafka.group_id = "other"


def test_every_setting_is_described():
    """Name, description and range for each; a unit for each that bears one in its name or counts something."""
    rows = {row.name: row for row in describe(Settings())}
    expected = {".".join(path) for path in leaves()}
    assert set(rows) == expected
    units = {"s": "s", "ms": "ms", "bytes": "bytes", "records": "records", "points": "points", "metrics": "metrics"}
    for row in rows.values():
        assert row.description
        assert row.range
        assert row.origin == "default"
        if (last := row.name.rpartition("_")[2]) in units:
            assert row.unit == units[last], row.name
    for override in SourceOverride.model_fields.values():
        assert override.description
        assert messages.allowed(override)


def test_the_law_about_descriptions_would_notice_a_setting_without_one(monkeypatch):
    field = typing.cast(typing.Any, KafkaSettings.model_fields["group_id"])
    monkeypatch.setattr(field, "description", "")
    with pytest.raises(AssertionError):
        test_every_setting_is_described()


def test_the_command_prints_each_setting_and_where_it_came_from(tmp_path):
    file = tmp_path / "anomaly.yaml"
    file.write_text(AS_IT_IS)
    printed = CliRunner().invoke(command, ["--config", str(file)])
    assert printed.exit_code == 0, printed.output
    lines = {line.split()[0]: line for line in printed.output.splitlines()}
    for row in describe(load(file, {})):
        assert row.name in lines
        assert row.description in lines[row.name]
    assert f" {file}:2 " in lines["detection.threshold"]
