"""What starts, and what does not: nothing is open to others by mistake."""

import pytest

from app.errors import ConfigurationError
from app.settings import Settings, load
from app.web.security.exposure import check, is_loopback

TOKENS, ISSUER = {"tokens_file": "tokens"}, {"oidc_issuer": "https://id.example", "oidc_audience": "us"}
TLS, PROXY, PLAIN = {"tls_certificate_file": "pem"}, {"trusted_proxies": ["10.0.0.1"]}, {"plaintext": True}


def settings(host="0.0.0.0", enabled=True, **api):
    return Settings(dashboard={"host": host, "enabled": enabled}, api=api)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_nothing_is_needed(host):
    check(settings(host))


@pytest.mark.parametrize("who", [TOKENS, ISSUER, TOKENS | ISSUER])
@pytest.mark.parametrize("how", [TLS, PROXY, PLAIN])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "worker-1"])
def test_elsewhere_with_tokens_and_something_that_encrypts(host, who, how):
    check(settings(host, **who, **how))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "worker-1", "localhost.example"])
@pytest.mark.parametrize(
    ("api", "remedy"),
    [
        ({}, "set api.tokens_file (`faust-anomaly token create"),
        (TLS | PROXY | PLAIN, "set api.tokens_file"),
        (TOKENS, "set api.tls_certificate_file and api.tls_key_file, or api.trusted_proxies"),
        (ISSUER, "or api.plaintext to true"),
    ],
)
def test_elsewhere_it_is_refused_without_and_the_remedy_is_named(host, api, remedy):
    with pytest.raises(ConfigurationError) as error:
        check(settings(host, **api))
    assert str(error.value).startswith(f"dashboard.host: {host} can be reached") and remedy in str(error.value)


def test_probes_and_metrics_alone_may_be_served_anywhere():
    check(settings(enabled=False))


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.2", True), ("::1", True), ("localhost", True), ("::", False), ("10.0.0.1", False)]
)
def test_loopback_is_told_from_the_rest(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"OIDC_ISSUER": "https://id.example"}, "api.oidc_audience: must be set when api.oidc_issuer is"),
        ({"OIDC_AUDIENCE": "us"}, "api.oidc_issuer: must be set when api.oidc_audience is"),
        ({"TLS_KEY_FILE": "key"}, "api.tls_certificate_file: must be set when api.tls_key_file is"),
        ({"OIDC_ISSUER": "http://id.example", "OIDC_AUDIENCE": "us"}, "api.oidc_issuer (ANOMALY_API__OIDC_ISSUER)"),
        ({"TRUSTED_PROXIES": "nginx"}, "api.trusted_proxies"),
        ({"ROOT_PATH": "/../x"}, "api.root_path"),
        ({"CORS_ORIGINS": "*"}, "api.cors_origins"),
        ({"CORS_ORIGINS": "https://a.example/"}, "api.cors_origins"),
    ],
)
def test_settings_that_do_not_go_together_are_named(given, what):
    with pytest.raises(ConfigurationError) as error:
        load(None, {f"ANOMALY_API__{name}": value for name, value in given.items()})
    assert what in str(error.value)
