"""Telegraf's outputs.kafka with data_format = "json": one metric in a record, or a batch of them.

    {"fields": {"usage_idle": 98.2, "usage_user": 1.1}, "name": "cpu", "tags": {"cpu": "cpu0", "host": "web-1"},
     "timestamp": 1698401060}
    {"metrics": [{"fields": {..}, "name": "cpu", "tags": {..}, "timestamp": 1698401060}, ..]}

The source is the measurement with all its tags: cpu,cpu=cpu0,host=web-1. Each field that is a number is a series of it.
Fields of text or true are passed over; a metric that has no others is skipped.
"""

INPUT = {
    "format": "telegraf",
    "points_field": "metrics|",
    "source_field": "{name},{tags.*|}",
    "timestamp_field": "timestamp",
    "value_fields": ["fields.*"],
    "values_apart": True,
}
