"""Keep-alive connections that cost next to nothing themselves, the same for whoever is asked."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import cycle
from urllib.parse import urlsplit


class RefusedError(Exception):
    """A server answered with something else than success."""


def request_of(method: str, path: str, headers: Mapping[str, str], body: str = "") -> bytes:
    """Return a request as it goes over the line."""
    sent = body.encode()
    given = {"Host": "127.0.0.1", **headers, "Content-Length": str(len(sent))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode() + sent


class Line:
    """One connection, kept open from one request to the next."""

    def __init__(self, address: str) -> None:
        where = urlsplit(address)
        self.socket = socket.create_connection((where.hostname or "", where.port or 80), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._came = b""

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def send(self, request: bytes) -> None:
        """Send a request."""
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bytes] | None:
        """Take what has come; return status and body once the answer is whole."""
        came = self.socket.recv(65536)
        if not came:
            raise RefusedError("the server hung up")
        self._came += came
        head, end, body = self._came.partition(b"\r\n\r\n")
        if not end:
            return None
        lower = head.lower()
        at = lower.find(b"content-length:")
        if at < 0:
            raise RefusedError(f"no length in {head!r}")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0])
        if len(body) < length:
            return None
        self._came = b""
        return int(head[9:12]), body

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and wait for status and body."""
        self.send(request)
        while (answer := self.receive()) is None:
            pass
        return answer

    def ask_well(self, request: bytes) -> bytes:
        """Return the body of an answer that must be a success."""
        status, body = self.ask(request)
        if status >= 300:
            raise RefusedError(f"{status}: {body[:300]!r}")
        return body


def seconds_each(line: Line, requests: Sequence[bytes]) -> list[float]:
    """Return how long each of some requests took, one after the other."""
    taken = []
    for request in requests:
        began = time.perf_counter()
        line.ask_well(request)
        taken.append(time.perf_counter() - began)
    return taken


def answers_a_second(address: str, requests: Sequence[bytes], *, lines: int, seconds: float) -> float:
    """Return how many requests are answered a second where each line sends its next one at once."""
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        ahead: Iterator[bytes] = cycle(requests)
        for _ in range(lines):
            line = Line(address)
            stack.callback(line.close)
            selector.register(line.socket, selectors.EVENT_READ, line)
            line.send(next(ahead))
        return _drive(selector, ahead, seconds)


def _drive(selector: selectors.BaseSelector, ahead: Iterator[bytes], seconds: float) -> float:
    done, began = 0, time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        for key, _ in selector.select(timeout=1.0):
            line: Line = key.data
            answer = line.receive()
            if answer is not None:
                if answer[0] >= 300:
                    raise RefusedError(f"{answer[0]}: {answer[1][:300]!r}")
                done += 1
                line.send(next(ahead))
    return done / (now - began)


def wait_until(there: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait until something is there; raise TimeoutError if it is not in time."""
    until = time.perf_counter() + seconds
    while not there():
        if time.perf_counter() > until:
            raise TimeoutError(f"{what} within {seconds:g} s")
        time.sleep(0.05)
