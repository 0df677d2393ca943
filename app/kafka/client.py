"""How every client reaches the brokers: one place for addresses, TLS and SASL.

Consumer and producer of the worker, the topic check, the web view and the tests pass ``client_options`` to aiokafka's
classes, so that a security setting holds for all of them.
"""

import ssl
from typing import TYPE_CHECKING, Any

from app import errors
from app.kafka.oauth import tokens

if TYPE_CHECKING:
    from app.settings import KafkaSettings


def client_options(kafka: "KafkaSettings") -> dict[str, Any]:
    """Keyword arguments that aiokafka's consumer, producer and admin client have in common.

    Holds the password in clear: pass it on, do not log it.

    Raises
    ------
    ConfigurationError
        A certificate or key file cannot be read, or SASL is asked for without user name or password.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": list(kafka.bootstrap_servers),
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = ssl_context(kafka)
    if kafka.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL") and kafka.sasl_mechanism == "OAUTHBEARER":
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_oauth_token_provider"] = tokens(kafka)
    elif kafka.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL"):
        if not kafka.sasl_username or kafka.sasl_password is None:
            raise errors.ConfigurationError(
                f"kafka.security_protocol is {kafka.security_protocol}: kafka.sasl_username and "
                "kafka.sasl_password must be set"
            )
        options["sasl_mechanism"] = kafka.sasl_mechanism or "PLAIN"
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    return options


def ssl_context(kafka: "KafkaSettings") -> ssl.SSLContext:
    """Verify the broker's certificate and host name; show our own certificate when there is one.

    Without ``ssl_cafile`` the system's authorities are trusted. ``ssl_keyfile`` may be left out when ``ssl_certfile``
    has the key too. A key with a pass phrase is refused: a worker must not wait until somebody types it.
    """
    if kafka.ssl_keyfile and not kafka.ssl_certfile:
        raise errors.ConfigurationError("kafka.ssl_keyfile is set without kafka.ssl_certfile: set both")
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=kafka.ssl_cafile)
    except (OSError, ssl.SSLError) as error:
        raise errors.ConfigurationError(
            f"kafka.ssl_cafile: expected a readable PEM file of trusted certificates, "
            f"got {str(kafka.ssl_cafile)!r}: {error}"
        ) from error
    if kafka.ssl_certfile:
        try:
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile, password=_no_pass_phrase)
        except (OSError, ssl.SSLError) as error:
            raise errors.ConfigurationError(
                f"kafka.ssl_certfile, kafka.ssl_keyfile: expected a PEM certificate and its key, got "
                f"{str(kafka.ssl_certfile)!r}, {str(kafka.ssl_keyfile)!r}: {error}"
            ) from error
    return context


def _no_pass_phrase() -> str:
    raise errors.ConfigurationError(
        "kafka.ssl_keyfile has a pass phrase: give a key without one, readable only by the program's user"
    )
