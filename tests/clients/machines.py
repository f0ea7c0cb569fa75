"""Machines: one client program each, with a home of its own, that log in to one registry, push, pull and copy.

Those with an image store: ``stores.py``.
"""

from __future__ import annotations

import re
import subprocess
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Self

import pytest

from tests.clients.guarded import PASSWORDS
from tests.clients.layouts import layout_content, tagged

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.mark.structures import ParameterSet

    from tests.clients.client import Client

    Done = subprocess.CompletedProcess[bytes]


class Machine(ABC):
    """It has not logged in. What its commands did is for the caller to judge: ``succeeded``, ``refused``."""

    tools: ClassVar[tuple[str, ...]]
    """The programs it needs, the client first."""
    asks_at_login: ClassVar[bool] = True
    """Whether a wrong password shows at login, not with the next command."""

    def __init__(self, client: Client, address: str) -> None:
        self.client = client
        self.address = address

    @abstractmethod
    def login(self, user: str, password: str) -> Done:
        """Log in."""

    def logged_in(self, user: str) -> Self:
        """Log in with the user's password; returns itself."""
        succeeded(self.login(user, PASSWORDS[user]))
        return self


class Transporter(Machine):
    """A machine that pushes images and pulls them."""

    @abstractmethod
    def push(self, layout: Path, reference: str) -> Done:
        """Push the image `single` of a layout."""

    @abstractmethod
    def pull(self, reference: str, into: Path) -> Done:
        """Pull an image, into a directory if the program can write a layout."""

    def pulled(self, _reference: str, into: Path) -> str:
        """The digest of what was pulled, all of whose bytes are there."""
        assert layout_content(into)
        return str(tagged(into)["digest"])


class Copier(Machine):
    """A machine that copies between repositories of its registry, and asks for mounts."""

    @abstractmethod
    def copy(self, source: str, target: str) -> Done:
        """Copy an image."""


class Keeper(Copier):
    """A machine that keeps what it has fetched and remembers from where, for the mounts of later pushes."""

    @abstractmethod
    def fetch(self, source: str) -> Done:
        """Pull an image."""

    @abstractmethod
    def send(self, source: str, target: str) -> Done:
        """Push what was fetched from a source."""

    def copy(self, source: str, target: str) -> Done:
        succeeded(self.fetch(source))
        return self.send(source, target)


class Crane(Transporter, Copier):
    """crane speaks HTTP to loopback addresses by itself."""

    tools = ("crane",)
    asks_at_login = False

    def login(self, user: str, password: str) -> Done:
        return self.client.execute("auth", "login", self.address, "--username", user, "--password", password)

    def push(self, layout: Path, reference: str) -> Done:
        return self.client.execute("push", layout, reference)

    def pull(self, reference: str, into: Path) -> Done:
        return self.client.execute("pull", "--format=oci", reference, into)

    def copy(self, source: str, target: str) -> Done:
        return self.client.execute("copy", source, target)


class Skopeo(Transporter, Keeper):
    """skopeo."""

    tools = ("skopeo",)

    def login(self, user: str, password: str) -> Done:
        account = ("--username", user, "--password", password)
        return self.client.execute("login", "--tls-verify=false", *account, self.address)

    def push(self, layout: Path, reference: str) -> Done:
        return self._copy("--dest-tls-verify=false", f"oci:{layout}:single", f"docker://{reference}")

    def pull(self, reference: str, into: Path) -> Done:
        return self._copy("--src-tls-verify=false", f"docker://{reference}", f"oci:{into}:single")

    def fetch(self, source: str) -> Done:
        return self.pull(source, self.client.home / "kept")

    def send(self, source: str, target: str) -> Done:
        del source
        return self.push(self.client.home / "kept", target)

    def _copy(self, *arguments: str) -> Done:
        return self.client.execute("copy", "--preserve-digests", *arguments)


class Oras(Transporter, Copier):
    """oras, and so what helm and notation do: one library."""

    tools = ("oras",)

    def login(self, user: str, password: str) -> Done:
        account = ("--username", user, "--password", password)
        return self.client.execute("login", "--plain-http", *account, self.address)

    def push(self, layout: Path, reference: str) -> Done:
        return self.client.execute("cp", "--from-oci-layout", "--to-plain-http", f"{layout}:single", reference)

    def pull(self, reference: str, into: Path) -> Done:
        return self.client.execute("cp", "--from-plain-http", "--to-oci-layout", reference, f"{into}:single")

    def copy(self, source: str, target: str) -> Done:
        return self.client.execute("cp", "--from-plain-http", "--to-plain-http", source, target)


class Regctl(Transporter, Copier):
    """regctl."""

    tools = ("regctl",)

    def __init__(self, client: Client, address: str) -> None:
        super().__init__(client, address)
        client.run("registry", "set", "--tls=disabled", "--skip-check", address)

    def login(self, user: str, password: str) -> Done:
        return self.client.execute("registry", "login", "--user", user, "--pass", password, self.address)

    def push(self, layout: Path, reference: str) -> Done:
        return self.copy(f"ocidir://{layout}:single", reference)

    def pull(self, reference: str, into: Path) -> Done:
        return self.copy(reference, f"ocidir://{into}:single")

    def copy(self, source: str, target: str) -> Done:
        return self.client.execute("image", "copy", source, target)


def kinds(*given: type[Machine]) -> list[ParameterSet]:
    """Parameters of a test, each of which needs its programs."""
    return [pytest.param(kind, marks=pytest.mark.tools(*kind.tools), id=kind.tools[0]) for kind in given]


def succeeded(done: Done) -> str:
    """What the command wrote; it must have succeeded."""
    assert done.returncode == 0, f"{done.args} exited with {done.returncode}:\n{_said(done)}"
    return done.stdout.decode().strip()


def refused(done: Done, pattern: str = "denied|unauthorized|authorization|40[13]") -> None:
    """The command must have failed, and say why in words that match the pattern."""
    assert done.returncode != 0, f"{done.args} succeeded:\n{_said(done)}"
    assert re.search(pattern, _said(done), re.IGNORECASE), f"{done.args} does not say {pattern}:\n{_said(done)}"


def _said(done: Done) -> str:
    return (done.stdout + done.stderr).decode(errors="replace").strip()
