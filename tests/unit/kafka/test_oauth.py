"""Tokens: got once for their life, and what is said when there is none."""

import asyncio
import sys
import time
from types import SimpleNamespace

import pytest
from aiokafka.conn import OAuthAuthenticator
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError
from support.token_endpoint import SECRET, TokenEndpoint

from app.errors import ConfigurationError
from app.kafka import oauth, patches
from app.kafka.client import client_options
from app.settings import KafkaSettings


def kafka(url, **more):
    given = {"sasl_username": "pump", "sasl_password": SECRET, "sasl_oauth_token_endpoint": url, **more}
    return KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_mechanism="OAUTHBEARER", **given)


@pytest.fixture
def endpoint():
    with TokenEndpoint() as one:
        yield one


def test_a_token_is_got_by_client_credentials_and_used_for_its_life(endpoint, monkeypatch):
    tokens = client_options(kafka(endpoint.url, sasl_oauth_scope="kafka write"))["sasl_oauth_token_provider"]
    first = asyncio.run(tokens.token())
    assert first.count(".") == 2 and asyncio.run(tokens.token()) == first
    assert endpoint.asked == [("pump", {"grant_type": ["client_credentials"], "scope": ["kafka write"]})]
    began = time.monotonic()
    monkeypatch.setattr(oauth.time, "monotonic", lambda: began + 0.79 * 3600)
    assert asyncio.run(tokens.token()) == first
    monkeypatch.setattr(oauth.time, "monotonic", lambda: began + 0.81 * 3600)
    assert asyncio.run(tokens.token()) and len(endpoint.asked) == 2


REFUSED = {
    401: (b'{"error":"invalid_client"}', AuthenticationFailedError, "HTTP 401: .*invalid_client"),
    503: (b"", KafkaConnectionError, "HTTP 503"),
    429: (b"", KafkaConnectionError, "HTTP 429"),
    302: (b"", AuthenticationFailedError, "HTTP 302"),
}


@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_names_the_setting_and_is_tried_again_where_that_may_help(endpoint, status):
    body, kind, said = REFUSED[status]
    endpoint.answer = status, body
    with pytest.raises(kind, match=f"kafka.sasl_oauth_token_endpoint, {endpoint.url}: the answer is {said}"):
        asyncio.run(oauth.tokens(kafka(endpoint.url)).token())


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"{}", b'{"access_token":7}', b'{"access_token":"t","expires_in":"x"}']
)
def test_an_answer_that_is_none_is_refused(endpoint, body):
    endpoint.answer = 200, body
    with pytest.raises(AuthenticationFailedError, match="must be JSON with an access_token and expires_in"):
        asyncio.run(oauth.tokens(kafka(endpoint.url)).token())


def test_a_wrong_secret_is_not_repeated_in_what_is_said(endpoint):
    with pytest.raises(AuthenticationFailedError) as refused:
        asyncio.run(oauth.tokens(kafka(endpoint.url, sasl_password="hunter2")).token())
    assert "401" in str(refused.value) and "hunter2" not in str(refused.value)


def test_an_endpoint_that_is_not_there_may_come(endpoint):
    with pytest.raises(KafkaConnectionError, match=r"127\.0\.0\.1:9"):
        asyncio.run(oauth.tokens(kafka("http://127.0.0.1:9/token")).token())


def test_msk_is_signed_by_amazons_library(monkeypatch):
    signed = []

    def generate_auth_token(region):
        signed.append(region)
        return f"signed-{len(signed)}", int((time.time() + 900.0) * 1000)

    provider = SimpleNamespace(generate_auth_token=generate_auth_token)
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", SimpleNamespace(MSKAuthTokenProvider=provider))
    tokens = oauth.tokens(kafka("aws-msk://eu-central-1"))
    assert [asyncio.run(tokens.token()) for _ in range(3)] == ["signed-1"] * 3 and signed == ["eu-central-1"]
    monkeypatch.setattr(provider, "generate_auth_token", lambda region: 1 / 0)
    with pytest.raises(AuthenticationFailedError, match="aws-msk://eu-central-1: ZeroDivisionError"):
        asyncio.run(oauth.tokens(kafka("aws-msk://eu-central-1")).token())


def test_without_that_library_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'faust-anomaly\[msk\]'"):
        oauth.tokens(kafka("aws-msk://eu-central-1"))


def test_a_token_that_the_broker_refuses_is_no_login(monkeypatch):
    """aiokafka's own takes the broker's reason for a success."""
    monkeypatch.setattr(OAuthAuthenticator, "step", OAuthAuthenticator.step)

    async def login():
        async def token():
            return "t"

        authenticator = OAuthAuthenticator(sasl_oauth_token_provider=SimpleNamespace(token=token))
        sent = await authenticator.step(None)
        return sent, await authenticator.step(b""), await authenticator.step(b'{"status":"invalid_token"}')

    monkeypatch.setattr(OAuthAuthenticator, "step", patches._oauth_step)
    assert asyncio.run(login()) == ((b"n,,\x01auth=Bearer t\x01\x01", True), None, None)
    patches.report_refused_tokens()
    with pytest.raises(AuthenticationFailedError, match=r'the token was refused: \{"status":"invalid_token"\}'):
        asyncio.run(login())
