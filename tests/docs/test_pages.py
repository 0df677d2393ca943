"""What the documents show is what the program does."""

import json
import random
import re
import shlex

import pytest
from click.testing import CliRunner
from contract.test_routes import PROMISED
from support.claims import SENTENCES, parsed

from app import detectors
from app.alerting import channels
from app.alerting.routes import Routes
from app.cli import COMMANDS, alerts, main
from app.detectors.kinds import KINDS
from app.pipeline import Pipeline
from app.scoring.episodes import REASONS
from app.settings import load
from app.wire.reader import Reader
from app.wire.results import encode_episodes, encode_results
from tests.docs import pages
from tests.docs.pages import PAGE_OF, PAGES, README
from tests.docs.tables import TABLES

TEXT = {page: page.read_text("utf-8") for page in PAGES}
RECORDS, DETECTION, OPERATIONS, API = (
    pages.ROOT / "docs" / f"{name}.md" for name in ("records", "detection", "operations", "api")
)


@pytest.mark.parametrize("name", TABLES)
def test_the_table_is_that_of_the_program(name):
    assert pages.block(name) == TABLES[name]()


def test_a_stale_table_is_noticed():
    stale = TEXT[PAGE_OF["settings"]].replace("kafka.group_id", "kafka.group")
    assert pages.block("settings", stale) != TABLES["settings"]()


def test_every_block_stands_in_one_page():
    found = [(name, page) for page, text in TEXT.items() for name in re.findall(r"^<!-- (\w+) -->$", text, re.M)]
    assert sorted(found) == sorted(PAGE_OF.items())


def test_every_command_is_listed():
    listed = set(re.findall(r"^\| `faust-anomaly (\w+)", TEXT[README], re.M))
    assert listed == set(COMMANDS)
    text = TEXT[pages.ROOT / "docs" / "alerts.md"]
    assert [name for name in alerts.COMMANDS if f"faust-anomaly alerts {name}" not in text] == []


def test_every_route_is_listed():
    """Of programs in api.md, with pages, probes and metrics in operations.md."""
    named = " ".join(re.findall(r"`[^`\n]+`", TEXT[API] + TEXT[OPERATIONS]))
    called = " ".join(re.findall(r"http://127.0.0.1:8000(/[^'? ]+)", TEXT[API]))
    for example, name in ((r"raw-data:\d+:\d+:0", "{episode}"), (r"[0-9a-f]{12}", "{id}")):
        called = re.sub(example, name, called)
    said = f"{named} {called} "
    assert {route for _, route in PROMISED if not re.search(rf"[` ]{re.escape(route)}[?` ]", said)} == set()


def test_every_detector_is_listed():
    listed = re.findall(r"^\| (`.*?) \|", TEXT[DETECTION].partition("## All detectors")[2], re.M)
    assert {name for row in listed for name in re.findall(r"`(\w+)`", row)} >= set(detectors.names())


def test_every_kind_of_an_episode_and_every_reason_of_its_end_is_listed():
    listed = re.findall(r"^\| `(\w+)` \|", TEXT[RECORDS].partition("| reason |")[2].partition("### Sentences")[0], re.M)
    assert sorted(listed) == sorted([*KINDS, *filter(None, REASONS)])


def test_an_example_of_every_sentence_of_the_default_is_shown_with_its_kind():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", TEXT[RECORDS].partition("### Sentences")[2].partition("##")[0], re.M)
    shown = [(parsed(sentence)[0], kind) for kind, sentence in rows]
    assert sorted(which for which, _ in shown) == sorted((detector, number) for detector, number, _ in SENTENCES)
    for (detector, number), kind in shown:
        assert kind == ("pair" if detector == "pairs" else detectors.kernel(detector).kinds[number])


OF_OTHERS = ("scrape_configs:", "route:")  # files of Prometheus and Alertmanager


def test_the_settings_shown_are_valid(tmp_path):
    shown = [yaml for text in TEXT.values() for yaml in re.findall(r"```yaml\n(.*?)```", text, re.S | re.M)]
    shown = [yaml for yaml in shown if not yaml.lstrip().startswith(OF_OTHERS)]
    for yaml in shown:
        path = tmp_path / "anomaly.yaml"
        path.write_text(yaml)
        settings = load(path)
        Pipeline.of(settings)
        Routes.of(settings.alerting)
        for name, one in settings.alerting.channels.items():
            channels.find(one.type or name).Options.model_validate(one.options)
    assert len(shown) > 1 and any("match:" in yaml for yaml in shown)


