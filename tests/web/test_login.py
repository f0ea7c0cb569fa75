"""Login in a browser, without scripts: by form and at a provider; of no use to pages of other sites (check 24)."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import bcrypt
import pytest

from registry.auth.browser.sessions import SECONDS
from registry.database.statement import Statement
from tests.api.service import Service, serving
from tests.auth.oidc.server import CLIENT, SECRET, ProviderServer, provider_server
from tests.support.browser import Browser, Page, over_the_network

HERE = "http://registry.test"
LOGIN, SESSION, LOGOUT, CALLBACK = (
    f"{HERE}{path}" for path in ("/auth/login", "/api/v1/session", "/auth/logout", "/auth/callback")
)
PASSWORD = "wonderland"
COUNT = Statement("SELECT count(*) FROM browser_session")


class Place:
    """A registry without a socket, and a provider with one."""

    def __init__(self, service: Service, provider: ProviderServer, users: Path) -> None:
        self.service = service
        self.provider = provider
        self.users = users

    def browser(self) -> Browser:
        return Browser(self._send)

    def _send(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Page:
        if not re.match(r"https?://registry\.test(?:/|$)", url):
            return over_the_network(method, url, body, headers)
        target = re.sub(r"^https?://registry\.test", "", url)
        reply = self.service.call(method, target, body, dict(headers))
        lines = [
            (name, part)
            for name, value in reply.headers.items()
            for part in (re.split(r", (?=[\w-]+=)", value) if name == "set-cookie" else [value])
        ]
        return Page(url, reply.status, lines, reply.body.decode())

    def sessions(self) -> int:
        with self.service.registry.backends.database.autocommit() as connection:
            return int(connection.execute(COUNT, {}).one()[0])

    def look(self) -> None:
        """As the process does it twice a second."""
        assert self.service.context.authentication is not None
        self.service.context.authentication.directory.look()


@pytest.fixture(scope="module")
def server() -> Iterator[ProviderServer]:
    with provider_server() as made:
        yield made


@pytest.fixture
def provider(server: ProviderServer) -> ProviderServer:
    server.is_up, server.refuses, server.keeps_codes, server.ends_sessions = True, "", False, False
    server.user = {"preferred_username": "alice", "groups": ["dev"]}
    server.asked.clear()
    return server


@pytest.fixture
def place(tmp_path: Path, provider: ProviderServer) -> Iterator[Place]:
    with opened(tmp_path, provider) as made:
        yield made


@contextlib.contextmanager
def opened(
    directory: Path, provider: ProviderServer, auth: Mapping[str, Any] | None = None, **more: Any
) -> Iterator[Place]:
    """A registry with a user and a provider, and these sections beside."""
    users = directory / "htpasswd"
    write_users(users, PASSWORD)
    login = {"client_id": CLIENT, "client_secret": SECRET, "scopes": ["openid", "groups"]}
    sso = {"name": "sso", "issuer": provider.issuer, "audiences": ["ci"], "user": "preferred_username"}
    settings = {"htpasswd": {"file": users}, "oidc": [{**sso, "groups": "groups", "login": login}]}
    rules = [{"who": ["group:sso/dev"], "repositories": ["dev/**"], "actions": ["pull"]}]
    sections = {"auth": {**settings, **(auth or {})}, "access": {"rules": rules}, **more}
    with serving(directory, sections) as service:
        yield Place(service, provider, users)


def write_users(path: Path, password: str) -> None:
    new = path.with_name("new")
    new.write_text(f"alice:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n")
    new.replace(path)


def log_in(browser: Browser, password: str = PASSWORD, **fields: str) -> Page:
    page = browser.get(LOGIN)
    return browser.submit(page, "/auth/login", user="alice", password=password, **fields)


def who(browser: Browser) -> str | None:
    """As which identity the registry knows a browser; None if as none."""
    page = browser.get(SESSION)
    assert page.status in {200, 401}
    found = re.search(r'"who":"([^"]*)"', page.text)
    return found[1] if found else None


def test_a_user_logs_in_with_a_password_sees_so_and_logs_out(place: Place) -> None:
    browser = place.browser()
    assert who(browser) is None
    page = log_in(browser)
    assert (page.url, page.status) == (LOGIN, 200)
    assert "<strong>alice</strong>" in page.text
    assert who(browser) == "alice"
    assert who(place.browser()) is None
    assert browser.cookie("login-form") == "", "it has done its work"
    page = browser.submit(page, "/auth/logout")
    assert (page.url, page.status) == (LOGIN, 200)
    assert 'type="password"' in page.text
    assert who(browser) is None
    assert place.sessions() == 0


def test_a_user_of_a_provider_logs_in_there_and_comes_back(place: Place) -> None:
    browser = place.browser()
    page = browser.get(LOGIN)
    link = re.search(r'href="(/auth/login\?provider=sso[^"]*)"', page.text)
    assert link
    page = browser.get(HERE + link[1].replace("&amp;", "&"))
    assert (page.url, page.status) == (LOGIN, 200)
    assert "<strong>oidc:sso/alice</strong>" in page.text
    assert "sso/dev" in page.text
    assert [urlsplit(seen.url).path for seen in browser.seen[1:]] == [
        "/auth/login",
        "/authorize",
        "/auth/callback",
        "/auth/login",
    ]
    assert who(browser) == "oidc:sso/alice"
    assert browser.cookie("login") == ""


@pytest.mark.parametrize("ends_sessions", [False, True])
def test_a_user_of_a_provider_that_logs_out_is_led_to_the_logout_there_if_there_is_one(
    tmp_path: Path, provider: ProviderServer, ends_sessions: bool
) -> None:
    provider.ends_sessions = ends_sessions
    with opened(tmp_path, provider) as place:
        browser = place.browser()
        page = browser.submit(browser.get(f"{LOGIN}?provider=sso"), "/auth/logout")
        assert (page.url, page.status) == (LOGOUT if ends_sessions else LOGIN, 200)
        link = f'href="{provider.issuer}/logout?a=b&amp;client_id={CLIENT}"'
        assert (link in page.text) is ends_sessions
        assert who(browser) is None
        assert place.sessions() == 0


def test_a_logout_succeeds_while_a_provider_that_was_never_heard_is_down(
    tmp_path: Path, provider: ProviderServer
) -> None:
    provider.ends_sessions = True
    with opened(tmp_path, provider) as one:
        browser = one.browser()
        browser.get(f"{LOGIN}?provider=sso")
        cookies = browser.cookies
    provider.is_up = False
    with opened(tmp_path, provider) as other:  # a process that has begun meanwhile
        browser = other.browser()
        browser.cookies.update(cookies)
        page = browser.submit(browser.get(LOGIN), "/auth/logout")
        assert (page.url, page.status) == (LOGIN, 200)
        assert other.sessions() == 0


def test_over_plain_http_cookies_are_for_the_registry_alone_and_never_for_scripts(place: Place) -> None:
    browser = place.browser()
    log_in(browser)
    lines = [value for page in browser.seen for name, value in page.headers if name == "set-cookie"]
    assert [line.partition("=")[0] for line in lines] == ["login-form", "session", "login-form"]
    for line in lines:
        assert "; Path=/; Max-Age=" in line
        assert line.endswith("; HttpOnly; SameSite=Lax")
    assert f"Max-Age={int(SECONDS)}" in lines[1]


def test_over_https_cookies_have_the_prefix_that_only_their_host_can_set(
    tmp_path: Path, provider: ProviderServer
) -> None:
    with opened(tmp_path, provider, http={"external_url": "https://registry.test"}) as place:
        browser, here = place.browser(), "https://registry.test/auth/login"
        page = browser.submit(browser.get(here), "/auth/login", user="alice", password=PASSWORD)
        assert "<strong>alice</strong>" in page.text
        assert who(browser) == "alice"
        lines = [value for page in browser.seen for name, value in page.headers if name == "set-cookie"]
        assert [line.partition("=")[0] for line in lines] == [
            "__Host-login-form",
            "__Host-session",
            "__Host-login-form",
        ]
        assert all(line.endswith("; HttpOnly; SameSite=Lax; Secure") for line in lines)
        secret = browser.cookie("__Host-session")
        browser.cookies = {("registry.test", "session"): secret}
        assert who(browser) is None, "any page without TLS could have set that one"
        asked = browser.ask("GET", f"{here}?provider=sso")
        query = dict(parse_qsl(urlsplit(asked.header("location")).query))
        assert query["redirect_uri"] == "https://registry.test/auth/callback"


@pytest.mark.parametrize(
    "path", ["/auth/login", "/auth/login?next=%2F%2Fevil", "/auth/callback", "/auth/login?provider=x"]
)
def test_every_page_runs_no_script_is_in_no_frame_and_is_not_kept(place: Place, path: str) -> None:
    page = place.browser().get(HERE + path)
    policy = page.header("content-security-policy")
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.header("content-type") == "text/html; charset=utf-8"
    assert page.header("x-content-type-options") == "nosniff"
    assert page.header("cache-control") == "no-store"
    assert page.header("referrer-policy") == "same-origin"
    assert "<script" not in page.text
    assert '<html lang="en">' in page.text
    for label in re.findall(r'<label for="(\w+)">', page.text):
        assert f'id="{label}"' in page.text


def test_a_wrong_password_is_told_so_and_the_form_is_there_again(place: Place) -> None:
    browser = place.browser()
    page = log_in(browser, "wrong")
    assert page.status == 401
    assert '<p role="alert">the user or the password is wrong</p>' in page.text
    assert page.header("www-authenticate").startswith("Bearer "), "no browser asks for a password by itself"
    page = browser.submit(page, "/auth/login", user="alice", password=PASSWORD)
    assert "<strong>alice</strong>" in page.text


def test_wrong_passwords_of_a_form_have_the_brakes_of_all_others(tmp_path: Path, provider: ProviderServer) -> None:
    with opened(tmp_path, provider, {"throttle": {"failures": 3, "seconds": 3600}}) as place:
        for number in range(4):
            assert log_in(place.browser(), f"wrong {number}").status == 401
        assert log_in(place.browser()).status == 401, "it is not looked at any more"
        assert place.sessions() == 0


@pytest.mark.parametrize("password", ["stw_" + "a" * 49, "eyJhbGciOiJIUzI1NiJ9.e30.x"])
def test_keys_and_tokens_are_for_programs_and_no_passwords_of_a_form(place: Place, password: str) -> None:
    assert log_in(place.browser(), password).status == 401


def test_a_form_of_another_site_logs_no_browser_in_or_out(place: Place) -> None:
    stranger, victim = place.browser(), place.browser()
    theirs = stranger.get(LOGIN)
    form = {**theirs.fields(), "user": "alice", "password": PASSWORD}
    kind = {"Content-Type": "application/x-www-form-urlencoded"}

    def post(url: str, fields: Mapping[str, str], **headers: str) -> int:
        return victim.ask("POST", url, urlencode(fields).encode(), {**kind, **headers}).status

    for origin in (
        "https://evil.example.org",
        "null",
        "http://registry.test.evil.example.org",
        "https://registry.test",
    ):
        assert post(LOGIN, form, Origin=origin) == 403
    assert post(LOGIN, form) == 403, "a browser says where a form comes from"
    assert post(LOGIN, form, Origin=HERE) == 400, "the form was shown to another browser"
    victim.get(LOGIN)
    assert post(LOGIN, form, Origin=HERE) == 400
    assert victim.cookie("session") == ""
    page = log_in(victim)
    for headers in ({"Origin": "https://evil.example.org"}, {}):
        assert post(LOGOUT, page.fields(), **headers) == 403
    assert post(LOGOUT, {"token": "x"}, Origin=HERE) == 400
    assert post(LOGOUT, theirs.fields(), Origin=HERE) == 400
    assert victim.ask("GET", LOGOUT).status == 405
    assert who(victim) == "alice"
    assert post(LOGOUT, page.fields(), Origin="http://registry.test:80") == 303
    assert who(victim) is None


def start(place: Place, browser: Browser) -> str:
    """Begin a login at the provider, log in there; the address that leads back."""
    asked = browser.ask("GET", f"{LOGIN}?provider=sso")
    assert asked.status == 303
    return browser.ask("GET", asked.header("location")).header("location")


def test_the_state_of_another_login_is_refused(place: Place) -> None:
    browser, stranger = place.browser(), place.browser()
    theirs = start(place, stranger)
    assert browser.ask("GET", theirs).status == 400, "this browser has begun none"
    own = start(place, browser)
    assert browser.ask("GET", theirs).status == 400
    assert browser.ask("GET", re.sub(r"state=[^&]*", "state=x", own)).status == 400
    assert browser.ask("GET", re.sub(r"&state=[^&]*", "", own)).status == 400
    assert browser.ask("GET", f"{own}&state=x").status == 400
    assert place.sessions() == 0
    assert browser.ask("GET", own).status == 303
    assert who(browser) == "oidc:sso/alice"


@pytest.mark.parametrize("keeps_codes", [False, True])
def test_a_login_that_was_used_is_refused_a_second_time_also_where_the_provider_takes_its_code(
    place: Place, keeps_codes: bool
) -> None:
    place.provider.keeps_codes = keeps_codes
    browser = place.browser()
    back = start(place, browser)
    kept = dict(browser.cookies)
    assert browser.ask("GET", back).status == 303
    assert browser.ask("GET", back).status == 400, "the browser has forgotten it"
    thief = place.browser()
    thief.cookies = kept
    assert thief.ask("GET", back).status == 400
    assert who(thief) is None
    assert place.sessions() == 1


def test_a_provider_that_is_down_is_a_page_that_says_so(place: Place) -> None:
    browser = place.browser()
    back = start(place, browser)
    place.provider.is_up = False
    page = browser.ask("GET", back)
    assert (page.status, page.header("retry-after")) == (503, "5")
    assert "the identity provider sso does not answer" in page.text
    assert page.header("content-type") == "text/html; charset=utf-8"
    directory = place.users.parent / "other"
    directory.mkdir()
    with opened(directory, place.provider) as other:
        assert other.browser().ask("GET", f"{LOGIN}?provider=sso").status == 503


def test_a_user_that_the_provider_refuses_is_told_so(place: Place) -> None:
    place.provider.refuses = "access_denied"
    page = place.browser().get(f"{LOGIN}?provider=sso")
    assert page.status == 403
    assert "access_denied" in page.text


def test_failures_at_a_provider_are_bounded_for_each_address(tmp_path: Path, provider: ProviderServer) -> None:
    with opened(tmp_path, provider, {"throttle": {"failures": 3, "seconds": 3600}}) as place:
        browser = place.browser()
        back = start(place, browser)
        invented = re.sub(r"code=[^&]*", "code=x", back)
        asked = len(provider.asked)
        for status in (400, 400, 400, 429, 429):
            assert browser.ask("GET", invented).status == status
        assert len([path for path in provider.asked[asked:] if path == "/token"]) == 3


@pytest.mark.parametrize(("text", "status"), [("/r/app?x=1", 303), ("//evil.example.org", 400), ("https://evil", 400)])
def test_a_login_leads_to_a_path_of_the_registry_and_never_elsewhere(place: Place, text: str, status: int) -> None:
    query = urlencode({"provider": "sso", "next": text})
    browser = place.browser()
    assert browser.ask("GET", f"{LOGIN}?{query}").status == status
    if status == 303:
        back = browser.ask("GET", browser.seen[-1].header("location")).header("location")
        assert browser.ask("GET", back).header("location") == text
    browser = place.browser()
    page = browser.get(LOGIN)
    fields = {**page.fields(), "user": "alice", "password": PASSWORD, "next": text}
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": HERE}
    answer = browser.ask("POST", LOGIN, urlencode(fields).encode(), headers)
    assert answer.status == status
    assert answer.header("location") == (text if status == 303 else "")


def test_logins_that_are_begun_leave_nothing_behind(place: Place) -> None:
    authentication = place.service.context.authentication
    assert authentication is not None
    for _ in range(100):
        assert place.browser().ask("GET", f"{LOGIN}?provider=sso").status == 303
        assert place.browser().get(LOGIN).status == 200
    assert place.sessions() == 0
    assert [path for path in place.provider.asked if path == "/token"] == []


def test_a_new_login_of_a_browser_ends_its_session_before(place: Place) -> None:
    browser = place.browser()
    log_in(browser)
    first = browser.cookie("session")
    browser.get(f"{LOGIN}?provider=sso")
    assert who(browser) == "oidc:sso/alice"
    browser.cookies["registry.test", "session"] = first
    assert who(browser) is None
    assert place.sessions() == 1


def test_a_user_with_another_password_is_logged_in_no_more(place: Place) -> None:
    browser = place.browser()
    log_in(browser)
    write_users(place.users, "another")
    place.look()
    assert who(browser) is None
    assert 'type="password"' in browser.get(LOGIN).text


def test_forms_of_several_tabs_do_not_disturb_each_other(place: Place) -> None:
    browser = place.browser()
    first, second = browser.get(LOGIN), browser.get(LOGIN)
    assert browser.submit(first, "/auth/login", user="alice", password="wrong").status == 401
    assert "<strong>alice</strong>" in browser.submit(second, "/auth/login", user="alice", password=PASSWORD).text


@pytest.mark.parametrize("path", ["/auth/login", "/auth/login?provider=sso", "/auth/callback?code=x&state=y"])
def test_a_registry_without_ways_to_log_in_says_so(tmp_path: Path, path: str) -> None:
    tried: list[dict[str, Any]] = [{}, {"access": {"rules": []}}, {"auth": {}}]
    for number, sections in enumerate(tried):
        directory = tmp_path / str(number)
        directory.mkdir()
        with serving(directory, sections) as service:
            reply = service.call("GET", path)
            assert reply.status == 404
            assert b"no login in a browser is configured" in reply.body


def test_what_clients_send_never_becomes_a_part_of_a_page(place: Place) -> None:
    evil = '"><script>alert(1)</script>'
    browser = place.browser()
    page = browser.get(f"{LOGIN}?{urlencode({'provider': evil})}")
    assert page.status == 404
    assert "<script" not in page.text
    place.provider.user = {"preferred_username": evil, "groups": [evil]}
    assert "<script" not in browser.get(f"{LOGIN}?provider=sso").text


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"x" * 20_000, "application/x-www-form-urlencoded", 400),
        (b"user=a&user=b", "application/x-www-form-urlencoded", 400),
        (b"{}", "application/json", 400),
        (b"user=%ff", "application/x-www-form-urlencoded", 400),
        (b"", "", 400),
    ],
)
def test_a_form_that_no_page_of_ours_sends_is_refused(place: Place, body: bytes, kind: str, status: int) -> None:
    browser = place.browser()
    browser.get(LOGIN)
    assert browser.ask("POST", LOGIN, body, {"Content-Type": kind, "Origin": HERE}).status == status


@pytest.mark.parametrize(
    "cookie",
    [
        "session=" + "x" * 40_000,
        "login=" + ".".join(["e30" * 6000] * 3),
        "; ".join(f"name{number}=value" for number in range(5000)),
        "session=" + "a" * 43 + "; session=" + "b" * 43,
        "session=\x00\xff'\"<script>",
        ";" * 10_000 + "=",
    ],
    ids=["long", "a long token", "many", "twice", "no text", "empty ones"],
)
def test_cookies_of_any_size_and_number_are_no_session(place: Place, cookie: str) -> None:
    for path, status in (("/auth/login", 200), ("/api/v1/session", 401), ("/auth/callback?code=x&state=y", 400)):
        assert place.service.call("GET", path, b"", {"Cookie": cookie}).status == status


def test_logins_that_fail_are_in_the_audit_log_by_form_and_at_a_provider(
    tmp_path: Path, provider: ProviderServer
) -> None:
    log = tmp_path / "audit"
    sections = {"log": {"audit": {"file": log}}}
    with opened(tmp_path, provider, {"throttle": {"failures": 2, "seconds": 300}}, **sections) as place:
        log_in(place.browser(), "wrong-word-7")
        provider.user = {"groups": ["dev"]}  # its ID token names no user
        for _ in range(3):
            place.browser().get(f"{LOGIN}?provider=sso")
        place.service.context.authentication.logins._throttle._buckets.clear()  # type: ignore[union-attr]
        provider.refuses = "access_denied"
        place.browser().get(f"{LOGIN}?provider=sso")
        foreign = {"Origin": "https://evil.example.org", "Content-Type": "application/x-www-form-urlencoded"}
        place.service.call("POST", "/auth/login", b"user=alice&password=x", foreign)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["event"], line["who"].get("name"), line["answer"]) for line in lines] == [
        ("login-failed", "alice", 401),
        ("login-failed", None, 401),
        ("login-failed", None, 401),
        ("throttled", None, 429),
        ("login-failed", None, 403),
        ("denied", "anonymous", 403),
    ]
    assert "identity provider sso refused the login (access_denied)" in lines[4]["reason"]
    assert "wrong-word-7" not in log.read_text()
