"""A token endpoint on this machine, for client credentials; its tokens have no signature."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs

SECRET = "s3cret"


class TokenEndpoint:
    """As a context it serves ``url``. ``answer`` is what it says, or None for a token of the client that asks."""

    def __init__(self, life_s: float = 3600.0) -> None:
        self.life_s = life_s  # of tokens; those of less than 0 are too old
        self.answer: tuple[int, bytes] | None = None
        self.asked: list[tuple[str, dict[str, list[str]]]] = []  # client, form
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status, body = outer._answered(self)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answered(self, request: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        form = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
        who, _, secret = (
            base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode().partition(":")
        )
        self.asked.append((who, form))
        if self.answer:
            return self.answer
        if secret != SECRET or form["grant_type"] != ["client_credentials"]:
            return 401, b'{"error":"invalid_client"}'
        said = {"access_token": token(who, self.life_s), "token_type": "Bearer", "expires_in": max(self.life_s, 1.0)}
        return 200, json.dumps(said).encode()


def token(user: str, life_s: float) -> str:
    now = time.time()
    claims = {"sub": user, "iat": min(now, now + life_s - 10.0), "exp": now + life_s}
    parts = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, claims)
    )
    return ".".join(parts) + "."