def test_the_routes_shown_are_those_of_the_settings_shown(tmp_path):
    text = TEXT[pages.ROOT / "docs" / "alerts.md"].partition("## Rules")[2]
    path = tmp_path / "anomaly.yaml"
    path.write_text(re.search(r"```yaml\n(.*?)```", text, re.S)[1])
    asked = re.findall(r"^\$ faust-anomaly (.*)\n((?:[^$`].*\n)+)", text, re.M)
    for command, answer in asked:
        assert CliRunner().invoke(main, [*shlex.split(command), "--config", str(path)]).output == answer
    assert len(asked) == 2


def test_the_figures_of_the_readme_are_those_of_the_tables():
    [default] = [row for row in pages.rows(pages.block("detection")) if row["detector"] == "default"]
    bench = pages.block("bench")
    [start] = pages.rows(bench)
    throughput, latency = (pages.rows(bench.partition(title)[2]) for title in ("Throughput of ", "Latency, "))
    kilo = {row["contestant"]: float(re.findall(r"[\d.]+", row["records/s, 1,000 sources"])[0]) for row in throughput}
    rate = kilo["faust-anomaly, default set"]
    [late] = [row for row in latency if row["contestant"] == "faust-anomaly, default set"]
    chaos = pages.block("chaos")
    faults, found = pages.rows(chaos), pages.rows(chaos.partition("\n\n")[2])
    text = " ".join(TEXT[README].split())
    for words in (
        f"reaches {default['NAB standard']} of 100 points",
        f"with {default['false alerts per 1000']} false alerts per 1000 normal points",
        f"{rate:.0f},000 records/s in one worker with the default detectors",
        f"{rate / kilo['stock Faust, tuned']:.0f} times stock Faust",
        f"{float(late['p50, ms']):g} ms median latency at {late['records/s']} records/s",
        f"ready {start['warm']} s after its start",
        f"{sum(int(row['times']) for row in faults)} injected faults",
        f"over {int(found[0]['records'].replace(',', '')) // 1_000_000} million records",
    ):
        assert words in text
    [methods] = re.findall(r"More than (\d+) detection methods", text)
    assert len(detectors.names()) > int(methods)


def figure(digits):
    """As many decimals as are shown of a measure."""
    return round(float(digits), 5)


def shown(text):
    """Every JSON object that a page shows."""
    decoder = json.JSONDecoder(parse_float=figure)
    for part in re.findall(r"```json\n(.*?)```", text, re.S):
        while part := part.strip():
            one, end = decoder.raw_decode(part)
            yield one
            part = part[end:]


class Record:
    """A Kafka record of one point."""

    headers, timestamp, key = (), 1698399460000, b"pump-7"

    def __init__(self, offset, value):
        self.offset = offset
        time = 1698399460 - 60 * (5658 - offset)
        self.value = json.dumps({"source": "pump-7", "timestamp": time, "value": value}).encode()


def test_the_records_shown_are_real_ones():
    """Of a pump that keeps to 50 with a standard deviation of 4, week after week, then does not, then does again."""
    point, result = shown(TEXT[README])
    *points, closed = shown(TEXT[RECORDS])
    settings = load(environ={})
    pipeline = Pipeline(settings.detection)
    draw = random.Random(7)
    usual = (round(50.0 + draw.gauss(0.0, 4.0), 4) for _ in range(5658 + 20))
    records = [Record(i, value) for i, value in enumerate(usual)]
    records[5658] = Record(5658, point["value"])
    reader = Reader(settings.input, "raw-data", 3, keyed=True)
    read, letters, *_ = reader.read(records)
    outcome = pipeline.run(pipeline.sources(), read)
    real = json.loads(encode_results(read, outcome, "raw-data", 3)[5658][1], parse_float=figure)
    assert not letters and list(real) == list(result)
    assert real == result
    events = [json.loads(value, parse_float=figure) for _, value in encode_episodes(read, outcome, "raw-data", 3)]
    first = next(i for i, event in enumerate(events) if event.get("id") == result["id"])
    begin, end = events[first], next(event for event in events[first:] if event["event"] == "closed")
    assert begin.items() >= {"event": "opened", "points": 1, "offset": 5658, "index": 0}.items()
    assert begin == {**begin, **result}
    assert end == closed and list(end) == list(closed)
    given = [SimpleRecord(i, json.dumps(one).encode()) for i, one in enumerate(points)]
    assert len(points) == 3 and reader.read(given)[1] == []


class SimpleRecord(Record):
    """The same, as a page shows it."""

    def __init__(self, offset, value):
        self.offset, self.value, self.key = offset, value, json.loads(value)["source"].encode()
