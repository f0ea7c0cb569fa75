"""A browser: it keeps cookies, follows redirects and says which page a form is on; it runs no script."""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass, field
from html import unescape
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Send = Callable[[str, str, bytes, Mapping[str, str]], "Page"]
    """Sends a request to a URL."""


class Page(NamedTuple):
    """An answer."""

    url: str
    status: int
    headers: list[tuple[str, str]]
    """With names in lower case."""
    text: str

    def header(self, name: str) -> str:
        return ", ".join(value for key, value in self.headers if key == name)

    def fields(self) -> dict[str, str]:
        """The hidden fields of its form."""
        return {
            unescape(name): unescape(value)
            for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', self.text)
        }


def over_the_network(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Page:
    """Over a connection of its own."""
    parts = urlsplit(url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    try:
        connection.request(method, f"{parts.path or '/'}?{parts.query}".removesuffix("?"), body, dict(headers))
        answer = connection.getresponse()
        lines = [(name.lower(), value) for name, value in answer.getheaders()]
        return Page(url, answer.status, lines, answer.read().decode())
    finally:
        connection.close()


@dataclass
class Browser:
    """Its cookies are those of a host, whatever the port, as in every browser."""

    send: Send = over_the_network
    cookies: dict[tuple[str, str], str] = field(default_factory=dict)
    seen: list[Page] = field(default_factory=list)
    """Every answer, also of redirects."""

    def get(self, url: str, **headers: str) -> Page:
        """The page where a link leads."""
        return self._go("GET", url, b"", headers)

    def submit(self, page: Page, action: str, **fields: str) -> Page:
        """Send the form of a page with these fields beside its hidden ones."""
        parts = urlsplit(page.url)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"{parts.scheme}://{parts.netloc}"}
        return self._go("POST", urljoin(page.url, action), urlencode({**page.fields(), **fields}).encode(), headers)

    def cookie(self, name: str) -> str:
        """The value of a cookie, of whichever host; empty if there is none."""
        return next((value for (_, key), value in self.cookies.items() if key == name), "")

    def _go(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Page:
        for _ in range(10):
            page = self.ask(method, url, body, headers)
            location = page.header("location")
            if not 300 <= page.status < 400:
                return page
            method, url, body, headers = "GET", urljoin(url, location), b"", {}
        raise AssertionError(f"redirects without end: {url}")

    def ask(self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Page:
        """One answer, with the cookies that the browser has; a redirect is not followed."""
        host = urlsplit(url).hostname or ""
        kept = "; ".join(f"{name}={value}" for (owner, name), value in self.cookies.items() if owner == host)
        page = self.send(method, url, body, {**({"Cookie": kept} if kept else {}), **(headers or {})})
        for name, line in page.headers:
            if name == "set-cookie":
                self._keep(host, line)
        self.seen.append(page)
        return page

    def _keep(self, host: str, line: str) -> None:
        name, _, value = line.partition(";")[0].partition("=")
        if "Max-Age=0" in line:
            self.cookies.pop((host, name), None)
        else:
            self.cookies[host, name] = value
