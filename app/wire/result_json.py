"""Common results, written from columns to bytes by compiled code: no Python object for each point.

It writes the same bytes as the structs of ``app.wire.results`` in a third of the time
(tests/unit/wire/test_result_json.py compares both). A common result is of a point with one value, of a series of its
own or called "value", outside an episode, whose source needs no escapes, and which at least one detector scored, or
none yet; all other results are encoded by ``app.wire.results`` and copied in. msgspec writes the numbers of a batch,
all in one call: its shortest form of a float is part of the wire format. A NaN, which it writes as null, does not apply
and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from app.compiled.byte_columns import Bytes, Column, put
from app.compiled.jit import compiled

QUOTE, BACKSLASH, SPACE, NULL = 34, 92, 32, 110  # NULL: the n of null
COMMA, COLON, CLOSE, OPEN = 44, 58, 93, 123
BEFORE = (  # the bytes before each number of a common result
    b',"timestamp":',
    b',"value":',
    b',"expected":',
    b',"expected_lower":',
    b',"expected_upper":',
    b',"anomaly_score":',
    b',"alert_score":',
)
VALUE, ANOMALY_SCORE, ALERT_SCORE = 1, 5, 6  # places in BEFORE
NUMBERS = len(BEFORE)  # before the detectors' scores
ID, SOURCE = b'{"id":"', b'","source":"'
AFTER_SCORE = b',"is_anomaly":false,"severity":"'
WARMING_UP = (
    b',"anomaly_score":0.0,"alert_score":0.0,"is_anomaly":false,"severity":"low","status":"warming_up","config_hash":'
)
OTHER, SCORED, UNSCORED = 0, 1, 2  # kinds of results
DIGITS = 20  # of any int64
NULL_SIZE = 5  # with the comma after it


def common(
    prefix: str,
    keys: Column,
    partitions: np.ndarray,
    offsets: np.ndarray,
    indices: np.ndarray,
    kinds: np.ndarray,
    scored: np.ndarray,
    unscored: np.ndarray,
    metrics: Column,
    severities: np.ndarray,
    directions: np.ndarray,
    words: Words,
    others: Column,
) -> Column:
    """Values of n results.

    Parameters
    ----------
    prefix
        What all ids begin with: "topic:", or "topic:partition:".
    keys
        n sources, as in JSON, without quotes.
    partitions, offsets, indices
        i8[n]: what follows in the ids; no partitions where they are in the prefix.
    kinds
        i8[n]: SCORED, UNSCORED, or OTHER: copied from ``others``, in order.
    scored
        f8[number of SCORED, NUMBERS + detectors]: the numbers that BEFORE names, then the votes. NaN: does not
        apply; for the alert score: the same as the anomaly score.
    unscored
        f8[number of UNSCORED, 2]: timestamp and value.
    metrics
        n times the field metric, with a comma before it, or nothing; an empty column when no result has one.
    severities, directions
        i8[n], indices into ``words``: by severity; by direction 0 unknown, 1 above, -1 below.
    """
    text, short = _text(scored), _text(unscored)
    width = words.most + len(prefix) + 3 * DIGITS
    room = len(text) * 2 + len(short) + len(keys.data) + len(metrics.data) + len(others.data) + len(kinds) * width
    out = np.empty(room, np.uint8)
    ends = np.empty(len(kinds), np.int64)
    size = _write(
        out, ends, kinds, np.frombuffer(prefix.encode(), np.uint8), partitions, offsets, indices, keys.data,
        keys.ends, text, short, metrics.data, metrics.ends, words.before.data, words.before.ends, severities,
        directions, others.data, others.ends,
    )  # fmt: skip
    return Column(out[:size], ends)


def _text(numbers: np.ndarray) -> Bytes:
    return np.frombuffer(msgspec.json.encode(numbers.ravel().tolist()), np.uint8)


class Words(NamedTuple):
    """The fixed texts between the variable parts of a profile's results."""

    before: Column  # id, source, BEFORE.., 4 severities, 3 directions, one for each detector, two ends
    most: int  # bytes of them in one result, at most

    @classmethod
    def of(cls, severities: Sequence[str], detectors: Sequence[str], config_hash: str) -> Words:
        fixed = [ID, SOURCE, *BEFORE]
        of_severity = [AFTER_SCORE + name.encode() + b'","status":"ok"' for name in severities]
        of_direction = [b',"detectors":{', b',"direction":"above","detectors":{', b',"direction":"below","detectors":{']
        of_detector = [b"," + msgspec.json.encode(name) + b":" for name in detectors]
        end = b'},"config_hash":' + msgspec.json.encode(config_hash) + b"}"
        unscored = WARMING_UP + msgspec.json.encode(config_hash) + b"}"
        most = (
            sum(map(len, [*fixed, *of_detector, end, unscored]))
            + max(map(len, of_severity))
            + max(map(len, of_direction))
            + 4
        )
        return cls(Column.of([*fixed, *of_severity, *of_direction, *of_detector, end, unscored]), most)


