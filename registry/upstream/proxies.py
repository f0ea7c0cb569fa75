"""*Proxy*: the HTTP proxy between a mirror and a server, as the settings or the environment have it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies_environment, proxy_bypass

if TYPE_CHECKING:
    from registry.upstream.url import Origin

ENVIRONMENT: Final = "environment"


def proxy_of(origin: Origin, setting: str | None) -> str | None:
    """The address of the proxy on the way to a server; None if there is none.

    ``setting`` is an address, None, or ENVIRONMENT: HTTP_PROXY, HTTPS_PROXY and ALL_PROXY in either case, and NO_PROXY
    with names, domains, addresses, networks, each with or without a port, or ``*``.
    """
    if setting != ENVIRONMENT:
        return setting
    proxies = getproxies_environment()
    proxy = proxies.get(origin.scheme) or proxies.get("all")
    if not proxy or _is_left_out(origin, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_left_out(origin: Origin, no_proxy: str) -> bool:
    try:
        address = ip_address(origin.host)
    except ValueError:
        return bool(proxy_bypass(f"{origin.host}:{origin.port}", {"no": no_proxy}))
    for entry in map(str.strip, no_proxy.split(",")):
        if entry in ("*", f"{origin.host}:{origin.port}", f"[{origin.host}]", f"[{origin.host}]:{origin.port}"):
            return True
        try:
            if address in ip_network(entry, strict=False):
                return True
        except ValueError:
            continue  # a name
    return False
