"""Debezium: changes of rows, with or without the schema that Kafka Connect's JSON converter adds.

    {"payload": {"before": null, "after": {"sensor": 7, "temperature": 45.2}, "op": "c", "ts_ms": 1698401060123,
     "source": {"connector": "postgresql", "table": "readings", "ts_ms": 1698401060000}}}

The row after the change is the point; ``source_field``, ``timestamp_field`` and ``value_fields`` name its columns.
Without ``timestamp_field`` the time is that of the change in the database. Deleted rows, truncated tables and messages
are skipped, as tombstones are. Decimals as text are read (decimal.handling.mode=string, or double).
"""

INPUT = {
    "format": "debezium",
    "points_field": "payload.after|after",
    "timestamp_field": "$.payload.source.ts_ms|$.source.ts_ms",
    "numbers_as_text": True,
}
SKIPS_EMPTY = "deleted"
