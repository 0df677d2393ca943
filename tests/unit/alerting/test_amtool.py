"""Words that the settings share with Alertmanager mean the same there: what amtool says of the same rules.

Many made configurations are children of one route that all continue, so that one process tells what each of them does
with a set of labels.
"""

import random
import shutil
import subprocess

import pytest
import yaml

from app.alerting.matchers import Matcher, Matchers
from app.alerting.routes import Routes
from app.alerting.time_intervals import TimeInterval
from app.errors import ConfigurationError
from app.settings.loading import check
from app.settings.sources import parse

NAMES = ("source", "severity", "site", "_x:1")
VALUES = ("", "pump-1", "PUMP-2", "mill", "7", "a.b", "a b", 'say "x"', "back\\slash", "two\nlines", "Größe", "a,b")
PATTERNS = (
    "", ".+", "pump-.*", "pump", "(?i)pump-[0-9]+", r"\\d", r"a\\.b", "a.b", "mill|7", "x|", r"\\pL+", "[^a]*",
    "(?s)two.*", "two.*", "a)|(p", "^mill$", r"(?:.{0,3})", r".*\\\\.*", r'.*\"x\"',
)  # fmt: skip
SPANS = """
- name: nights
  time_intervals:
    - times:
        - start_time: 00:00
          end_time: 06:00
        - start_time: 22:00
          end_time: 24:00
      weekdays: ['monday:friday', Saturday]
      location: Europe/Berlin
- name: days
  time_intervals:
    - days_of_month: ['1:7', '-3:-1', 15, 20:25]
      months: ['january:march', may, 7, 10:12]
      years: ['2026:2028', 2030]
    - {}
"""
CONFIGURATIONS, LABEL_SETS = 60, 25  # 1,500 answers of 25 processes


def amtool(*words):
    path = shutil.which("amtool")
    assert path, "amtool is missing: apt-get install prometheus-alertmanager"
    return subprocess.run([path, *words], capture_output=True, text=True)


def matcher(draw):
    name, operator = draw.choice(NAMES), draw.choice(("=", "!=", "=~", "!~"))
    if operator in ("=", "!="):
        text = str(Matcher(name, operator, draw.choice(VALUES)))
        plain = draw.random() < 0.3 and not set(text) & set("\\,")
        return text.replace('"', "") if plain else text
    value = draw.choice(PATTERNS)
    return f" {name} {operator} {value} " if value.isalnum() else f'{name}{operator}"{value}"'


def rules(draw):
    """Rules in the words that both know; whom they tell is added by each."""
    made = []
    for _ in range(draw.randint(1, 5)):
        matchers = [matcher(draw) for _ in range(draw.choice((0, 1, 1, 1, 2, 2)))]
        if draw.random() < 0.3:
            matchers = [f"{{{', '.join(matchers)},}}"] if matchers else ["{}"]
        rule = {"matchers": matchers, "continue": draw.random() < 0.4}
        if draw.random() < 0.5:
            rule |= {"group_by": draw.choice((["..."], ["source", "site"], [])), "group_wait": "0s"}
        if draw.random() < 0.5:
            rule |= {"group_interval": "1m30s", "repeat_interval": draw.choice(("4h", "1y2w3d", "500ms"))}
        if draw.random() < 0.5:
            rule |= {"mute_time_intervals": ["nights"], "active_time_intervals": ["days", "nights"]}
        made.append(rule)
    return made


def ours(made):
    """Which of the rules take a set of labels, by numbers."""
    told = [{**rule, "channels": [f"c{i}"]} for i, rule in enumerate(made)]
    channels = {f"c{i}": {} for i in range(len(made))}
    text = yaml.safe_dump({"alerting": {"rules": told, "channels": channels}}, allow_unicode=True)
    spans = SPANS.replace("\n", "\n    ")
    routes = Routes.of(check(parse(f"{text}  time_intervals:{spans}")).alerting)
    return lambda labels: [int(route.channels[0][1:]) for route in routes.taking(labels)]


