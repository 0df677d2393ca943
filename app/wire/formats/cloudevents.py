"""CloudEvents in structured mode: an envelope around data that is a JSON object.

    {"specversion": "1.0", "id": "17", "type": "com.example.reading", "source": "/plants/3", "subject": "pump-7",
     "time": "2023-10-27T09:37:40Z", "datacontenttype": "application/json", "data": {"temperature": 45.2, "rpm": 900}}

The source is that of the event with its subject: /plants/3/pump-7. All numbers of the data are measured together: one
that is called value alone is a plain value, others are a vector. Events without a number are skipped. Attributes of
events in binary mode are in the record's headers, which are not read: their values are records without an envelope.
"""

INPUT = {
    "format": "cloudevents",
    "source_field": "{source}/{subject|}",
    "timestamp_field": "time",
    "value_fields": ["data.**"],
}
