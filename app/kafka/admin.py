"""Connects to the brokers, or says in a sentence why that fails and how to fix it.

Every program connects here first, before it joins a group or sends a record: aiokafka's clients report a failure only
in their log, retry without end, and wait for the first address before they try the second.
"""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from app import errors
from app.kafka.client import client_options

if TYPE_CHECKING:
    from app.settings import KafkaSettings

TIMEOUT_S = 10.0
RETRY_S = 0.25
OTHER_PROTOCOL_S = 1.0
EXPIRED, NOT_YET_VALID, OTHER_NAMES = 10, 9, (62, 64)  # OpenSSL's verify codes


class AnyBroker(AIOKafkaAdminClient):
    """Sends to a broker that can be reached: aiokafka takes any, also one that died and is still in the metadata."""

    async def _send_request(self, request: Any, node_id: int | None = None) -> Any:
        if node_id is None:
            brokers = [broker.nodeId for broker in self._client.cluster.brokers()]
            for broker in random.sample(brokers, len(brokers)):
                if await self._client.ready(broker):
                    node_id = broker
                    break
        return await super()._send_request(request, node_id)


@asynccontextmanager
async def connected(kafka: "KafkaSettings", patient: bool = True) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client for a ``with`` block; NoBroker when a broker cannot be reached or does not answer, another
    TopicError when asking again would not help.

    Connecting and the block have 10 s each. A broker that is not there yet is tried again, if ``patient``; one that
    refuses the user, shows a certificate that is not trusted or speaks another protocol is not.
    """
    timeout_s = TIMEOUT_S
    options: dict[str, Any] = {**client_options(kafka), "request_timeout_ms": int(timeout_s * 1000)}
    admin = AnyBroker(**{**options, "bootstrap_servers": await _reached(kafka, options, timeout_s, patient)})
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            yield admin
    except NodeNotReadyError as error:
        raise errors.NoBroker(f"{where(kafka)}: {await _why_unreachable(admin, options)}") from error
    except KafkaError as error:
        of = errors.NoBroker if error.retriable else errors.TopicError
        raise of(f"{where(kafka)}: {type(error).__name__}: {error}") from error
    except TimeoutError as error:
        raise errors.NoBroker(f"{where(kafka)}: no answer within {timeout_s:g} s") from error
    finally:
        await admin.close()


def where(kafka: "KafkaSettings") -> str:
    """How messages name the brokers."""
    return f"Kafka at {', '.join(kafka.bootstrap_servers)}"


async def _reached(kafka: "KafkaSettings", options: dict[str, Any], timeout_s: float, patient: bool = True) -> str:
    """The first of the addresses that takes a connection and the user."""
    addresses = options["bootstrap_servers"]
    options = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    now = asyncio.get_running_loop().time
    until = now() + timeout_s
    failed: dict[str, Exception] = {}
    while True:
        for address in addresses:
            try:
                async with asyncio.timeout(min(timeout_s / len(addresses), until - now())):
                    await _try(address, options)
                return address
            except TimeoutError as error:  # a last try cut short says less than the one before it
                failed.setdefault(address, error)
            except (OSError, KafkaError, WrongProtocol) as error:
                failed[address] = error
        final = any(map(_final, failed.values()))
        if final or not patient or now() + RETRY_S > until:
            why = "; ".join(f"{address}: {_describe(error)}" for address, error in failed.items())
            remedies = "; ".join(dict.fromkeys(_remedy(error, kafka) for error in failed.values()))
            of = errors.TopicError if final else errors.NoBroker
            raise of(f"{where(kafka)}: no broker could be reached: {why}. {remedies}") from None
        await asyncio.sleep(RETRY_S)


async def _why_unreachable(admin: AIOKafkaAdminClient, options: dict[str, Any]) -> str:
    """Why brokers that were reached at one address cannot be reached at the address that they advertise."""
    options = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    unreachable = []
    for broker in admin._client.cluster.brokers():
        try:
            async with asyncio.timeout(OTHER_PROTOCOL_S):
                await _try(f"{broker.host}:{broker.port}", options)
        except (OSError, KafkaError, TimeoutError, WrongProtocol) as error:
            unreachable.append(f"{broker.host}:{broker.port} ({_describe(error)})")
    if not unreachable:
        return "a broker was not ready; it is now: try again"
    return (
        f"the brokers say they are at {', '.join(unreachable)}, which cannot be reached from here: "
        "advertised.listeners of the brokers must name addresses that can"
    )


class WrongProtocol(Exception):
    """The broker answers, but expects another security protocol than the settings name. The message says which."""


async def _try(address: str, options: dict[str, Any]) -> None:
    """Connect, log in, ask one question. Raises OSError, KafkaError or WrongProtocol."""
    [(host, port, _)] = collect_hosts([address])
    protocol = options["security_protocol"]
    try:
        connection = await create_conn(host, port, **options)
    except (KafkaConnectionError, OSError) as error:
        if isinstance(error, ConnectionRefusedError | ssl.SSLCertVerificationError | TimeoutError):
            raise
        tls = "SSL" in protocol
        if not await (_speaks_plain if tls else _speaks_tls)(host, port):
            raise
        speaks, other = ("no TLS", "PLAINTEXT or SASL_PLAINTEXT") if tls else ("TLS", "SSL or SASL_SSL")
        remedy = f"set kafka.security_protocol to {other}, not {protocol}"
        raise WrongProtocol(f"this listener speaks {speaks}: {remedy}") from error
    try:
        await connection.send(MetadataRequest([]))
    except KafkaConnectionError as error:  # a listener that requires a password lets anybody ask for versions
        if protocol in ("PLAINTEXT", "SSL"):
            raise WrongProtocol(
                "this listener closed the connection at the first request, as one that requires a user name and "
                f"password does: set kafka.security_protocol to SASL_{protocol} then, not {protocol}"
            ) from error
        raise
    finally:
        connection.close()


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only to find out: nothing is sent
    try:
        async with asyncio.timeout(OTHER_PROTOCOL_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _speaks_plain(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(OTHER_PROTOCOL_S):
            (await create_conn(host, port, security_protocol="PLAINTEXT")).close()
    except (OSError, KafkaError, TimeoutError):
        return False
    return True


def _final(error: Exception) -> bool:
    """Whether trying again cannot help: a refused user or certificate, not a broker that is not there yet."""
    return isinstance(error, ssl.SSLError | WrongProtocol) or (isinstance(error, KafkaError) and not error.retriable)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, WrongProtocol) else f"{type(error).__name__} {error}".strip()


def _remedy(error: Exception, kafka: "KafkaSettings") -> str:
    tokens = kafka.sasl_mechanism == "OAUTHBEARER" and kafka.security_protocol.startswith("SASL")
    refused = isinstance(error, AuthenticationFailedError | SaslAuthenticationFailed)
    if tokens and (refused or "sasl_oauth" in str(error)):
        return (
            "Check kafka.sasl_oauth_token_endpoint, kafka.sasl_username, kafka.sasl_password and kafka.sasl_oauth_scope"
        )
    if refused:
        return "Check kafka.sasl_username, kafka.sasl_password and kafka.sasl_mechanism"
    if isinstance(error, UnsupportedSaslMechanismError):
        return "Check kafka.sasl_mechanism"
    if isinstance(error, IllegalSaslStateError):
        return "Check kafka.security_protocol: this listener takes no user name and password"
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in OTHER_NAMES:
            return "kafka.bootstrap_servers must name the broker as its certificate does"
        if error.verify_code in (EXPIRED, NOT_YET_VALID):
            return "Renew the broker's certificate, or set this machine's clock"
        return "kafka.ssl_cafile must hold the authority that signed the broker's certificate"
    if isinstance(error, WrongProtocol):
        return "Check kafka.bootstrap_servers"
    if isinstance(error, KafkaConnectionError) and "SSL" in kafka.security_protocol and "closed" in str(error):
        # The broker refuses a certificate after the handshake, and aiokafka does not report the reason.
        return (
            "A listener that requires a certificate from its clients (ssl.client.auth=required) closes connections "
            "like this: set kafka.ssl_certfile to one that the brokers trust. Else check kafka.bootstrap_servers"
        )
    return (
        "Check kafka.bootstrap_servers and kafka.security_protocol; without a Kafka of your own, start one: "
        "`faust-anomaly kafka start`"
    )
