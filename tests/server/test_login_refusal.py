"""Login refusal: what a flood of logins is answered at the door is what its route would say, and nothing else is."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import bcrypt
import pytest
from uvicorn.server import ServerState

from registry.api.token import ROUTE
from registry.auth.credentials import Basic
from registry.auth.passwords.password_hash import PasswordHash
from registry.oci.errors import Unauthorized
from registry.server.protocol import RegistryProtocol
from registry.server.serving_configuration import ServingConfiguration
from tests.api.service import Service, serving
from tests.server.remembered import TIMEOUT, request
from tests.server.test_protocol import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry.api.cache.lookup import CachedAnswer
    from registry.auth.authenticators import Authenticators

PASSWORDS = {"alice": "wonderland", "bob": "builder"}
HERE = "192.0.2.1"
Headers = list[tuple[bytes, bytes]]


class Line(NamedTuple):
    """What the log of requests has of one."""

    request_id: str
    method: str
    path: str
    status: int
    client: str
    agent: str | None
    code: str


class Place:
    """A process whose hashes wait for a gate, and whose pool has room for one verification and one that waits."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.gate = threading.Event()
        self.gate.set()
        self.lines: list[Line] = []
        self.counted: list[tuple[str, int]] = []
        self.refusal: Any = service.observation.login_refusal
        authentication: Any = service.context.authentication
        self.authenticators: Authenticators = authentication.authenticators
        self.pool = authentication._pool
        self.pool._free = self.pool._most = 1
        self._running: list[asyncio.Task[object]] = []

    def find(self, headers: Headers, method: bytes = b"GET", path: bytes = b"/auth/token") -> CachedAnswer | None:
        """As the protocol asks."""
        peer = self.service.context.access.peer(HERE, None)
        return cast("CachedAnswer | None", self.refusal.find(method, path, headers, peer))

    async def fill(self, logins: int = 2) -> None:
        """Let so many wait, of as many users, until there is no room for one more from their address."""
        self.gate.clear()
        for number in range(logins):
            login = self.authenticators.of_password(Basic(f"user{number}", "guess"), HERE)
            self._running.append(asyncio.ensure_future(login))
        async with asyncio.timeout(TIMEOUT):
            while self.pool.has_room(HERE):  # noqa: ASYNC110 - it tells nothing when it is full
                await asyncio.sleep(0)

    async def drain(self) -> None:
        self.gate.set()
        await asyncio.gather(*self._running, return_exceptions=True)


def basic(user: str, password: str) -> Headers:
    return [(b"authorization", b"Basic " + b64encode(f"{user}:{password}".encode()))]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    users = tmp_path / "htpasswd"
    users.write_text(
        "".join(f"{u}:{bcrypt.hashpw(p.encode(), bcrypt.gensalt(4)).decode()}\n" for u, p in PASSWORDS.items())
    )
    with serving(tmp_path, {"auth": {"htpasswd": {"file": users}, "throttle": {"failures": 3}}}) as service:
        made = Place(service)
        verify = PasswordHash.verify

        def wait(stored: PasswordHash, password: str) -> bool:
            assert made.gate.wait(TIMEOUT)
            return verify(stored, password)

        monkeypatch.setattr(PasswordHash, "verify", wait)
        yield made
        made.gate.set()


def test_nothing_is_refused_while_there_is_room(place: Place) -> None:
    assert place.find(basic("alice", "guess")) is None


def test_a_login_without_room_gets_the_answer_of_its_route(place: Place) -> None:
    async def story() -> None:
        await place.fill()
        headers = basic("alice", "guess")
        found = place.find(headers)
        assert found is not None
        routed = await place.service.send("GET", ROUTE, headers=[(n.decode(), v.decode()) for n, v in headers])
        assert (found.status, found.body) == (routed.status, routed.body) == (503, found.body)
        told = {name.decode(): value.decode() for name, value in found.headers()}
        assert told.pop("x-request-id") != routed.headers["x-request-id"]
        assert told == {name: value for name, value in routed.headers.items() if name != "x-request-id"}
        await place.drain()
        assert place.find(headers) is None

    place.service.run(story())


