"""Requests to other systems, whose addresses were typed in by somebody and are not to be trusted.

What is refused, and how it is kept out:

- Everything but https, unless `CRM_WEBHOOK_ALLOW_HTTP` is set; names and passwords in an address; ports below
  1024 other than 80 and 443; hosts written to be read differently by different programs.
- Hosts that lead to anything but public addresses: ourselves, private and link-local networks, metadata
  services, IPv4 hidden in IPv6. `CRM_WEBHOOK_ALLOW_NETWORKS` opens own networks.
- A host is resolved once, all its addresses must be allowed, and the connection is made to the very address
  that was checked: a name that leads elsewhere a moment later changes nothing. The certificate must be that
  of the host's name.
- Redirects are not followed, proxies from the environment are not used, what is answered is read up to a
  limit, and the whole exchange ends at a deadline, however slowly bytes come.

Requests are not repeated here: jobs do that.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from crm_core.errors import AddressRefusedError, NoAnswerError
from crm_core.phrases import Phrase
from serving.networks import Network, is_allowed, read_networks
from serving.settings import Settings

Resolve = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host."""

TIMEOUT_SECONDS: Final = 15.0
LARGEST_ANSWER: Final = 64 * 1024
LONGEST_URL: Final = 2_000
USER_AGENT: Final = "predictive-crm/1"

_PLAIN = re.compile(r"[\x21-\x7e]+")
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_LIKE_A_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORTS: Final = {"http": 80, "https": 443}
_LOWEST_FREE_PORT: Final = 1024


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a request goes, read from an address in the one way that it can be read."""

    scheme: str
    host: str
    port: int
    path: str
    literal: bool
    """Whether the host is an address by itself."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the other system said; a body that was longer than allowed is cut and says so."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool

    def json(self) -> Any:  # noqa: ANN401  any JSON value
        """Return the body's JSON value; NoAnswerError if it is none, or cut."""
        if self.cut:
            raise NoAnswerError(Phrase("the answer is longer than {count} bytes", count=len(self.body)))
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise NoAnswerError("the answer is no JSON") from error


def read_url(url: str, *, allow_http: bool = False) -> Target:
    """Read an address; AddressRefusedError says what is wrong with one that is refused."""
    _refuse_if(len(url) > LONGEST_URL, Phrase("is longer than {longest} characters", longest=LONGEST_URL))
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    schemes = ("https", "http") if allow_http else ("https",)
    _refuse_if(
        not separator or scheme not in schemes,
        Phrase("does not begin with {schemes}://", schemes=" or ".join(schemes)),
    )
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    _refuse_if("@" in authority, "has a name or password in it")
    host, port = _split(authority, scheme)
    path = rest[len(authority) :]
    _refuse_if("#" in path, "has a part after #, which is never sent")
    _refuse_if("\\" in url, "has a backslash in it")
    _refuse_if(bool(path) and not _PLAIN.fullmatch(path), "has characters in it that must be percent-encoded")
    if not path.startswith("/"):
        path = f"/{path}"
    return Target(scheme=scheme, host=host, port=port, path=path, literal=_is_literal(host))


def _refuse_if(wrong: bool, what: str) -> None:  # noqa: FBT001  reads as a sentence
    if wrong:
        raise AddressRefusedError(Phrase("url: the address {what}", what=what))


def _split(authority: str, scheme: str) -> tuple[str, int]:
    """Return host and port."""
    bracketed = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::([0-9]{1,5}))?", authority)
    plain = re.fullmatch(r"([^:\[\]%]+)(?::([0-9]{1,5}))?", authority)
    found = bracketed or plain
    if found is None:
        raise AddressRefusedError("url: the address has no host and port that can be read")
    host = _read_ipv6(found[1]) if bracketed else _read_name(found[1])
    port = int(found[2]) if found[2] else _PORTS[scheme]
    fits = port in _PORTS.values() or _LOWEST_FREE_PORT <= port <= 65_535
    _refuse_if(not fits, "has a port that is not 80, 443 or from 1024 on")
    return host, port


def _read_ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError as error:
        raise AddressRefusedError("url: the address has a bad IPv6 address in it") from error


