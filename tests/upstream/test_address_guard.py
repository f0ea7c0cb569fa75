"""An upstream cannot send a mirror into the network it stands in (check 21 of mirrors)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from registry.upstream.address_guard import AddressGuard, is_public
from registry.upstream.errors import AddressRefused
from registry.upstream.resolver import Resolver
from registry.upstream.url import Origin, parse_url

OWN = Origin("https", "registry.example.org", 443)
PUBLIC = "8.8.8.8"
PRIVATE = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.168.1.1", "198.18.0.1", "224.0.0.1",
    "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8",
    "64:ff9b::10.0.0.1", "64:ff9b:1::8.8.8.8", "2001::1", "2001:db8::1", "2002:a00:1::1", "fc00::1", "fd12::1",
    "fe80::1", "fec0::1", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_of_the_internet_is_none(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", [PUBLIC, "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "64:ff9b::8.8.8.8"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ip_address(address))


def guard(*allowed: str, hosts: tuple[str, ...] = (), **names: list[str]) -> AddressGuard:
    """Knows ``cdn`` as ``cdn.example.org``, with these addresses."""
    known = {f"{name}.example.org": addresses for name, addresses in names.items()}
    return AddressGuard({OWN}, hosts, allowed, Resolver(lambda host: known[host]))


@pytest.mark.parametrize("address", PRIVATE)
@pytest.mark.parametrize("form", ["literal", "name", "one of several"])
def test_a_foreign_host_is_refused_wherever_its_private_address_stands(address: str, form: str) -> None:
    shown = f"[{address}]" if ":" in address else address
    origin = parse_url(f"https://{shown if form == 'literal' else 'cdn.example.org'}/").origin
    with pytest.raises(AddressRefused, match="allowed_hosts"):
        guard(cdn=[PUBLIC, address] if form == "one of several" else [address]).addresses(origin, 5)


def test_a_name_of_the_internet_is_connected_to_at_the_addresses_that_were_checked() -> None:
    asked: list[str] = []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        return [PUBLIC, "1.1.1.1"] if len(asked) == 1 else ["127.0.0.1"]

    found = AddressGuard({OWN}, (), (), Resolver(look_up)).addresses(parse_url("https://cdn.example.org").origin, 5)
    assert (list(found), asked) == ([PUBLIC, "1.1.1.1"], ["cdn.example.org"])


def test_the_own_origin_may_be_anywhere_and_another_port_or_scheme_is_another_origin() -> None:
    known = guard(registry=["10.0.0.1"])
    assert known.addresses(OWN, 5) == ["10.0.0.1"]
    for other in (
        "https://registry.example.org:8443",
        "http://registry.example.org:443",
        "http://registry.example.org",
    ):
        with pytest.raises(AddressRefused):
            known.addresses(parse_url(other).origin, 5)


@pytest.mark.parametrize(
    ("allowed", "hosts"),
    [
        (["cdn.example.org"], []),
        (["CDN.example.org"], []),
        (["*.example.org"], []),
        (["*.org"], []),
        (["10.0.0.0/8"], []),
        (["10.0.0.1"], []),
        ([], ["cdn.example.org"]),
        ([], ["cdn.example.org:443"]),
    ],
)
def test_the_settings_open_exactly_what_they_name(allowed: list[str], hosts: list[str]) -> None:
    known = guard(*allowed, hosts=tuple(hosts), cdn=["10.0.0.1"], other=["10.0.0.1", "192.168.0.1"])
    assert known.addresses(parse_url("https://cdn.example.org").origin, 5) == ["10.0.0.1"]
    if allowed[:1] not in (["*.example.org"], ["*.org"]):
        with pytest.raises(AddressRefused):
            known.addresses(parse_url("https://other.example.org").origin, 5)


def test_the_pattern_of_a_domain_is_not_the_domain_nor_a_longer_name() -> None:
    known = guard("*.cdn.example.org")
    assert known.is_named(parse_url("https://a.b.cdn.example.org").origin)
    assert not known.is_named(parse_url("https://cdn.example.org").origin)
    assert not known.is_named(parse_url("https://evilcdn.example.org").origin)


def test_through_a_proxy_a_foreign_host_has_to_be_named() -> None:
    known = guard("cdn.example.org", "10.0.0.0/8")
    for allowed in ("https://cdn.example.org", "https://10.0.0.1", f"https://{PUBLIC}", str(OWN)):
        known.check_name(parse_url(allowed).origin)
    for refused in ("https://other.example.org", "https://127.0.0.1", "https://[::1]"):
        with pytest.raises(AddressRefused, match="allowed_hosts"):
            known.check_name(parse_url(refused).origin)
