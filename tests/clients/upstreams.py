"""Registries of other organisations for mirrors: ours with tokens, distribution with passwords behind TLS, and zot."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import bcrypt

from tests.clients.guarded import write_users
from tests.clients.proxies import HalfSpeakingNginx, Proxy
from tests.support.authority import Authority
from tests.support.program import Program
from tests.support.servers import HOST, RegistryProcess
from tests.support.tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.layouts import Layout

USER, PASSWORD = "alice", "wonderland"
CREDENTIALS = f"{USER}:{PASSWORD}"
_ZOT = "zot"
_RULES = [{"who": [USER], "repositories": ["**"], "actions": ["*"]}]


class Server(Protocol):
    """What an upstream runs on."""

    @property
    def address(self) -> str:
        """``host:port`` for HTTP."""

    def start(self) -> None:
        """Return once it answers."""

    def stop(self) -> None:
        """Return once it has ended."""


class Distribution(Program):
    """`registry` of docker distribution, with a file of passwords."""

    name: ClassVar[str] = "registry"

    def command(self) -> list[str]:
        """Write users and configuration; return the command."""
        users = self.directory / "users"
        users.write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n", encoding="utf-8")
        config = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.directory / "storage")}},
            "http": {"addr": self.address, "relativeurls": True},
            "auth": {"htpasswd": {"realm": "upstream", "path": str(users)}},
        }
        path = self.directory / "config.yml"
        path.write_text(json.dumps(config), encoding="utf-8")
        return [str(tool(self.name)), "serve", str(path)]

    def ready(self) -> bool:
        """Whether it answers."""
        return self.answers("/")


class Zot(Program):
    """`zot` that every client may use."""

    name: ClassVar[str] = _ZOT

    def command(self) -> list[str]:
        """Write the configuration; return the command."""
        config = {
            "storage": {"rootDirectory": str(self.directory / "storage"), "gc": False},
            "http": {"address": HOST, "port": str(self.port), "compat": ["docker2s2"]},
            "log": {"level": "error"},
        }
        path = self.directory / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        return [str(tool(self.name)), "serve", str(path)]

    def ready(self) -> bool:
        """Whether it answers."""
        return self.answers("/v2/")


class Upstream:
    """One of them, and the settings of a mirror of it."""

    def __init__(self, name: str, prefix: str, server: Server, **settings: Any) -> None:
        self.name = name
        self.prefix = prefix
        self._server = server
        self._settings = {"url": [f"http://{server.address}"], **settings}

    def section(self, password: Path) -> dict[str, Any]:
        """The section of ``mirrors``; ``password`` is the file with that of its user."""
        credentials = {"kind": "basic", "username": USER, "password_file": str(password)}
        own = {} if self.name == _ZOT else {"credentials": credentials}
        return {"name": self.name, "prefix": self.prefix, "proxy": None, "ttl": 0, **own, **self._settings}

    @property
    def second_prefix(self) -> str:
        """The prefix of another mirror of it, for tests that ask so often while it is away that it is given up."""
        return f"second/{self.name}"

    def second(self, password: Path) -> dict[str, Any]:
        """The section of that mirror."""
        own = {"name": f"second-{self.name}", "prefix": self.second_prefix, "namespaces": [], "hosts": []}
        return self.section(password) | own

    def address(self, repository: str) -> str:
        """Where a repository is at the upstream itself, for clients that know the password and speak HTTP."""
        return f"{self._server.address}/{repository}"

    def push(self, skopeo: Client, layout: Layout, tag: str, repository: str, *, form: str | None = None) -> bytes:
        """Push an image or index of a layout as tag 1, in another format if need be; return its manifest's bytes."""
        exact = ["--preserve-digests"] if form is None else [f"--format={form}"]
        to = ["--dest-tls-verify=false", f"--dest-creds={CREDENTIALS}"]
        reference = f"docker://{self.address(repository)}:1"
        skopeo.run("copy", "--all", *exact, *to, f"oci:{layout.directory}:{tag}", reference)
        return skopeo.output("inspect", "--raw", "--tls-verify=false", f"--creds={CREDENTIALS}", reference)

    @contextmanager
    def away(self) -> Iterator[None]:
        """The upstream does not run."""
        self._server.stop()
        try:
            yield
        finally:
            self._server.start()


@contextmanager
def upstreams(directory: Path) -> Iterator[dict[str, Upstream]]:
    """Run all of them; by their names."""
    users = write_users(directory / "users", {USER: PASSWORD})
    own = RegistryProcess(directory / "own", {"auth": {"htpasswd": {"file": str(users)}}, "access": {"rules": _RULES}})
    distribution, zot = Distribution(directory / "distribution"), Zot(directory / "zot")
    authority = Authority(directory / "authority")
    proxy = Proxy(("Host $http_host", "X-Forwarded-Proto https"), tls=True)
    front = HalfSpeakingNginx(directory / "front", distribution.address, proxy, authority.server(HOST))
    with own, distribution, zot, front:
        hub = {"url": [f"https://{front.address}"], "ca": str(authority.pem)}
        entrances = {"namespaces": ["docker.io"], "hosts": ["localhost"]}
        found = [
            Upstream("own", "own.example.org", own),
            Upstream("hub", "docker.io", distribution, **hub, **entrances),
            Upstream(_ZOT, "zot.example.org", zot),
        ]
        yield {each.name: each for each in found}