def _read_name(text: str) -> str:
    """Return a host's name as DNS knows it, or an IPv4 address as everybody writes it."""
    try:
        name = text.encode("idna").decode().lower()
    except UnicodeError as error:
        raise AddressRefusedError("url: the address has a host that is no name") from error
    labels = name.split(".")
    if _LIKE_A_NUMBER.fullmatch(labels[-1]):
        # Programs read 127.1, 0177.0.0.1, 2130706433 and 0x7f000001 as addresses, each in its own way.
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError as error:
            raise AddressRefusedError("url: the host is a number; expected a name or 1.2.3.4") from error
    _refuse_if(len(name) > 253 or not all(map(_LABEL.fullmatch, labels)), "has a host that is no name")
    return name


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host, as the machine knows them."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NoAnswerError("the host has no address") from error
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class OutboundClient:
    """Sends requests to other systems, and to nothing of ours."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        allow_http: bool = False,
        own_networks: Sequence[Network] = (),
        resolve: Resolve = resolve,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._allow_http = allow_http if settings is None else settings.webhook_allow_http
        self._own = own_networks if settings is None else read_networks(settings.webhook_allow_networks)
        self._resolve = resolve
        self._trust = trust

    def check(self, url: str) -> Target:
        """Read an address, and refuse it if it is written wrongly or names an address that is not allowed.

        Names are not resolved: they are at each request.
        """
        target = read_url(url, allow_http=self._allow_http)
        if target.literal:
            self._check_addresses([target.host])
        return target

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        largest_answer: int = LARGEST_ANSWER,
    ) -> Answer:
        """Send a request and return the answer, whatever its status.

        Raises AddressRefusedError before anything is sent, NoAnswerError if no whole answer has come when
        `timeout_seconds` are over.
        """
        target = self.check(url)
        deadline = time.monotonic() + timeout_seconds
        with _as_no_answer():
            connection = self._connection(target, deadline)
            with _ended_at(deadline, connection):
                try:
                    connection.connect()
                    _send(connection, method, target, headers or {}, body)
                    return _receive(connection, largest_answer)
                finally:
                    connection.close()

    def _connection(self, target: Target, deadline: float) -> _Pinned:
        """Return a connection to addresses that were checked, under the host's name."""
        addresses = [target.host] if target.literal else list(self._resolve(target.host, target.port))
        self._check_addresses(addresses)
        if target.scheme == "http":
            return _Pinned(target, addresses, deadline, None)
        return _Pinned(target, addresses, deadline, self._trust or ssl.create_default_context())

    def _check_addresses(self, addresses: Sequence[str]) -> None:
        if not addresses:
            raise NoAnswerError("the host has no address")
        for address in addresses:
            if not is_allowed(ipaddress.ip_address(address), self._own):
                # Not told is which address: answers must not be a way to read the names of our network.
                raise AddressRefusedError(
                    "url: the host leads to an address that is not public; "
                    "CRM_WEBHOOK_ALLOW_NETWORKS opens own networks"
                )


def _open(addresses: Sequence[str], port: int, deadline: float) -> socket.socket:
    """Connect to the first address that answers; each gets its share of the time left."""
    failed: OSError | None = None
    for number, address in enumerate(addresses):
        left = (deadline - time.monotonic()) / (len(addresses) - number)
        try:
            return socket.create_connection((address, port), timeout=max(left, 0.001))
        except OSError as error:
            failed = error
    raise failed or OSError("no address")


class _Pinned(http.client.HTTPConnection):
    """A connection to one of the addresses given, whatever the host's name leads to by now.

    With `trust` it is encrypted, and the other side proves that it has the host's name.
    """

    def __init__(
        self, target: Target, addresses: Sequence[str], deadline: float, trust: ssl.SSLContext | None
    ) -> None:
        super().__init__(target.host, target.port)
        self.default_port = _PORTS[target.scheme]  # it stands in no Host header
        self.wire: socket.socket | None = None
        self._addresses = addresses
        self._deadline = deadline
        self._trust = trust

    def connect(self) -> None:
        """Connect, and greet where it is encrypted."""
        self.wire = _open(self._addresses, self.port, self._deadline)
        self.wire.settimeout(max(self._deadline - time.monotonic(), 0.001))
        self.sock = self.wire
        if self._trust is not None:
            wrapped = self._trust.wrap_socket(
                self.wire, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.wire = self.sock = wrapped
            wrapped.do_handshake()


def _send(
    connection: _Pinned,
    method: str,
    target: Target,
    headers: Mapping[str, str],
    body: bytes | None,
) -> None:
    connection.putrequest(method, target.path, skip_accept_encoding=True)
    for name, value in {"User-Agent": USER_AGENT, "Connection": "close", **headers}.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)


def _receive(connection: _Pinned, largest: int) -> Answer:
    response = connection.getresponse()
    body = response.read(largest + 1)
    if len(body) <= largest and response.length:
        raise http.client.IncompleteRead(body, response.length)
    return Answer(
        status=response.status,
        headers={name.lower(): value for name, value in response.getheaders()},
        body=body[:largest],
        cut=len(body) > largest,
    )


@contextmanager
def _ended_at(deadline: float, connection: _Pinned) -> Iterator[None]:
    """Cut the connection at the deadline: a timeout of the socket begins anew with every byte that comes."""
    over = threading.Event()

    def cut() -> None:
        over.set()
        if connection.wire is not None:
            with suppress(OSError):  # it may have ended by itself
                # The way itself, not the encryption upon it, which is in use by another thread.
                socket.socket.shutdown(connection.wire, socket.SHUT_RDWR)

    timer = threading.Timer(max(deadline - time.monotonic(), 0.001), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, ValueError, http.client.HTTPException) as error:
        if over.is_set():
            raise TimeoutError from error
        raise
    else:
        if over.is_set():
            raise TimeoutError
    finally:
        timer.cancel()


@contextmanager
def _as_no_answer() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise NoAnswerError("the whole answer did not come in time") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NoAnswerError(f"{type(error).__name__}: {error}") from error
