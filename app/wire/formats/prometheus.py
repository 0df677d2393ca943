"""prometheus-kafka-adapter, which writes what Prometheus sends by remote write: one sample in a record.

    {"timestamp": "2023-10-27T09:37:40Z", "value": "0.31", "name": "node_load1",
     "labels": {"__name__": "node_load1", "instance": "web-1:9100", "job": "node"}}

The source is the name with all labels: node_load1,instance=web-1:9100,job=node. NaN, which is also how Prometheus says
that a series has ended, is skipped; +Inf and -Inf are dead letters.
"""

INPUT = {
    "format": "prometheus",
    "source_field": "{name},{labels.*|}",
    "timestamp_field": "timestamp",
    "value_fields": ["value"],
    "numbers_as_text": True,
}
