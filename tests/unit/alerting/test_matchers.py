"""Matchers mean what they mean in Alertmanager; beside amtool: test_amtool.py."""

import pytest

from app.alerting.matchers import Matchers
from app.errors import ConfigurationError


def parsed(*texts):
    return [(one.name, one.operator, one.value) for one in Matchers.of(texts).each]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("source=pump-7", [("source", "=", "pump-7")]),
        (' source  !=\t"pump 7" ', [("source", "!=", "pump 7")]),
        ('source=~"pump-.*"', [("source", "=~", "pump-.*")]),
        ("source!~pump-[0-9]+", [("source", "!~", "pump-[0-9]+")]),
        ('{a="1", b!="2", }', [("a", "=", "1"), ("b", "!=", "2")]),
        ("a=1,b=2", [("a", "=", "1"), ("b", "=", "2")]),
        ('a="1,2",b=3', [("a", "=", "1,2"), ("b", "=", "3")]),
        (r'a="say \"hi, you\" \\ \n\d"', [("a", "=", 'say "hi, you" \\ \n\\d')]),
        ("a=", [("a", "=", "")]),
        ('a=""', [("a", "=", "")]),
        ("a=1=2", [("a", "=", "1=2")]),
        ("a=~", [("a", "=~", "")]),
        ("a=für Müller", [("a", "=", "für Müller")]),
        ("a=ends\\", [("a", "=", "ends\\")]),
        ("{}", []),
        ("", []),
        ("host.name=web-1", [("host.name", "=", "web-1")]),
        (r'"the \"host\", name" =~ "web-\\d"', [('the "host", name', "=~", "web-\\d")]),
        ("Höhe!=7", [("Höhe", "!=", "7")]),
    ],
)
def test_a_text_is_read_as_alertmanager_reads_it(text, expected):
    assert parsed(text) == expected
    assert parsed(str(Matchers.of([text]))) == expected, "as it is written it is read again"


def test_several_texts_are_one_list():
    assert parsed("a=1", "{b=2,c=3}") == [("a", "=", "1"), ("b", "=", "2"), ("c", "=", "3")]
    assert Matchers.of("a=1,b=2") == Matchers.of(["a=1", "b=2"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source", """must be a matcher, as source=~"pump-.*"; operators = != =~ !~, got 'source'"""),
        ("a=1,,b=2", "got ''"),
        ("=1", "got '=1'"),
        ("a b=1", "got 'a b=1'"),
        ('a="1', "must have two quotes around its value, or none"),
        ('a="', "must have two quotes around its value, or none"),
        (r'a="1\"', "must have two quotes around its value, or none"),
        ('a=1"', r"must have \" for a quote inside its value"),
        ('a="1"2"', r"must have \" for a quote inside its value"),
        ('a=~"("', "must be a regular expression of RE2, got '(': missing )"),
        (r"a=~(?=b)", "invalid perl operator"),
        (r"a=~(.)\1", "invalid escape sequence"),
        ("a=~\ud800", "UTF-8"),
        (r'host.name="\d"', r"must have \\ for a backslash"),
    ],
)
def test_what_is_none_is_refused_in_words(text, said):
    with pytest.raises(ConfigurationError) as error:
        Matchers.of([text])
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("a=1", "1", True),
        ("a=1", "11", False),
        ("a!=1", "1", False),
        ("a=~1", "11", False),
        ("a=~1|11", "11", True),
        ("a=~1.*", "1\n", False),  # a dot is no line feed
        ("a=~1", "1\n", False),  # Python's $ would
        ("a=~(?i)é", "É", True),
        (r"a=~\pL+", "Ärger", True),  # no syntax of Python's re
        (r"a=~(?-s)\Qa.b\E", "a.b", True),
        ("a=~a)|(b", "abc", True),  # it stands between ^(?: and )$, there as here
        ("a!~1", "2", True),
        ("a!~.+", "", True),
    ],
)
def test_it_matches_the_whole_value_by_re2(text, value, expected):
    assert Matchers.of([text]).matches({"a": value}) is expected


def test_a_label_that_is_missing_is_empty_and_all_have_to_match():
    for text, expected in (("a=", True), ("a!=1", True), ("a=~.*", True), ("a=~.+", False), ("a=1", False)):
        assert Matchers.of([text]).matches({"b": "1"}) is expected
    assert Matchers.of([]).matches({}) and Matchers.of(["a=1", "b=2"]).matches({"a": "1", "b": "2"})
    assert not Matchers.of(["a=1", "b=2"]).matches({"a": "1", "b": "3"})


def test_no_pattern_takes_long():
    assert not Matchers.of(["a=~(a*)*(a|a)*b"]).matches({"a": "a" * 100_000})
