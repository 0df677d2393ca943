"""TokenProvider for SASL/OAUTHBEARER: client credentials at a token endpoint, or signed for Amazon MSK.

aiokafka asks for one at each connection. A token is used until four fifths of its life are over. When a broker ends a
connection because its token is too old, aiokafka connects again, with a new one.
"""

import asyncio
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError

from app import errors

if TYPE_CHECKING:
    from app.settings import KafkaSettings

MSK = "aws-msk"  # scheme of the endpoint: aws-msk://REGION
TIMEOUT_S = 10.0
USED_FOR = 0.8  # of its life
DEFAULT_LIFE_S = 60.0  # life of a token whose answer does not say it
MOST_BYTES = 1 << 20  # of an answer


class TokenProvider(AbstractTokenProvider):
    """Gives a token to each connection; ``fetch`` gets one, with its life in seconds. Used by several event loops."""

    def __init__(self, kafka: "KafkaSettings") -> None:
        self._kafka = kafka
        self._token, self._until = "", 0.0

    async def token(self) -> str:
        """Raises AuthenticationFailedError when it is refused, KafkaConnectionError when it may be there later."""
        now = time.monotonic()
        if now >= self._until:
            self._token, life_s = await self.fetch()
            self._until = now + USED_FOR * life_s
        return self._token

    async def fetch(self) -> tuple[str, float]:
        raise NotImplementedError


class ClientCredentials(TokenProvider):
    """RFC 6749, section 4.4; the client authenticates with HTTP Basic (section 2.3.1)."""

    async def fetch(self) -> tuple[str, float]:
        kafka, endpoint = self._kafka, self._kafka.sasl_oauth_token_endpoint or ""
        form = {"grant_type": "client_credentials"} | (
            {"scope": kafka.sasl_oauth_scope} if kafka.sasl_oauth_scope else {}
        )
        password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else ""
        credentials = aiohttp.encode_basic_auth(kafka.sasl_username or "", password)
        where = f"kafka.sasl_oauth_token_endpoint, {endpoint}"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S), trust_env=True) as session,
                session.post(
                    endpoint,
                    data=form,
                    headers={"Accept": "application/json", "Authorization": credentials},
                    allow_redirects=False,
                ) as answer,
            ):
                status, body = answer.status, await answer.content.read(MOST_BYTES)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise KafkaConnectionError(f"{where}: {type(error).__name__}: {error}") from error
        if status >= 500 or status == 429:
            raise KafkaConnectionError(f"{where}: the answer is HTTP {status}")
        if status != 200:
            raise AuthenticationFailedError(f"{where}: the answer is HTTP {status}: {_start(body)}")
        return _read(where, body)


class SignedForMsk(TokenProvider):
    """By Amazon's library, with the credentials it finds: variables, a profile, the instance's or pod's role."""

    def __init__(self, kafka: "KafkaSettings") -> None:
        super().__init__(kafka)
        try:
            from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
        except ImportError as error:
            raise errors.ConfigurationError(
                "kafka.sasl_oauth_token_endpoint is for Amazon MSK, and its signer is not installed: "
                "`pip install 'faust-anomaly[msk]'`"
            ) from error
        self._signer, self._region = MSKAuthTokenProvider, urlsplit(kafka.sasl_oauth_token_endpoint or "").netloc

    async def fetch(self) -> tuple[str, float]:
        try:
            token, until_ms = await asyncio.to_thread(self._signer.generate_auth_token, self._region)
        except Exception as error:  # its library raises errors of many kinds, such as without credentials
            raise AuthenticationFailedError(f"{MSK}://{self._region}: {type(error).__name__}: {error}") from error
        return token, until_ms / 1000.0 - time.time()


def tokens(kafka: "KafkaSettings") -> TokenProvider:
    """The provider for this kind of endpoint. Raises ConfigurationError when a package is missing."""
    return (SignedForMsk if (kafka.sasl_oauth_token_endpoint or "").startswith(f"{MSK}:") else ClientCredentials)(kafka)


def _read(where: str, body: bytes) -> tuple[str, float]:
    """Token and life of an answer (RFC 6749, section 5.1)."""
    try:
        found: Any = msgspec.json.decode(body)
        token, life_s = found["access_token"], float(found.get("expires_in") or DEFAULT_LIFE_S)
        if not (isinstance(token, str) and token):
            raise ValueError
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise AuthenticationFailedError(
            f"{where}: the answer must be JSON with an access_token and expires_in"
        ) from None
    return token, life_s


def _start(body: bytes) -> str:
    return repr(body[:200].decode("utf-8", "replace"))
