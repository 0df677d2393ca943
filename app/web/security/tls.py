"""TLS by certificate files, which are reread when they change.

Each new connection takes the newest pair of certificate and key that fits together: the listening context hands the
connection over to that of the pair. So a renewal needs no restart, and a pair that does not fit changes nothing.
"""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.errors import ConfigurationError

log = logging.getLogger(__name__)


class Certificate:
    """``key`` None: it is in the file of the certificate. ``taken`` is called with each new certificate in use.

    Raises
    ------
    ConfigurationError
        The files cannot be used at the start.
    """

    def __init__(
        self, certificate: Path, key: Path | None = None, taken: Callable[[Path], None] = lambda path: None
    ) -> None:
        self._certificate, self._key, self._taken = certificate, key, taken
        self._seen = self._stats()
        try:
            self._current = _context(certificate, key)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"api.tls_certificate_file: {self._problem(error)}") from None
        self.context = _context(certificate, key)  # to listen with
        self.context.sni_callback = self._hand_over
        taken(certificate)

    def look(self) -> None:
        """Reread the files if they changed; to be called every second or so."""
        seen = self._stats()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._current = _context(self._certificate, self._key)
        except (OSError, ValueError) as error:
            log.error("api.tls_certificate_file: %s; the one before goes on", self._problem(error))
        else:
            log.info("api.tls_certificate_file: %s was reread", self._certificate)
            self._taken(self._certificate)

    def _hand_over(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current  # called without a name too

    def _stats(self) -> list[tuple[int, ...] | None]:
        return [_stat(path) for path in (self._certificate, self._key) if path]

    def _problem(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLError):
            what = "the key does not fit the certificate" if error.reason == "KEY_VALUES_MISMATCH" else error.reason
            expected = "expected a certificate and its key in PEM, without a password"
            return f"{self._certificate}, {self._key or self._certificate}: {expected}: {what or 'not PEM'}"
        if isinstance(error, OSError):
            missing = [str(path) for path in (self._certificate, self._key) if path and not _readable(path)]
            return f"{error.filename or ', '.join(missing) or self._certificate}: {error.strerror}"
        return f"{self._key or self._certificate}: {error}"


def _context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2; forward secret, all of 1.3 are
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key, password=_no_password)
    return context


def _no_password() -> str:
    raise ValueError("expected a key without a password")  # OpenSSL would ask at the terminal


def _stat(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False
