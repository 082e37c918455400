"""Requests to other systems reach those, and nothing of ours."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from crm_core.errors import AddressRefusedError, NoAnswerError, SettingsError
from serving.networks import is_public, read_networks
from serving.outbound import OutboundClient, read_url
from serving.settings import Settings, load_settings
from tests.serving.listening import Listener, listening, make_certificate

HERE = read_networks("127.0.0.0/8")

REFUSED_URLS = [
    "",
    "example.com",
    "//example.com/",
    "https:example.com",
    "https:/example.com",
    "https://",
    "https:///path",
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "javascript:alert(1)",
    "data:text/plain,x",
    "https://user@example.com/",
    "https://user:secret@example.com/",
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1#@example.com/",
    "https://example.com#part",
    "https://example.com\\@127.0.0.1/",
    "https://example.com\\.127.0.0.1/",
    "https://example.com/\r\nHost: 127.0.0.1",
    "https://example.com/a b",
    "https://exam\tple.com/",
    "https://exam ple.com/",
    " https://example.com/",
    "https://example.com/\x00",
    "https://example.com/é",
    "https://example.com./",
    "https://example..com/",
    "https://.example.com/",
    "https://-example.com/",
    "https://exa_mple.com/",
    "https://exam%70le.com/",
    "https://%31%32%37.0.0.1/",
    "https://example.com:0/",
    "https://example.com:22/",
    "https://example.com:25/",
    "https://example.com:65536/",
    "https://example.com:99999999/",
    "https://example.com:-1/",
    "https://example.com:80:80/",
    "https://example.com:٨٠/",
    f"https://{'a' * 64}.com/",
    f"https://{'a.' * 130}com/",
    f"https://example.com/{'a' * 2000}",
    # Numbers that programs read in different ways
    "https://127.1/",
    "https://127.0.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.0.0.1./",
    "https://127.0.0.01/",
    "https://1.2.3.4.5/",
    "https://256.1.1.1/",
    "https://0/",
    "https://example.0x1/",
    "https://１２７.０.０.１/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    # Addresses that are not other people's
    "https://127.0.0.1/",
    "https://127.255.255.254/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://100.64.0.1/",
    "https://100.100.100.200/latest/meta-data/",
    "https://168.63.129.16/",
    "https://169.254.169.254/latest/meta-data/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.0.0.192/",
    "https://192.0.2.1/",
    "https://192.88.99.1/",
    "https://192.168.1.1/",
    "https://198.18.0.1/",
    "https://198.51.100.1/",
    "https://203.0.113.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::8.8.8.8]/",
    "https://[64:ff9b:1::1]/",
    "https://[100::1]/",
    "https://[2001::1]/",
    "https://[2001:db8::1]/",
    "https://[2002:7f00:1::]/",
    "https://[3fff::1]/",
    "https://[5f00::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[::1/",
    "https://::1/",
    "https://[127.0.0.1]/",
    "https://[::1]x/",
]


@pytest.mark.parametrize("url", REFUSED_URLS, ids=ascii)
def test_an_address_that_could_lead_to_us_is_refused_before_anything_is_sent(url: str) -> None:
    client = OutboundClient(resolve=lambda _host, _port: pytest.fail("it was resolved"))
    with pytest.raises(AddressRefusedError):
        client.request("GET", url)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("https://example.com", "example.com", 443, "/"),
        ("HTTPS://EXAMPLE.com/Hooks?a=b", "example.com", 443, "/Hooks?a=b"),
        ("https://example.com?a=b", "example.com", 443, "/?a=b"),
        ("https://example.com:8443/x%20y", "example.com", 8443, "/x%20y"),
        ("https://bücher.example/", "xn--bcher-kva.example", 443, "/"),
        ("https://客户.example/", "xn--tst37w.example", 443, "/"),
        ("https://8.8.8.8/", "8.8.8.8", 443, "/"),
        ("https://[2606:4700::1111]:4433/", "2606:4700::1111", 4433, "/"),
    ],
)
def test_an_address_is_read_in_the_one_way_it_can_be_read(url: str, host: str, port: int, path: str) -> None:
    read = read_url(url)
    assert (read.port, read.path) == (port, path)
    assert read.host == (host if "客" not in url else "客户.example".encode("idna").decode())


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["fe80::1%eth0"], ["::ffff:169.254.169.254"]],
    ids=str,
)
def test_a_name_that_leads_to_us_is_refused_even_if_it_leads_elsewhere_too(addresses: list[str]) -> None:
    client = OutboundClient(resolve=lambda _host, _port: addresses)
    with pytest.raises(AddressRefusedError):
        client.request("GET", "https://example.com/")


def test_a_name_without_an_address_does_not_answer() -> None:
    with pytest.raises(NoAnswerError):
        OutboundClient(resolve=lambda _host, _port: []).request("GET", "https://example.com/")


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "2606:4700::1111"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_all_that_the_registry_says_is_not_global_is_refused() -> None:
    """The table agrees with the standard library's, in which a few public corners are missing."""
    step = 2**32 // 65_536
    for number in range(0, 2**32, step):
        address = ipaddress.IPv4Address(number)
        if not address.is_global or address.is_multicast:
            assert not is_public(address), address


