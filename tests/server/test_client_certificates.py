"""Identities of client certificates: by the connection itself, and by a proxy that is believed."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from base64 import b64encode, urlsafe_b64decode
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import pytest

from registry.auth.passwords.password_hash import PasswordHash
from tests.server.tls import TlsProcess
from tests.support.authority import Authority
from tests.support.nginx import Nginx
from tests.support.payloads import Blob, image
from tests.support.servers import HOST, RegistryProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.authority import Issued

CI = "spiffe://example.org/ci/app"
RULES = [
    {"who": ["cert:spiffe://example.org/ci/*"], "repositories": ["ci/**"], "actions": ["push", "delete"]},
    {"who": ["group:readers"], "repositories": ["ci/**"], "actions": ["pull"]},
    {"who": ["alice"], "repositories": ["team/**"], "actions": ["push"]},
    {"who": ["anonymous"], "repositories": ["public/**"], "actions": ["pull"]},
]
READER = "spiffe://example.org/reader"
CONFIG = Blob(b"{}")
IMAGE = image(CONFIG, [])
MANIFEST = "/v2/ci/app/manifests/one"
ALICE = f"Basic {b64encode(b'alice:wonderland').decode()}"


class Answer(NamedTuple):
    """What a client gets."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """One connection."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self._connection = (
            http.client.HTTPConnection(HOST, port, timeout=30)
            if context is None
            else http.client.HTTPSConnection(HOST, port, timeout=30, context=context)
        )

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, named)
        answer = self._connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def push(self, repository: str) -> list[int]:
        """Push an image of one blob; the statuses."""
        return [
            self.ask("POST", f"/v2/{repository}/blobs/uploads/?digest={CONFIG.digest}", CONFIG.data).status,
            self.ask("PUT", f"/v2/{repository}/manifests/one", IMAGE.data, Content_Type=IMAGE.media_type).status,
        ]

    def close(self) -> None:
        self._connection.close()


def auth(directory: Path, **certificates: str) -> dict[str, object]:
    users = directory / "htpasswd"
    users.write_text(f"alice:{PasswordHash.make('wonderland', 'bcrypt').text}\n")
    return {
        "htpasswd": {"file": str(users)},
        "groups": {"readers": [f"cert:{READER}"]},
        "certificates": certificates,
    }


