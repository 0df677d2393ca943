"""A server of the view and the API with tokens, without Kafka."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from app.metrics import Metrics
from app.settings import Settings
from app.web.security import tokens
from app.web.server import Server
from app.web.status.probes import Health
from app.web.topics.recent_results import RecentResults

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


class Keys:
    """A file of tokens: one of each role, an expired one and a revoked one. ``keys["read"]`` is the token."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "tokens"
        self._made = {name: tokens.new_token() for name in ("read", "write", "admin", "expired", "revoked")}
        for name, token in self._made.items():
            role = name if name in ("read", "write") else "admin"
            expires = 1_000_000_000.0 if name == "expired" else None
            tokens.add(self.path, tokens.StoredToken(name, frozenset({role}), tokens.digest(token), expires))
        tokens.remove(self.path, "revoked")

    def __getitem__(self, name: str) -> str:
        return self._made[name]

    def bearer(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self[name]}"}


def make_server(dashboard: dict[str, Any] | None = None, **api: Any) -> Server:
    reader: Any = SimpleNamespace(state="reading", produced_per_s=4.0, skipped=0)
    settings = Settings(dashboard=dashboard or {}, api=api)
    return Server(settings, Metrics(), lambda: Health(True, True), RecentResults(), reader, reader)
