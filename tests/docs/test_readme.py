"""What the README shows is what the program does."""

import json
import re

import pytest

from app.cli import COMMANDS
from app.pipeline import Pipeline
from app.records import Reader, encode_results
from app.settings import load
from tests.docs.readme import README, TABLES, block

TEXT = README.read_text("utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_the_table_is_that_of_the_program(name):
    assert block(TEXT, name) == TABLES[name]()


def test_a_stale_table_is_noticed():
    assert block(TEXT.replace("kafka.group_id", "kafka.group"), "settings") != TABLES["settings"]()


def test_every_command_is_listed():
    listed = set(re.findall(r"^\| `faust-anomaly (\w+)", TEXT, re.M))
    assert listed == set(COMMANDS)


def test_the_settings_shown_are_valid(tmp_path):
    shown = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    for yaml in shown:
        path = tmp_path / "anomaly.yaml"
        path.write_text(yaml)
        Pipeline.of(load(path))
    assert len(shown) > 1 and any("match:" in yaml for yaml in shown)


class Record:
    """A Kafka record of one point."""

    headers, timestamp, key = (), 1698399460000, b"pump-7"

    def __init__(self, offset, value):
        self.offset = offset
        self.value = json.dumps({"source": "pump-7", "timestamp": 1698399000 + offset, "value": value}).encode()


def test_the_result_shown_has_the_fields_of_a_real_one():
    _, shown = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.S))
    settings = load(environ={})
    pipeline = Pipeline(settings.detection)
    records = [*(Record(i, 50.0 + i % 7) for i in range(200)), Record(200, 90.4406)]
    points, letters = Reader(settings.input, "raw-data", 3, keyed=True).read(records)
    outcome = pipeline.run(pipeline.sources(), points)
    real = json.loads(encode_results(points, outcome, "raw-data", 3)[-1][1])
    assert not letters and real["is_anomaly"]
    assert list(real) == list(shown)
    assert {name: type(value) for name, value in real.items()} == {name: type(value) for name, value in shown.items()}
