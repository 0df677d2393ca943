"""``faust-anomaly probe``: asks the worker or alerter on this machine whether it is live, or ready.

For health checks in containers and scripts, without curl and without the host name of a certificate. It runs every few
seconds, so it imports little: no Faust, aiohttp or numba, and only the settings of the port.
"""

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from app.settings import ApiSettings, DashboardSettings

TIMEOUT_S = 5.0
MOST_BYTES = 1 << 20  # of an answer
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@click.command()
@click.argument("what", type=click.Choice(["live", "ready"]))
@click.option("--config", metavar="PATH", help="YAML file of settings.  [default: $ANOMALY_CONFIG]")
def probe(what: str, config: str | None) -> None:
    """Ask the worker or alerter on this machine: is it live, is it ready?

    It connects to dashboard.host and dashboard.port of the settings. Exit code 0: yes; 1: no, or it
    could not be asked, with the reason on stderr.
    """
    from app.errors import ConfigurationError  # not at the top: --help does without
    from app.settings.listening import listening

    try:
        found = listening(config)
        why = problem(what, found.dashboard, found.api)
    except ConfigurationError as error:
        why = str(error)
    if why:
        click.echo(f"faust-anomaly: not {what}: {why}", err=True)
        sys.exit(1)


def problem(what: str, dashboard: "DashboardSettings", api: "ApiSettings") -> str:
    """Why it is not ``what``, live or ready; "" when it is."""
    import http.client
    import ssl

    if dashboard.port == 0:
        return "dashboard.port is 0, which is any free port: give a port, so that it can be found"
    host, port, path = LOOPBACK.get(dashboard.host, dashboard.host), dashboard.port, f"/{what}z"
    address = f"{f'[{host}]' if ':' in host else host}:{port}"
    connection: http.client.HTTPConnection
    if api.tls_certificate_file:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # The certificate is for the name that others know; nothing secret is sent, and this machine answers.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES)
    except ConnectionRefusedError:
        return f"nothing listens on {address} (dashboard.host, dashboard.port)"
    except TimeoutError:
        return f"no answer from {address} within {TIMEOUT_S:g} s"
    except (OSError, http.client.HTTPException) as error:
        return f"{address}: {str(error) or type(error).__name__}"
    finally:
        connection.close()
    if answer.status == 200:
        return ""
    if answer.status == 401:
        return f"{path} asks for a token: api.probes_open is false; set it to true, or have it asked with a token"
    return f"{path} answers {answer.status}{_reason(body)}"


def _reason(body: bytes) -> str:
    """What the answer says of it, where it may."""
    try:
        why = json.loads(body)["details"]["not_ready"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f": {why}"