class Place:
    """A registry over TLS that asks for certificates and needs none."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory / "authority")
        own = self.authority.server(HOST)
        tls = {
            "certificate": str(own.pem),
            "key": str(own.key),
            "client_ca": str(self.authority.pem),
            "client_auth": "optional",
        }
        config: dict[str, dict[str, object]] = {
            "http": {"tls": tls},
            "auth": auth(directory),
            "access": {"rules": RULES},
        }
        self.server = TlsProcess(directory, config)
        self.server.context = self.trusting()
        self._open: list[Client] = []

    def trusting(self, shown: Issued | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.pem)
        if shown is not None:
            context.load_cert_chain(shown.pem, shown.key)
        return context

    def client(self, *uris: str) -> Client:
        """A connection that shows a certificate with these names."""
        return self.connect(self.authority.client(*uris))

    def connect(self, shown: Issued | None = None) -> Client:
        self._open.append(Client(self.server.port, self.trusting(shown)))
        return self._open[-1]

    def close(self) -> None:
        for client in self._open:
            client.close()
        self._open.clear()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("certificates"))
    with place.server:
        yield place


@pytest.fixture
def place(running: Place) -> Iterator[Place]:
    yield running
    running.close()


def test_a_certificate_with_one_name_is_a_login_and_needs_no_challenge(place: Place) -> None:
    answer = place.client(CI).ask("GET", "/v2/")
    assert (answer.status, "www-authenticate" in answer.headers) == (200, False)
    for client in (place.connect(), place.client(), place.client(CI, "urn:other"), place.client("urn:*")):
        answer = client.ask("GET", "/v2/")
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer realm=")
    assert "a client certificate names no identity" in place.server.log_tail()


def test_a_certificate_has_the_rights_of_its_rules_also_for_answers_from_memory(place: Place) -> None:
    ci, reader, stranger = place.client(CI), place.client(READER), place.client("spiffe://example.org/else")
    assert ci.push("ci/app") == [201, 201]
    for _ in range(3):  # the first is not from memory
        assert reader.ask("GET", MANIFEST).body == IMAGE.data
        assert stranger.ask("GET", MANIFEST).status == 403
        assert place.connect().ask("GET", MANIFEST).status == 401
    assert reader.push("ci/app") == [403, 403]
    assert ci.push("team/app") == [403, 403]
    catalog = json.loads(reader.ask("GET", "/v2/_catalog").body)
    assert catalog["repositories"] == ["ci/app"]


def test_other_credentials_count_in_place_of_a_certificate(place: Place) -> None:
    ci = place.client(CI)
    assert ci.push("ci/other") == [201, 201]
    assert ci.ask("GET", "/v2/ci/other/manifests/one", Authorization=ALICE).status == 403
    assert ci.ask("POST", "/v2/team/app/blobs/uploads/", b"", Authorization=ALICE).status == 202
    wrong = b64encode(b"alice:wrong").decode()
    for value in (f"Basic {wrong}", "Bearer nonsense", "Digest x"):
        assert ci.ask("GET", "/v2/ci/other/manifests/one", Authorization=value).status == 401
    nothing = b64encode(b":").decode()
    assert ci.ask("GET", "/v2/ci/other/manifests/one", Authorization=f"Basic {nothing}").status == 200


def test_a_token_that_a_certificate_bought_is_good_on_any_connection(place: Place) -> None:
    ci = place.client(CI)
    assert ci.push("ci/token") == [201, 201]
    form = "grant_type=password&username=&password=&scope=repository:ci/token:pull"
    scope = "repository:ci/token:pull,push,delete"
    by_get = ci.ask("GET", f"/auth/token?scope={scope}&scope=repository:team/app:pull")
    by_post = ci.ask("POST", "/auth/token", form.encode(), Content_Type="application/x-www-form-urlencoded")
    for answer, actions in ((by_get, ["pull", "push", "delete"]), (by_post, ["pull"])):
        token = json.loads(answer.body)["token"]
        payload = token.split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        assert (claims["kind"], claims["sub"], len(claims["cred"])) == ("cert", CI, 16)
        assert claims["access"] == [{"type": "repository", "name": "ci/token", "actions": actions}]
        elsewhere = place.connect()
        bearer = f"Bearer {token}"
        assert elsewhere.ask("GET", "/v2/ci/token/manifests/one", Authorization=bearer).status == 200
        assert elsewhere.ask("GET", "/v2/team/app/manifests/one", Authorization=bearer).status == 403
    anonymous = place.connect().ask("GET", "/auth/token?scope=repository:ci/token:pull")
    assert json.loads(anonymous.body)["scope"] == ""


def test_the_history_of_a_repository_names_the_certificate(place: Place) -> None:
    assert place.client(CI).push("ci/history") == [201, 201]
    journal = place.server.root / "ci/history/.journal"
    assert f"cert:{CI}" in "".join(each.read_text() for each in journal.rglob("*") if each.is_file())


class Proxied(NamedTuple):
    """A registry over plain HTTP behind nginx, which verifies certificates and passes them on."""

    authority: Authority
    server: RegistryProcess
    proxy: Nginx

    def client(self, shown: Issued | None) -> Client:
        context = ssl.create_default_context(cafile=self.authority.pem)
        if shown is not None:
            context.load_cert_chain(shown.pem, shown.key)
        return Client(self.proxy.port, context)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    directory = tmp_path_factory.mktemp("proxied")
    authority = Authority(directory / "authority")
    given = auth(directory, header="X-Client-Cert")
    server = RegistryProcess(directory, {"auth": given, "access": {"rules": RULES}})
    proxy = Nginx(directory / "nginx", [server.port], tls=authority.server(HOST), client_ca=authority.pem)
    with server, proxy:
        yield Proxied(authority, server, proxy)


@pytest.mark.tools("nginx")
def test_a_trusted_proxy_passes_certificates_on_and_clients_cannot(proxied: Proxied) -> None:
    shown = proxied.authority.client(CI)
    with closing(proxied.client(shown)) as ci:
        assert ci.ask("GET", "/v2/").status == 200
        assert ci.push("ci/proxied") == [201, 201]
        assert ci.ask("GET", "/v2/ci/proxied/manifests/one").body == IMAGE.data
    claimed = quote(shown.pem.read_bytes(), safe="")
    with closing(proxied.client(None)) as without:
        answer = without.ask("GET", "/v2/ci/proxied/manifests/one", X_Client_Cert=claimed)
    assert answer.status == 401
    assert f'realm="https://{HOST}:{proxied.proxy.port}/auth/token"' in answer.headers["www-authenticate"]
    with closing(Client(proxied.server.port, None)) as this_machine:  # which is believed by default
        assert this_machine.ask("GET", "/v2/", X_Client_Cert=claimed).status == 200


def test_a_header_from_a_machine_that_is_not_believed_is_no_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    claimed = quote(authority.client(CI).pem.read_bytes(), safe="")
    given = auth(tmp_path, header="X-Client-Cert")
    http_section = {"trusted_proxies": ["192.0.2.1"]}
    server = RegistryProcess(tmp_path, {"http": http_section, "auth": given, "access": {"rules": RULES}})
    with server, closing(Client(server.port, None)) as client:
        assert client.ask("GET", "/v2/", X_Client_Cert=claimed).status == 401


def test_a_session_that_is_resumed_has_the_certificate_that_began_it(place: Place) -> None:
    context = place.trusting(place.authority.client(CI))
    sessions: list[ssl.SSLSession | None] = []
    for _ in range(3):
        resumed = sessions[-1] if sessions else None
        with (
            socket.create_connection((HOST, place.server.port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname=HOST, session=resumed) as connection,
        ):
            connection.sendall(f"GET /v2/ HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            assert connection.session_reused is (resumed is not None)
            sessions.append(connection.session)  # the ticket came before the answer
