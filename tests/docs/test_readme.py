"""What the README shows is what the program does."""

import json
import random
import re

import pytest

from app.cli import COMMANDS
from app.pipeline import Pipeline
from app.settings import load
from app.wire.reader import Reader
from app.wire.results import encode_results
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


def figure(digits):
    """As many decimals as are shown of a measure."""
    return round(float(digits), 5)


class Record:
    """A Kafka record of one point."""

    headers, timestamp, key = (), 1698399460000, b"pump-7"

    def __init__(self, offset, value):
        self.offset = offset
        time = 1698399460 - 60 * (5658 - offset)
        self.value = json.dumps({"source": "pump-7", "timestamp": time, "value": value}).encode()


def test_the_result_shown_is_a_real_one():
    """Of a pump that keeps to 50 with a standard deviation of 4, week after week, and then does not."""
    point, shown = (json.loads(block, parse_float=figure) for block in re.findall(r"```json\n(.*?)```", TEXT, re.S))
    settings = load(environ={})
    pipeline = Pipeline(settings.detection)
    draw = random.Random(7)
    usual = (Record(i, round(50.0 + draw.gauss(0.0, 4.0), 4)) for i in range(5658))
    records = [*usual, Record(5658, point["value"])]
    points, letters = Reader(settings.input, "raw-data", 3, keyed=True).read(records)
    outcome = pipeline.run(pipeline.sources(), points)
    [*_, (_, value)] = encode_results(points, outcome, "raw-data", 3)
    real = json.loads(value, parse_float=figure)
    assert not letters and list(real) == list(shown)
    assert real == shown