# ------------------------------------------------------------------------------------- over a real socket


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as made:
        yield made


@pytest.fixture
def client() -> OutboundClient:
    return OutboundClient(allow_http=True, own_networks=HERE)


def test_a_request_arrives_and_is_answered(client: OutboundClient, listener: Listener) -> None:
    listener.status, listener.body, listener.headers = 201, b'{"ok":true}', {"X-Mark": "7"}
    answer = client.request("POST", f"{listener.url}?a=b", headers={"X-Sent": "yes"}, body=b"{}")
    (received,) = listener.received
    assert (received.method, received.path, received.body) == ("POST", "/hooks?a=b", b"{}")
    assert (received.headers["host"], received.headers["x-sent"]) == (f"127.0.0.1:{listener.port}", "yes")
    assert (answer.status, answer.headers["x-mark"], answer.json(), answer.cut) == (
        201,
        "7",
        {"ok": True},
        False,
    )


def test_a_redirect_is_an_answer_and_is_not_followed(client: OutboundClient, listener: Listener) -> None:
    listener.status, listener.headers = 302, {"Location": listener.url + "/elsewhere"}
    assert client.request("POST", listener.url, body=b"").status == 302
    assert len(listener.received) == 1


def test_a_long_answer_is_cut(client: OutboundClient, listener: Listener) -> None:
    listener.status, listener.body = 200, b"[" + b" " * 5_000 + b"]"
    answer = client.request("GET", listener.url, largest_answer=1_000)
    assert (len(answer.body), answer.cut) == (1_000, True)
    with pytest.raises(NoAnswerError, match="longer than 1000"):
        answer.json()


def test_an_answer_that_drips_ends_at_the_deadline(client: OutboundClient, listener: Listener) -> None:
    listener.status, listener.body, listener.drip_seconds = 200, b"x" * 1_000, 0.05
    began = time.monotonic()
    with pytest.raises(NoAnswerError, match="in time"):
        client.request("GET", listener.url, timeout_seconds=0.4)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\xff" * 70_000,
    ],
)
def test_what_is_no_http_is_no_answer(client: OutboundClient, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def say() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4_096)
                connection.sendall(said)

        thread = threading.Thread(target=say)
        thread.start()
        with pytest.raises(NoAnswerError):
            client.request("GET", f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_seconds=5)
        thread.join()


def test_a_server_that_says_nothing_is_left_at_the_deadline(client: OutboundClient) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(NoAnswerError, match="in time"),
    ):
        client.request("GET", f"http://127.0.0.1:{server.getsockname()[1]}/", timeout_seconds=0.2)


