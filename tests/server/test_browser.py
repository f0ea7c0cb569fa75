"""Browsers and real servers: a session in every process, what ends it, no secret in a log (checks 24 and 25)."""

from __future__ import annotations

import http.cookiejar
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import bcrypt
import pytest

from registry.auth.passwords.password_file import PasswordFile
from registry.auth.passwords.password_hash import PasswordHash
from tests.auth.oidc.server import CLIENT, SECRET, ProviderServer, provider_server
from tests.auth.oidc.zitadel import CLIENT as WEB
from tests.auth.oidc.zitadel import Zitadel
from tests.support.browser import Browser
from tests.support.servers import RegistryProcess
from tests.support.together import serving_together

PASSWORD = "wonder-land-7"
PATIENCE = 60.0
"""Seconds for what takes less than one where the machine is not busy with other tests."""
REQUESTS = 8
"""Each on a connection of its own: all workers get some."""
RULES = [{"who": ["group:sso/dev"], "repositories": ["dev/**"], "actions": ["pull"]}]


@dataclass
class Place:
    """Servers over one storage and one database, and a provider."""

    servers: list[RegistryProcess]
    users: PasswordFile
    provider: ProviderServer

    def statuses(self, cookie: str) -> set[int]:
        """What every process answers to a session."""
        browser, headers = Browser(), {"Cookie": f"session={cookie}"}
        urls = [f"{server.url}/api/v1/session" for server in self.servers for _ in range(REQUESTS)]
        return {browser.ask("GET", url, headers=headers).status for url in urls}

    def await_end(self, cookie: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.statuses(cookie) != {401}:
            assert time.monotonic() < deadline

    def log_in(self, server: RegistryProcess) -> Browser:
        browser = Browser()
        page = browser.get(f"{server.url}/auth/login")
        assert "<strong>alice</strong>" in browser.submit(page, "/auth/login", user="alice", password=PASSWORD).text
        return browser


@pytest.fixture(scope="module", params=["workers", "replicas"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Two workers over SQLite, or two replicas over PostgreSQL."""
    directory: Path = tmp_path_factory.mktemp("browser")
    users = PasswordFile(directory / "htpasswd")
    users.add("alice", _hash(PASSWORD))
    with provider_server() as provider:
        login = {"client_id": CLIENT, "client_secret": SECRET, "scopes": ["openid", "groups"]}
        sso = {"name": "sso", "issuer": provider.issuer, "audiences": ["ci"], "user": "preferred_username"}
        config: dict[str, dict[str, Any]] = {
            "auth": {
                "htpasswd": {"file": str(directory / "htpasswd")},
                "oidc": [{**sso, "groups": "groups", "login": login}],
            },
            "access": {"rules": RULES},
            "log": {"level": "debug"},
        }
        cluster = request.getfixturevalue("cluster") if request.param == "replicas" else None
        with serving_together(directory, config, cluster) as servers:
            yield Place(servers, users, provider)


def _hash(password: str) -> PasswordHash:
    return PasswordHash(bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode())


def test_a_browser_of_the_standard_library_logs_in_at_the_provider(place: Place) -> None:
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    url = place.servers[0].url
    with opener.open(f"{url}/auth/login?provider=sso", timeout=60) as answer:
        assert answer.url == f"{url}/auth/login"
        assert b"oidc:sso/alice" in answer.read()
    with opener.open(f"{url}/api/v1/session", timeout=60) as answer:
        assert json.load(answer)["groups"] == ["sso/dev"]
    [session] = [cookie for cookie in jar if cookie.name == "session"]
    assert session.path == "/"
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(f"{url}/v2/dev/app/tags/list", timeout=60)
    assert caught.value.code == 401, "it is none of the registry's clients"
    caught.value.close()


def test_any_process_finishes_a_login_that_another_has_begun(place: Place) -> None:
    for begun, finished in ((0, -1), (-1, 0)):
        browser, own, other = Browser(), place.servers[begun].address, place.servers[finished].address
        asked = browser.ask("GET", f"http://{own}/auth/login?provider=sso").header("location")
        # As behind one proxy: both have its name.
        back = browser.ask("GET", asked).header("location")
        answer = browser.ask("GET", back.replace(own, other), headers={"Host": own})
        assert answer.status == 303
        assert place.statuses(browser.cookie("session")) == {200}


def test_a_session_is_in_every_process_until_its_browser_logs_out(place: Place) -> None:
    browser = place.log_in(place.servers[0])
    cookie = browser.cookie("session")
    assert place.statuses(cookie) == {200}
    page = browser.get(f"{place.servers[-1].url}/auth/login")
    browser.submit(page, "/auth/logout")
    assert place.statuses(cookie) == {401}, "at once, in every one"


def test_a_user_with_another_password_or_none_is_logged_out_everywhere_and_no_secret_was_written(place: Place) -> None:
    browser = place.log_in(place.servers[0])
    sso = Browser()
    sso.get(f"{place.servers[0].url}/auth/login?provider=sso")
    first, guest = browser.cookie("session"), sso.cookie("session")
    place.users.replace("alice", _hash("another"))
    place.await_end(first)
    place.users.replace("alice", _hash(PASSWORD))
    assert place.statuses(first) == {401}, "the same password is another hash"
    second = place.log_in(place.servers[-1]).cookie("session")
    assert place.statuses(second) == {200}
    place.users.remove("alice")
    place.await_end(second)
    assert place.statuses(guest) == {200}
    place.users.add("alice", _hash(PASSWORD))
    secrets = [PASSWORD, SECRET, first, second, guest]
    for page in [*browser.seen, *sso.seen]:
        secrets += re.findall(r"(?:login|login-form|session)=([\w.-]{20,})", page.header("set-cookie"))
        secrets += re.findall(r"[?&](?:code|state|code_challenge|nonce)=([\w-]+)", page.header("location"))
    written = b""
    for server in place.servers:
        written += server.log_path.read_bytes() + json.dumps(server.run("config", "show")).encode()
        written += Browser().get(f"{server.url}/metrics").text.encode()
    for path in Path(str(place.servers[0].config["storage"]["root_directory"])).rglob("*"):
        written += path.read_bytes() if path.is_file() else b""
    assert len(written) > 10_000
    assert len(secrets) > 10
    for secret in secrets:
        assert secret.encode() not in written, secret


def test_a_login_whose_code_was_exchanged_by_a_process_that_is_gone_is_begun_again(place: Place) -> None:
    browser, server = Browser(), place.servers[0]
    asked = browser.ask("GET", f"{server.url}/auth/login?provider=sso").header("location")
    back = browser.ask("GET", asked).header("location")
    place.provider.codes.popitem()  # exchanged by the one that is gone
    assert browser.ask("GET", back).status == 400
    browser.get(f"{server.url}/auth/login?provider=sso")
    assert place.statuses(browser.cookie("session")) == {200}


@pytest.mark.tools(Zitadel.name)
def test_a_user_logs_in_at_a_provider_of_another_project(tmp_path: Path) -> None:
    server = RegistryProcess(tmp_path / "registry")
    back = f"http://localhost:{server.port}/auth/callback"
    (tmp_path / "zitadel").mkdir()
    with Zitadel(tmp_path / "zitadel", back) as zitadel:
        login = {"client_id": WEB, "client_secret": "secret", "scopes": ["openid", "profile"]}
        sso = {"name": "sso", "issuer": zitadel.issuer, "audiences": ["ci"]}
        server.config |= {"auth": {"oidc": [{**sso, "login": login}]}, "access": {"rules": []}}
        with server:
            browser = Browser()
            url = f"http://localhost:{server.port}"
            form = browser.get(f"{url}/auth/login?{urlencode({'provider': 'sso', 'next': '/api/v1/session'})}")
            found = re.search(r'name="id" value="([^"]*)"', form.text)
            assert found, form.text
            fields = {"id": found[1], "username": "test-user2", "password": "verysecure"}
            page = browser.submit(form, "/login/username", **fields)
            assert page.url == f"{url}/api/v1/session", page
            assert json.loads(page.text)["who"] == "oidc:sso/id2", "a code brings no claims of its users beside"
