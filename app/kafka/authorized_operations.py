"""Asks the brokers which operations a user is allowed.

From Kafka 2.3 on they report what the user of a connection may do with a topic (Metadata, version 8) and with a group
(DescribeGroups, version 3); aiokafka supports neither version. Without asking, a worker without Read on its group would
wait for ever without an error, and a worker without Write on the topic of dead letters would fail at the first bad
record, weeks later.
"""

import asyncio
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.types import Array, Boolean, Bytes, Int16, Int32, Schema, String

from app.kafka.permissions import AuthorizedOperations, Right, missing

NAMES = {3: "Read", 4: "Write", 5: "Create", 8: "Describe", 10: "DescribeConfigs"}  # bits of the answer
KINDS = ("topic", "group")
UNKNOWN = -(2**31)
RETRIED = (14, 15, 16)  # error codes of a group's coordinator: loading, being chosen, another broker
TOPIC_DENIED, GROUP_DENIED = 29, 30
RETRY_S = 0.1
TEXT = String("utf-8")


async def lacking(admin: AIOKafkaAdminClient, needed: Sequence[Right]) -> list[Right]:
    """Those of the needed rights that the user of this connection does not have, as far as the brokers say."""
    if not needed:
        return []
    names = {kind: list(dict.fromkeys(right.name for right in needed if right.kind == kind)) for kind in KINDS}
    return missing(needed, await authorized_operations(admin, *names.values()))


async def authorized_operations(
    admin: AIOKafkaAdminClient, topics: Sequence[str], groups: Sequence[str]
) -> AuthorizedOperations:
    """What the user of this connection may do with those of the topics that exist, and with the groups.

    What a broker does not report is left out: those before Kafka 2.3 report nothing.
    """
    try:
        answer = (await admin._send_request(DescribeTopicOperations(topics))).to_object()
        masks = {
            ("topic", topic["name"]): 0 if topic["error_code"] == TOPIC_DENIED else topic["operations"]
            for topic in answer["topics"]
        }
        for group_id in groups:
            masks["group", group_id] = await _of_group(admin, group_id)
    except NotImplementedError:  # aiokafka raises it for a broker that is too old
        return {}
    return {
        key: frozenset(name for bit, name in NAMES.items() if mask >> bit & 1)
        for key, mask in masks.items()
        if mask != UNKNOWN
    }


async def _of_group(admin: AIOKafkaAdminClient, group_id: str) -> int:
    while True:
        found = await admin._send_request(FindCoordinatorRequest(group_id, 0))
        code = found.error_code
        if code == 0:
            answer = await admin._send_request_to_node(found.coordinator_id, DescribeGroupOperations(group_id))
            [group] = answer.to_object()["groups"]
            code = group["error_code"]
            if code == 0:
                return group["operations"]
        if code == GROUP_DENIED:
            return 0
        if code not in RETRIED:
            raise for_code(code)(f"rights on the group {group_id}")
        await asyncio.sleep(RETRY_S)


class MetadataResponse_v8(Response):
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", TEXT), ("port", Int32), ("rack", TEXT))),
        ("cluster_id", TEXT),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("name", TEXT),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
        ("cluster_operations", Int32),
    )


class MetadataRequest_v8(RequestStruct):
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = MetadataResponse_v8
    SCHEMA = Schema(
        ("topics", Array(TEXT)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class DescribeTopicOperations(Request[MetadataRequest_v8]):
    """What the user may do with these topics; creates none."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[MetadataRequest_v8]) -> MetadataRequest_v8:
        return request_struct_class(self._topics, False, False, True)


class DescribeGroupsResponse_v3(Response):
    API_KEY = 15
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                ("group", TEXT),
                ("state", TEXT),
                ("protocol_type", TEXT),
                ("protocol", TEXT),
                (
                    "members",
                    Array(
                        ("member_id", TEXT),
                        ("client_id", TEXT),
                        ("client_host", TEXT),
                        ("metadata", Bytes),
                        ("assignment", Bytes),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
    )


class DescribeGroupsRequest_v3(RequestStruct):
    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3
    SCHEMA = Schema(("groups", Array(TEXT)), ("include_authorized_operations", Boolean))


class DescribeGroupOperations(Request[DescribeGroupsRequest_v3]):
    """What the user may do with this group."""

    API_KEY = 15

    def __init__(self, group_id: str) -> None:
        self._group_id = group_id

    def build(self, request_struct_class: type[DescribeGroupsRequest_v3]) -> DescribeGroupsRequest_v3:
        return request_struct_class([self._group_id], True)
