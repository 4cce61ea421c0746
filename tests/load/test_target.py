"""Targets, and whose they are."""

import pytest

from interlock.bench import Refused, read_target, refuse_foreign


@pytest.mark.parametrize(
    "text,shown,secure",
    [
        ("127.0.0.1:8080", "127.0.0.1:8080", False),
        ("http://localhost:8080", "localhost:8080", False),
        ("http://localhost", "localhost:80", False),
        ("https://orders.example.com", "orders.example.com:443", True),
        ("https://orders.example.com:8443/", "orders.example.com:8443", True),
        ("[::1]:8080", "[::1]:8080", False),
    ],
)
def test_targets_are_hosts_with_ports(text: str, shown: str, secure: bool) -> None:
    """A pair, or a URL without a path; https is TLS."""
    target = read_target(text)
    assert (str(target), target.secure) == (shown, secure)


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "localhost:0", "localhost:99999", "dns:///a:1", "ipv4:10.0.0.1:80,10.0.0.2:80", "a:1@b:2",
     "http://a:1/path", "unix:/tmp/x", "127.0.0.1:80\nb:1", "ftp://a:1", "::1:8080", "a b:1"],
)  # fmt: skip
def test_what_is_no_host_and_port_is_refused(text: str) -> None:
    """Among them gRPC's other schemes, which could name several hosts, or another one than it seems."""
    with pytest.raises(Refused):
        read_target(text)


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.1.2.3:1", "localhost:1", "LOCALHOST:1", "[::1]:1"])
def test_this_machine_may_be_loaded(text: str) -> None:
    """Loopback addresses and localhost."""
    refuse_foreign(read_target(text), owned=False)


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1:1", "0.0.0.0:1", "example.com:1", "localhost.example.com:1", "127.0.0.1.example.com:1", "127.1:1",
     "[::]:1", "[2001:db8::1]:1", "https://orders.example.com"],
)  # fmt: skip
def test_other_machines_need_somebody_who_answers_for_it(text: str) -> None:
    """The text says what to do, and then it is done."""
    target = read_target(text)
    with pytest.raises(Refused, match="--i-own-this-host"):
        refuse_foreign(target, owned=False)
    refuse_foreign(target, owned=True)
