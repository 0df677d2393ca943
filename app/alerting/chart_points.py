"""The last points of a series, out of the topic of results, for a chart in a message."""

from __future__ import annotations

from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2

from app.kafka.client import client_options
from app.kafka.log_reader import LogReader, stopped
from app.settings import KafkaSettings
from app.wire.episodes import Event

READ_RECORDS = 20_000  # results of the partition, of all its sources: a fifth of a second of CPU
POINTS = 120
WAIT_S = 5.0


async def last_points(kafka: KafkaSettings, event: Event) -> list[dict[str, Any]]:
    """Results of its series up to the event, the oldest first; few or none if the partition has many other ones.

    Returns none if the broker does not answer in time: a message does not wait for its chart.
    """
    reader = LogReader(
        group_id=None, enable_auto_commit=False, isolation_level="read_committed", request_timeout_ms=5000,
        **client_options(kafka),
    )  # fmt: skip
    try:
        await reader.start()
        return await _last_points(reader, kafka, event)
    except (KafkaError, OSError, TimeoutError):
        return []
    finally:
        await stopped(reader)


async def _last_points(reader: LogReader, kafka: KafkaSettings, event: Event) -> list[dict[str, Any]]:
    reader.assign([TopicPartition(kafka.output_topic, 0)])  # has the client fetch what it needs to know
    if not (partitions := reader.partitions_for_topic(kafka.output_topic)):
        await reader._client.force_metadata_update()
        partitions = reader.partitions_for_topic(kafka.output_topic) or {0}
    if kafka.rekeys:  # by source; else that of its point
        number = (murmur2(event.source.encode()) & 0x7FFFFFFF) % len(partitions)
    else:
        number = int(event.episode.rsplit(":", 3)[1])
    tp = TopicPartition(kafka.output_topic, number)
    [begin], [end] = (await reader.beginning_offsets([tp])).values(), (await reader.last_stable_offsets([tp])).values()
    reader.assign([tp])
    reader.seek(tp, max(begin, end - READ_RECORDS))
    found: list[dict[str, Any]] = []
    name = msgspec.json.encode(event.source)
    while await reader.position(tp) < end:
        fetched = await reader.getmany(tp, timeout_ms=int(WAIT_S * 1000), max_records=5000)
        if not fetched:
            break
        for record in fetched[tp]:
            if record.value and name in record.value:
                result = msgspec.json.decode(record.value)
                if result.get("source") == event.source and result.get("metric", "") == event.metric:
                    found.append(result)
    return found[-POINTS:]