def theirs(path, configurations):
    """The same of all configurations, by Alertmanager; the file is written once."""
    children = [
        {
            "receiver": f"{k}",
            "continue": True,
            "routes": [{**rule, "receiver": f"{k}.{i}"} for i, rule in enumerate(of)],
        }
        for k, of in enumerate(configurations)
    ]
    receivers = ["root", *(f"{k}" for k in range(len(configurations)))]
    receivers += [f"{k}.{i}" for k, of in enumerate(configurations) for i in range(len(of))]
    body = {"route": {"receiver": "root", "routes": children}, "receivers": [{"name": name} for name in receivers]}
    path.write_text(yaml.safe_dump(body, allow_unicode=True) + f"time_intervals:{SPANS}", "utf-8")

    def taking(labels):
        words = [str(Matcher(name, "=", value)) for name, value in labels.items()]
        done = amtool("config", "routes", "test", f"--config.file={path}", *words)
        assert done.returncode == 0, done.stderr
        told = [name.partition(".") for name in done.stdout.strip().split(",")]
        return [[int(i) for k, _, i in told if k == str(number) and i] for number in range(len(configurations))]

    return taking


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """Configurations, and (labels, what Alertmanager says of each) of sets of labels."""
    draw = random.Random(14)
    configurations = [rules(draw) for _ in range(CONFIGURATIONS)]
    ask = theirs(tmp_path_factory.mktemp("amtool") / "alertmanager.yml", configurations)
    sets = [{name: draw.choice(VALUES) for name in draw.sample(NAMES, draw.randint(0, 4))} for _ in range(LABEL_SETS)]
    return configurations, [(labels, ask(labels)) for labels in sets]


def differences(compared, program=ours):
    configurations, said = compared
    found = []
    for k, made in enumerate(configurations):
        taking = program(made)
        for labels, of_all in said:
            if (got := taking(labels)) != of_all[k]:
                found.append((made, labels, of_all[k], got))
    return found


def test_the_same_rules_take_the_same_labels(compared):
    assert differences(compared) == []


def without_continue(made):
    return ours([{**rule, "continue": False} for rule in made])


def not_anchored(made):
    return ours([{**rule, "matchers": [text.replace('~"', '~".*') for text in rule["matchers"]]} for rule in made])


def last_first(made):
    turned = ours(made[::-1])
    return lambda labels: sorted(len(made) - 1 - i for i in turned(labels))


@pytest.mark.parametrize("program", [without_continue, not_anchored, last_first])
def test_a_wrong_program_is_noticed(compared, program):
    assert differences(compared, program)


def test_the_comparison_sees_all_there_is_to_see(compared):
    """Rules that take and that do not, several that take, none that takes."""
    counts = [len(taking) for _, of_all in compared[1] for taking in of_all]
    assert {0, 1, 2, 3} <= set(counts) and min(counts.count(n) for n in (0, 1, 2)) > 100


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("a=b", True),
        ('{a="b}"}', True),
        ('a="b",', True),
        ("a=,b=", True),
        (r"a=\"", True),
        ("a=b=c", True),
        ('a=~"[a-z]{1000}"', True),
        ("a=~b{9999}", True),  # a brace at the end is not the pattern's
        ("a", False),
        ("a=b,,c=d", False),
        (",", False),
        ("a-b=c", None),  # a name since 0.27; here, too
        ('a="b', False),
        ('a=b"c', False),
        (r'a="b\"', False),
        ("a=~(", False),
        (r"a=~\d\Z", False),
        ('a=~"b{1001}"', False),
        ("a=~(?!b)", False),
    ],
)
def test_what_is_a_matcher_there_is_one_here(tmp_path, text, valid):
    route = {"receiver": "a", "routes": [{"receiver": "a", "matchers": [text]}]}
    assert is_valid_there(tmp_path, {"route": route}) is bool(valid)
    assert is_valid_here(Matchers.of, [text]) is (valid is not False)


@pytest.mark.parametrize(
    ("interval", "valid"),
    [
        ({"weekdays": ["Sunday:saturday"], "location": "Asia/Kolkata"}, True),
        ({"days_of_month": ["-31:-1", "+1:-1", 5]}, True),
        ({"days_of_month": ["28:-1"]}, None),  # right in each month, and refused there
        ({"weekdays": ["monday:sunday"]}, False),
        ({"times": [{"start_time": "9:00", "end_time": "10:00"}]}, False),
        ({"times": [{"start_time": "22:00", "end_time": "06:00"}]}, False),
        ({"days_of_month": ["-1:5"]}, False),
        ({"days_of_month": ["32"]}, False),
        ({"months": ["dec"]}, False),
        ({"years": ["2027:2026"]}, False),
        ({"zone": "UTC"}, False),
        ({"location": "Berlin"}, False),
    ],
)
def test_what_is_a_time_interval_there_is_one_here(tmp_path, interval, valid):
    spans = [{"name": "a", "time_intervals": [interval]}]
    assert is_valid_there(tmp_path, {"route": {"receiver": "a"}, "time_intervals": spans}) is bool(valid)
    assert is_valid_here(TimeInterval.of, interval) is (valid is not False)


def is_valid_there(folder, body):
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump({**body, "receivers": [{"name": "a"}]}))
    return amtool("check-config", str(path)).returncode == 0


def is_valid_here(make, given):
    try:
        make(given)
    except ConfigurationError:
        return False
    return True