def test_a_closed_port_is_no_answer(client: OutboundClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NoAnswerError):
        client.request("GET", f"http://127.0.0.1:{port}/")


def test_headers_cannot_be_smuggled_in(client: OutboundClient, listener: Listener) -> None:
    with pytest.raises(NoAnswerError):
        client.request("GET", listener.url, headers={"X-A": "b\r\nX-C: d"})
    assert listener.received == []


def test_a_name_that_leads_elsewhere_a_moment_later_changes_nothing(listener: Listener) -> None:
    asked = []

    def rebinding(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    client = OutboundClient(allow_http=True, own_networks=HERE, resolve=rebinding)
    assert client.request("GET", f"http://rebinding.example:{listener.port}/").status == 204
    assert asked == ["rebinding.example"], "the name was resolved once, and never by the connection itself"
    assert listener.received[0].headers["host"] == f"rebinding.example:{listener.port}"
    with pytest.raises(AddressRefusedError):
        client.request("GET", f"http://rebinding.example:{listener.port}/")
    assert len(listener.received) == 1


def test_the_first_address_that_answers_is_taken(listener: Listener) -> None:
    client = OutboundClient(
        allow_http=True, own_networks=HERE, resolve=lambda _host, _port: ["127.0.0.2", "127.0.0.1"]
    )
    assert client.request("GET", f"http://two.example:{listener.port}/").status == 204


def test_proxies_of_the_environment_are_not_used(
    client: OutboundClient, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    assert client.request("GET", listener.url).status == 204


# ------------------------------------------------------------------------------------- encrypted


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    make_certificate(path, "hooks.example")
    return path


def trusting(certificate: Path | None) -> OutboundClient:
    trust = ssl.create_default_context(cafile=certificate)
    return OutboundClient(own_networks=HERE, resolve=lambda _host, _port: ["127.0.0.1"], trust=trust)


def test_the_name_is_proved_by_a_certificate_though_the_address_was_chosen_before(certificate: Path) -> None:
    with listening(certificate) as listener:
        answer = trusting(certificate).request("GET", f"https://hooks.example:{listener.port}/")
    assert answer.status == 204
    assert listener.received[0].headers["host"] == f"hooks.example:{listener.port}"


def test_another_name_than_that_of_the_certificate_is_no_answer(certificate: Path) -> None:
    with listening(certificate) as listener:
        with pytest.raises(NoAnswerError, match="certificate"):
            trusting(certificate).request("GET", f"https://other.example:{listener.port}/")
        assert listener.received == []


def test_a_certificate_that_nobody_vouches_for_is_no_answer(certificate: Path) -> None:
    with listening(certificate) as listener, pytest.raises(NoAnswerError, match="certificate"):
        trusting(None).request("GET", f"https://hooks.example:{listener.port}/")


def test_a_greeting_that_never_ends_is_left_at_the_deadline(certificate: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://hooks.example:{server.getsockname()[1]}/"
        with pytest.raises(NoAnswerError, match="in time"):
            trusting(certificate).request("GET", url, timeout_seconds=0.2)


# ------------------------------------------------------------------------------------- settings


def test_settings_open_own_networks_and_http(home: Path, listener: Listener) -> None:
    opened = Settings(home=home, webhook_allow_http=True, webhook_allow_networks="127.0.0.0/8, fd00::/8")
    assert OutboundClient(opened).request("GET", listener.url).status == 204
    with pytest.raises(AddressRefusedError):
        OutboundClient(Settings(home=home)).request("GET", listener.url)
    with pytest.raises(AddressRefusedError):
        OutboundClient(Settings(home=home, webhook_allow_http=True)).request("GET", listener.url)


def test_a_network_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_WEBHOOK_ALLOW_NETWORKS", "10.0.0.0/8, ours")
    with pytest.raises(SettingsError, match="CRM_WEBHOOK_ALLOW_NETWORKS"):
        load_settings()
