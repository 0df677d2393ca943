"""Units of systemd, as far as ours need it: sections, settings, specifiers, variables, command lines."""

import configparser
import shlex
from pathlib import Path

from tests.deploy.named import DEPLOY

SYSTEMD = DEPLOY / "systemd"
WORKER, ALERTER = "faust-anomaly-worker@.service", "faust-anomaly-alerter.service"
PROGRAM = "/opt/faust-anomaly/bin/faust-anomaly"
ETC = "/etc/faust-anomaly"


class Unit:
    """``values`` gives all that a setting was given, in order; specifiers are replaced.

    ``instance`` is what stands behind the @; ``credentials`` the folder of LoadCredential.
    """

    def __init__(self, text: str, instance: str = "", credentials: str = "/run/credentials/unit") -> None:
        self._given: dict[tuple[str, str], list[str]] = {}
        known = {"%i": instance, "%H": "host-1", "%S": "/var/lib", "%C": "/var/cache", "%d": credentials}
        section = ""
        for line in text.splitlines():
            if not line or line.startswith(("#", ";")):
                continue
            if line.startswith("["):
                section = line.strip("[]")
                continue
            name, equals, value = line.partition("=")
            if not equals or not section:
                raise configparser.ParsingError(line)
            for specifier, meaning in known.items():
                value = value.replace(specifier, meaning)
            self._given.setdefault((section, name), []).append(value)

    @classmethod
    def read(cls, name: str, *also: str, instance: str = "8001", credentials: str = "/run/credentials/unit") -> "Unit":
        """The unit of this name with files that are put beside it."""
        text = "\n".join((SYSTEMD / one).read_text("utf-8") for one in (name, *also))
        return cls(text, instance, credentials)

    def values(self, name: str, section: str = "Service") -> list[str]:
        return self._given.get((section, name), [])

    def value(self, name: str, section: str = "Service") -> str:
        """The last one."""
        return self.values(name, section)[-1]

    def seconds(self, name: str) -> float:
        return float(self.value(name).removesuffix("s"))

    def names(self, section: str = "Service") -> set[str]:
        return {name for of, name in self._given if of == section}

    def environment(self) -> dict[str, str]:
        """Variables of Environment=, and of the example of EnvironmentFile=, which beats them."""
        lines = [word for value in self.values("Environment") for word in shlex.split(value)]
        for value in self.values("EnvironmentFile"):
            path = Path(value.removeprefix("-"))
            assert str(path.parent) == ETC, value
            lines += [
                line for line in (SYSTEMD / path.name).read_text("utf-8").splitlines() if line and line[0] not in "#;"
            ]
        return dict(line.split("=", 1) for line in lines)

    def commands(self) -> list[list[str]]:
        """The words of ExecStartPre= and ExecStart=."""
        return [shlex.split(value) for name in ("ExecStartPre", "ExecStart") for value in self.values(name)]
