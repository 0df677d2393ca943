"""How a field of the settings is declared, and the types of text that several fields have."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.parameters import Parameter


def matching(pattern: str) -> AfterValidator:
    def matched(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return AfterValidator(matched)


def _broker(text: str) -> str:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")  # an IPv6 address
    if not re.fullmatch(r"[^\s:/,@]+", host[1:-1].replace(":", "") if bracketed else host):
        raise ValueError
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError
    return text


def _host_or_network(text: str) -> str:
    if re.fullmatch(r"[0-9.]+|.*[:/].*", text):
        ip_network(text, strict=False)  # raises ValueError if it is none
    elif not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", text):
        raise ValueError
    return text


def _network(text: str) -> str:
    ip_network(text, strict=False)
    return text


# "." and ".." are legal characters and no names: a broker keeps a topic in a folder of its name.
KafkaName = Annotated[str, matching(r"(?!\.{1,2}$)[a-zA-Z0-9._-]+")]
Broker = Annotated[str, AfterValidator(_broker)]
FieldName = Annotated[str, matching(r"(?s).{1,512}")]
# Without TLS the client's secret is readable on the way: for tests on one machine.
TokenEndpoint = Annotated[
    str, matching(r"https://[^\s/@]+(/\S*)?|http://(localhost|127\.0\.0\.1)(:[0-9]+)?(/\S*)?|aws-msk://[a-z0-9-]+")
]
WebAddress = Annotated[str, matching(r"https?://[^\s/@?#]+(/[^\s?#]*)?")]
HostName = Annotated[str, matching(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")]
AllowedAddress = Annotated[str, AfterValidator(_host_or_network)]
Network = Annotated[str, AfterValidator(_network)]
ClassPath = Annotated[str, matching(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")]
DetectorName = Annotated[str, matching(r"[A-Za-z0-9_.-]{1,64}")]
PATTERN = "a pattern with * ? [abc]; upper and lower case differ"


def setting(
    default: Any, help: str, min_length: int | None = None, max_length: int | None = None, **declared: Any
) -> Any:
    """A field of a declared parameter: pydantic checks its limits, tables and messages show its words."""
    parameter = Parameter(help, default, **declared)
    words: dict[str, Any] = {"unit": parameter.unit, "allowed": parameter.allowed}
    return Field(
        default,
        description=help,
        gt=parameter.above,
        ge=parameter.at_least,
        le=parameter.at_most,
        min_length=min_length,
        max_length=max_length,
        json_schema_extra=words,
    )


class SettingsSection(BaseModel):
    # Strict: true is not a number, "8000" is not a port. A whole number is accepted as a float.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
