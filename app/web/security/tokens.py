"""Tokens, and the file of those that are valid.

A token is 256 random bits behind a prefix by which scanners of secrets find it. The file has a line for each:

    name roles sha256-hex [expires]

    grafana read 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    press-line read,write 60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752 2027-01-31T00:00:00Z

``#`` begins a comment. Only the hash is kept: who reads the file cannot use what it says. A plain SHA-256 is enough, as
nobody guesses 256 bits; a slow hash is for passwords.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from app.errors import ConfigurationError
from app.web.security.roles import ROLES, Caller

PREFIX = "fa_"
LONGEST = 8_192  # characters of what is looked at at all: of a JWT
MOST_TOKENS = 1_000  # each request is compared with all of them, 0.2 us each
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")

log = logging.getLogger(__name__)


def new_token() -> str:
    """A new one, of 46 characters."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """Its SHA-256 in hex; any text has one."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class StoredToken:
    """One line. ``expires``: epoch seconds, or None."""

    name: str
    roles: frozenset[str]
    digest: str
    expires: float | None = None

    def line(self) -> str:
        """Its line in the file, without the line end."""
        roles = ",".join(role for role in ROLES if role in self.roles)
        return " ".join([self.name, roles, self.digest, *([iso(self.expires)] if self.expires is not None else [])])


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_line(line: str) -> StoredToken | None:
    """The entry of a line, None of an empty one or a comment.

    Raises
    ------
    ValueError
        Says what was expected and what was found, without the hash.
    """
    words = line.partition("#")[0].split()
    if not words:
        return None
    if not 3 <= len(words) <= 4:
        raise ValueError(f"expected name, roles, SHA-256 and maybe when it expires, got {len(words)} words")
    name, roles, found = words[:3]
    if not NAME.fullmatch(name):
        raise ValueError(f"name: expected 1 to 64 of a-z A-Z 0-9 . _ @ -, got {name!r}")
    given = frozenset(roles.split(","))
    if not given <= set(ROLES):
        raise ValueError(f"roles: expected some of {','.join(ROLES)}, got {roles!r}")
    if found.startswith(PREFIX):
        raise ValueError("expected the SHA-256 of the token, got a token: make a new one, this one has been seen")
    if not re.fullmatch(r"[0-9a-f]{64}", found):
        raise ValueError(f"SHA-256: expected 64 of 0-9 a-f, got {len(found)} characters")
    return StoredToken(name, given, found, _expiry(words[3]) if len(words) == 4 else None)


def _expiry(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(f"expires: expected a time with its zone, as 2027-01-31T00:00:00Z, got {text!r}")
    return at.timestamp()


def parse(text: str) -> list[StoredToken]:
    """All entries of a file.

    Raises
    ------
    ValueError
        Begins with the number of the line.
    """
    entries: dict[str, StoredToken] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = parse_line(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if entry is None:
            continue
        if entry.name in entries:
            raise ValueError(f"line {number}: a second token is called {entry.name}; give each its own name")
        entries[entry.name] = entry
    if len(entries) > MOST_TOKENS:
        raise ValueError(f"line {number}: expected at most {MOST_TOKENS} tokens, got {len(entries)}")
    return list(entries.values())


class TokensFile:
    """Those of one file.

    ``look`` rereads it when it has changed, and is to be called every second or so. What cannot be read then is logged,
    and the tokens stay as they were: an editor's half-written file must not lock everybody out. To refuse all, empty
    the file.

    Raises
    ------
    ConfigurationError
        The file cannot be read at the start, or a line of it; names setting, file and line.
    """

    def __init__(self, path: Path, setting: str = "api.tokens_file") -> None:
        self._path, self._setting = path, setting
        self._entries: tuple[StoredToken, ...] = ()
        self._seen: object = None
        try:
            self._read()
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{setting}: {self._problem(error)}") from None
        if not self._entries:
            log.warning("%s: %s has no token: nobody is let in; faust-anomaly token create makes one", setting, path)

    def look(self) -> None:
        """Reread the file if it changed."""
        try:
            self._read()
        except (OSError, ValueError) as error:
            log.error("%s: %s; the tokens stay as they were", self._setting, self._problem(error))

    def find(self, token: str, now: float | None = None) -> Caller | None:
        """Whose it is; None of one that is unknown or expired. Takes as long for any text."""
        if len(token) > LONGEST:
            return None
        asked = digest(token)
        found: StoredToken | None = None
        for entry in self._entries:  # all of them, so that the time says nothing of which
            if hmac.compare_digest(entry.digest, asked):
                found = entry
        if found is None or (found.expires is not None and found.expires <= (time.time() if now is None else now)):
            return None
        return Caller(found.name, found.roles)

    def _read(self) -> None:
        try:
            known = self._path.stat()
        except OSError as error:
            if self._seen == error.errno:
                return
            self._seen = error.errno
            raise
        seen = (known.st_mtime_ns, known.st_ctime_ns, known.st_size, known.st_ino)
        if seen == self._seen:
            return
        self._seen = seen  # also of one that cannot be read: it is said once
        if known.st_mode & stat.S_IWOTH:
            raise ValueError("everybody may write there; chmod o-w")
        self._entries = tuple(parse(self._path.read_text("utf-8")))

    def _problem(self, error: Exception) -> str:
        if isinstance(error, UnicodeDecodeError):
            return f"{self._path}: expected UTF-8 text, {error.reason} at byte {error.start}"
        return f"{self._path}: {error.strerror if isinstance(error, OSError) else error}"


def add(path: Path, entry: StoredToken) -> None:
    """Append its line; a new file is for its owner alone. Raises ConfigurationError of a name that is there."""
    try:
        before = path.read_text("utf-8")
    except FileNotFoundError:
        before = ""
    if entry.name in {one.name for one in _parsed(path, before)}:
        raise ConfigurationError(f"{path}: there is a token {entry.name} already; revoke it, or choose another name")
    start = "\n" if before and not before.endswith("\n") else ""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{start}{entry.line()}\n")  # in one go: two who append do not mix
        file.flush()
        os.fsync(file.fileno())


def remove(path: Path, name: str) -> bool:
    """Take its line out; the file is replaced whole, with owner and mode as they were. False if there is none."""
    path = path.resolve()
    before = path.read_text("utf-8")
    _parsed(path, before)
    kept = [
        line for line in before.splitlines(keepends=True) if (entry := parse_line(line)) is None or entry.name != name
    ]
    if len(kept) == len(before.splitlines()):
        return False
    known = path.stat()
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(kept)
            file.flush()
            os.fsync(file.fileno())
        if (new.stat().st_uid, new.stat().st_gid) != (known.st_uid, known.st_gid):
            os.chown(new, known.st_uid, known.st_gid)
        os.chmod(new, stat.S_IMODE(known.st_mode))
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return True


def entries(path: Path) -> list[StoredToken]:
    """All of a file. Raises ConfigurationError, or OSError."""
    return _parsed(path, path.read_text("utf-8"))


def _parsed(path: Path, text: str) -> list[StoredToken]:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from None