def test_it_is_counted_and_has_its_line_in_the_log(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    class Log:
        def add(self, request_id: str, method: str, path: str, status: int, *rest: Any) -> None:
            place.lines.append(Line(request_id, method, path, status, *rest[5:]))

    class Tally:
        def add(self, route: str, _method: str, status: int, *_rest: Any) -> None:
            place.counted.append((route, status))

    monkeypatch.setattr(place.refusal, "_log", Log())
    monkeypatch.setattr(place.refusal, "_tally", Tally())

    async def story() -> None:
        await place.fill()
        found = place.find([*basic("alice", "guess"), (b"user-agent", b"docker/1")])
        assert found is not None
        (line,) = place.lines
        assert line == Line(found.request_id.decode(), "GET", ROUTE, 503, HERE, "docker/1", "UNAVAILABLE")
        assert place.counted == [(ROUTE, 503)]
        await place.drain()

    place.service.run(story())


def test_what_needs_no_hash_or_is_something_else_is_for_its_route(place: Place) -> None:
    async def story() -> None:
        login = place.authenticators.of_password
        await login(Basic("alice", PASSWORDS["alice"]), HERE)
        for user, guess in (("bob", "wrong"), ("carol", "a"), ("carol", "b"), ("carol", "c")):
            with pytest.raises(Unauthorized):
                await login(Basic(user, guess), HERE)
        await place.fill()
        assert place.find(basic("bob", "guess")) is not None
        for headers in (
            basic("alice", PASSWORDS["alice"]),  # remembered
            basic("bob", "wrong"),  # known to be wrong
            basic("carol", "guess"),  # throttled
            basic("user0", "guess"),  # on its way already
            basic("any", "stw_key"),
            basic("any", "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl"),
            basic("", ""),
            [],
            [(b"authorization", b"Bearer x")],
            [(b"authorization", b"Basic ?")],
            basic("bob", "guess") * 2,
            [*basic("bob", "guess"), (b"content-length", b"3")],
            [*basic("bob", "guess"), (b"transfer-encoding", b"chunked")],
        ):
            assert place.find(headers) is None, headers
        assert place.find(basic("bob", "guess"), b"POST") is None
        assert place.find(basic("bob", "guess"), b"HEAD") is None
        assert place.find(basic("bob", "guess"), path=b"/v2/") is None
        await place.drain()

    place.service.run(story())


def test_an_address_that_waits_for_less_than_another_is_not_refused(place: Place) -> None:
    place.pool._most = 2

    async def story() -> None:
        await place.fill(3)
        assert not place.authenticators.has_room(Basic("bob", "guess"), HERE)
        assert place.authenticators.has_room(Basic("bob", "guess"), "198.51.100.7")
        await place.drain()

    place.service.run(story())


def test_the_protocol_writes_it_without_a_task_and_goes_on(place: Place) -> None:
    line = "Authorization: " + basic("alice", "guess")[0][1].decode()

    async def story() -> None:
        configuration = ServingConfiguration(
            place.service.observation,
            place.service.context.settings.http,
            ws="none",
            proxy_headers=False,
            log_config=None,
        )
        protocol, wire = RegistryProtocol(configuration, ServerState(), {}), Wire()
        protocol.connection_made(cast("asyncio.Transport", wire))
        await place.fill()
        protocol.data_received(request("GET", f"{ROUTE}?service=registry", line) + request("GET", ROUTE, line))
        assert wire.written.count(b"HTTP/1.1 503 ") == 2
        assert cast("object", protocol.cycle) is None
        assert protocol.server_state.total_requests == 2
        assert not wire.closed
        protocol.data_received(request("GET", "/livez"))
        async with asyncio.timeout(TIMEOUT):
            while b"HTTP/1.1 200" not in wire.written:  # noqa: ASYNC110 - the transport that would tell is the test
                await asyncio.sleep(0.01)
        protocol.connection_lost(None)
        await place.drain()

    place.service.run(story())