def _word(out, i, data, ends, n):
    return put(out, i, data, ends[n - 1] if n > 0 else 0, ends[n])


def put_int(out, i, v):
    n = 1
    rest = v
    while rest > 9:
        rest //= 10
        n += 1
    for k in range(i + n - 1, i - 1, -1):
        out[k] = 48 + v % 10
        v //= 10
    return i + n


def _number(out, i, text, at):
    """Copy the number that begins at ``at``; returns the next place in ``out`` and where the next number begins."""
    to = out[i:]
    source = text[at:]
    k = 0
    for k in range(len(source)):
        if source[k] == COMMA or source[k] == CLOSE:
            break
        to[k] = source[k]
    return i + k, at + k + 1


@compiled
def _write(out, ends, kinds, prefix, partitions, offsets, indices, keys, key_ends, text, short, metrics, metric_ends,
           words, word_ends, severities, directions, others, other_ends):  # fmt: skip
    severity = 2 + NUMBERS
    direction = severity + 4
    detector = direction + 3
    end = len(word_ends) - 2
    i = 0
    other = 0
    at = 1  # in text, after the opening bracket
    near = 1  # in short
    named = len(metric_ends) > 0
    for j in range(len(kinds)):
        if kinds[j] == OTHER:
            i = _word(out, i, others, other_ends, other)
            other += 1
            ends[j] = i
            continue
        i = _word(out, i, words, word_ends, 0)
        i = put(out, i, prefix, 0, len(prefix))
        if len(partitions) > 0:
            i = put_int(out, i, partitions[j])
            out[i] = COLON
            i += 1
        i = put_int(out, i, offsets[j])
        out[i] = COLON
        i = put_int(out, i + 1, indices[j])
        i = _word(out, i, words, word_ends, 1)
        i = put(out, i, keys, key_ends[j - 1] if j > 0 else 0, key_ends[j])
        out[i] = QUOTE
        i += 1
        if kinds[j] == UNSCORED:
            i = _word(out, i, words, word_ends, 2)
            i, near = _number(out, i, short, near)
            if named:
                i = _word(out, i, metrics, metric_ends, j)
            i = _word(out, i, words, word_ends, 3)
            i, near = _number(out, i, short, near)
            i = _word(out, i, words, word_ends, end + 1)
            ends[j] = i
            continue
        score = 0
        for k in range(NUMBERS):
            if named and k == VALUE:
                i = _word(out, i, metrics, metric_ends, j)
            if k == ANOMALY_SCORE:
                score = at
            if text[at] != NULL:
                i = _word(out, i, words, word_ends, 2 + k)
                i, at = _number(out, i, text, at)
            else:
                at += NULL_SIZE
                if k == ALERT_SCORE:
                    i = _word(out, i, words, word_ends, 2 + k)
                    i, score = _number(out, i, text, score)
        i = _word(out, i, words, word_ends, severity + severities[j])
        i = _word(out, i, words, word_ends, direction + (2 if directions[j] < 0 else directions[j]))
        first = i - 1
        i -= 1  # each detector begins with a comma; the comma of the first is replaced by "{"
        for k in range(end - detector):
            if text[at] != NULL:
                i = _word(out, i, words, word_ends, detector + k)
                i, at = _number(out, i, text, at)
            else:
                at += NULL_SIZE
        out[first] = OPEN
        i = _word(out, i, words, word_ends, end)
        ends[j] = i
    return i


def needs_escape(keys: Column) -> np.ndarray:
    """bool[n]: strings with a character that JSON writes differently."""
    found = (keys.data < SPACE) | (keys.data == QUOTE) | (keys.data == BACKSLASH)
    if not found.any():
        return np.zeros(len(keys.ends), bool)
    counts = np.concatenate([[0], np.cumsum(found)])
    return counts[keys.ends] > counts[np.concatenate([[0], keys.ends[:-1]])]
