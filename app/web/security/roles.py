"""Who asks, and what that one may do."""

from collections.abc import Iterable
from dataclasses import dataclass

# Of tokens. Admin includes the other two.
READ, WRITE, ADMIN = "read", "write", "admin"
ROLES = (READ, WRITE, ADMIN)
# Of routes only.
OPEN = "open"  # for everybody: the login, what the login page needs
PROBE = "probe"  # for everybody, unless api.probes_open is false
METRICS = "metrics"  # for everybody, unless api.metrics_open is false


@dataclass(frozen=True, slots=True)
class Caller:
    """``name``: of the token, or of the person whom the OIDC issuer names; "" while nobody is asked who he is."""

    name: str
    roles: frozenset[str]

    def may(self, roles: Iterable[str]) -> bool:
        """Whether this one may use a route for these roles, of which one is enough."""
        return any(role in self.roles or (ADMIN in self.roles and role in ROLES) for role in roles)


EVERYBODY = Caller("", frozenset(ROLES))  # where no token is asked for


class Unreachable(Exception):
    """Nothing can be said of a token now: its issuer's keys are not known, and it does not answer."""

    RETRY_S = 10.0  # after which it is asked again
