"""A registry with two users, one of them an administrator, and a provider; callers of every kind."""

from __future__ import annotations

import contextlib
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import bcrypt
import orjson

from registry.auth.identity import Identity, Kind
from tests.api.service import Reply, Service, serving
from tests.auth.oidc.server import AUDIENCE, CLIENT, SECRET, ProviderServer, provider_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORIGIN = "http://registry.test"
PASSWORDS = {"admin": "root-word-1", "bob": "builder-2", "carol": "singer-3"}
RULES: list[dict[str, Any]] = [
    {"who": ["admin"], "repositories": ["**"], "actions": ["*"]},
    {"who": ["bob"], "repositories": ["team/**"], "actions": ["push"]},
    {"who": ["carol"], "repositories": ["team/**"], "actions": ["admin"]},
    {"who": ["oidc:sso"], "repositories": ["dev/**"], "actions": ["pull"]},
    {"who": ["group:sso/ops"], "repositories": ["**"], "actions": ["admin"]},
]
Headers = dict[str, str]


class Place:
    """Calls of ``/api/v1``."""

    def __init__(self, service: Service, provider: ProviderServer, users: Path) -> None:
        self.service = service
        self.provider = provider
        self.users = users

    def call(self, method: str, path: str, caller: Headers, document: object = None) -> Reply:
        """Send a document, if there is one, as a caller of one of the methods below."""
        body = b"" if document is None else orjson.dumps(document)
        kind = {} if document is None else {"Content-Type": "application/json"}
        return self.service.call(method, path, body, {**kind, **caller})

    def token(self, user: str, scope: str = "repository:team/app:pull,push") -> Headers:
        """A token of the registry; of no user, an anonymous one."""
        reply = self.service.call("GET", f"/auth/token?scope={scope}", headers=basic(user) if user else {})
        return {"Authorization": f"Bearer {reply.json['token']}"}

    def session(self, user: str, origin: str | None = ORIGIN, *groups: str) -> Headers:
        """The session of a browser; a name with a slash is that of a user of the provider."""
        authentication = self.service.context.authentication
        assert authentication is not None
        assert authentication.logins is not None
        if "/" in user:
            [version] = [each.version for each in authentication.logins._providers.values()]
            identity = Identity(Kind.OIDC, user, frozenset(groups), credential=version)
        else:
            found = authentication.directory.find(Kind.USER, user)
            assert found is not None
            identity = found
        cookie = {"Cookie": f"session={authentication.logins.sessions.begin(identity)}"}
        return cookie if origin is None else {**cookie, "Origin": origin}

    def key(self, **wanted: object) -> tuple[str, Headers]:
        """A key that the administrator makes: its id, and what sends it."""
        reply = self.call("POST", "/api/v1/keys", basic("admin"), wanted)
        assert reply.status == 201, reply
        return reply.json["id"], basic("", reply.json["secret"])

    def look(self) -> None:
        """As the process does it twice a second."""
        assert self.service.context.authentication is not None
        self.service.context.authentication.directory.look()


def basic(user: str, password: str | None = None) -> Headers:
    given = PASSWORDS[user] if password is None else password
    return {"Authorization": f"Basic {b64encode(f'{user}:{given}'.encode()).decode()}"}


@contextlib.contextmanager
def opened(directory: Path, **auth: Any) -> Iterator[Place]:
    """A place with these settings of ``auth`` beside."""
    users = directory / "htpasswd"
    lines = (
        f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"
        for user, password in PASSWORDS.items()
    )
    users.write_text("".join(lines))
    with provider_server() as provider:
        login = {"client_id": CLIENT, "client_secret": SECRET}
        sso = {"name": "sso", "issuer": provider.issuer, "audiences": [AUDIENCE], "any_identity": True, "login": login}
        settings = {"htpasswd": {"file": users}, "oidc": [sso], "groups": {"staff": ["bob"]}, **auth}
        with serving(directory, {"auth": settings, "access": {"rules": RULES}}) as service:
            yield Place(service, provider, users)
