"""A local S3 server, and a proxy before it that answers slowly, with errors, or not at all, as a test asks."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ERRORS = {500: "InternalError", 503: "SlowDown", 403: "AccessDenied"}
SECONDS = {"slow": 0.1, "stall": 30.0}
HOPS = ("connection", "transfer-encoding", "keep-alive", "expect")


class Fault:
    """What happens to the requests that match: `kind` is slow, stall, drop, cut, or the status of an error.

    Parameters
    ----------
    kind : str or int
    times : int
        How often; then requests pass again.
    method, path : str
        The requests it is for: their method (any when empty), and a pattern found in their address.
    """

    def __init__(self, kind: str | int, times: int = 1_000_000, method: str = "", path: str = "") -> None:
        self.kind, self.left, self.method, self.path = kind, times, method, path
        self.hits = 0
        self._lock = threading.Lock()

    def meets(self, method: str, path: str) -> bool:
        """Whether this request is to fail, which is counted."""
        if (self.method and method != self.method) or not re.search(self.path, path):
            return False
        with self._lock:
            if self.left <= 0:
                return False
            self.left -= 1
            self.hits += 1
            return True


class Handler(BaseHTTPRequestHandler):
    """Passes each request on, unless a fault meets it."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one packet: a second one would wait for the first to be acknowledged
    server: Proxy

    def handle_expect_100(self) -> bool:
        """Ask for the body at once."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def body(self) -> bytes:
        """What the request carries, by its length or in chunks."""
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        pieces = []
        while length := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(length))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def answer(self) -> None:
        """Read the request, meet the faults, pass it on."""
        body = self.body()
        self.server.seen.append((self.command, self.path))
        kinds = [fault.kind for fault in self.server.faults if fault.meets(self.command, self.path)]
        if any(self.strike(kind) for kind in kinds):
            return
        cut = "cut" in kinds
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOPS}
        upstream.request(self.command, self.path, body, headers)
        response = upstream.getresponse()
        content = response.read()
        upstream.close()
        self.send_response_only(response.status)
        length = response.headers.get("content-length") if self.command == "HEAD" else str(len(content))
        for name, value in response.headers.items():
            if name.lower() not in (*HOPS, "content-length"):
                self.send_header(name, value)
        self.send_header("content-length", length or "0")
        self.end_headers()
        if cut:
            self.wfile.write(content[: len(content) // 2])
            self.close()
        else:
            self.wfile.write(content)
            self.server.answered(self.command, self.path)

    def close(self) -> None:
        """End the connection without a further word."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def strike(self, kind: str | int) -> bool:
        """Let a fault happen; whether the request ends by it."""
        if isinstance(kind, int):
            content = f"<?xml version='1.0'?><Error><Code>{ERRORS[kind]}</Code><Message>no</Message></Error>".encode()
            self.send_response_only(kind)
            self.send_header("content-type", "application/xml")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            return True
        if kind == "drop":
            self.close()
            return True
        time.sleep(SECONDS.get(kind, 0))
        return False

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 (names that http.server calls)


class Proxy(ThreadingHTTPServer):
    """Listens on a free port of this machine before a server on port `upstream`."""

    daemon_threads = True

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.faults: list[Fault] = []
        self.seen: list[tuple[str, str]] = []
        self.answered: Callable[[str, str], None] = lambda method, path: None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: Any) -> None:
        """A client that left is no news."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])
