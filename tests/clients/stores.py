"""Machines with image stores: podman, buildah, docker, and containerd as a node of a cluster uses it."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import tarfile
import weakref
from itertools import count
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from tests.clients.layouts import tagged
from tests.clients.machines import Keeper, Transporter, succeeded

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clients.client import Client

    Done = subprocess.CompletedProcess[bytes]

_numbers = count()


class _Store(Transporter):
    """A program with an image store, which makes a manifest of its own for what it pushes."""

    places: tuple[str, ...]
    """Where the store is."""

    def login(self, user: str, password: str) -> Done:
        account = ("--username", user, "--password", password)
        return self._execute("login", "--tls-verify=false", *account, self.address)

    def push(self, layout: Path, reference: str) -> Done:
        image = succeeded(self._execute("pull", "--quiet", f"oci:{layout}:single")).split()[-1]
        return self._execute("push", "--tls-verify=false", image, f"docker://{reference}")

    def pull(self, reference: str, into: Path) -> Done:
        del into
        return self._execute("pull", "--tls-verify=false", reference)

    def _execute(self, *arguments: str) -> Done:
        return self.client.execute(*self.places, *arguments)


class Podman(_Store):
    """podman. It refuses a directory for what runs of more than 50 characters."""

    tools = ("podman",)

    def __init__(self, client: Client, address: str) -> None:
        super().__init__(client, address)
        runs = mkdtemp(prefix="podman")
        weakref.finalize(self, shutil.rmtree, runs, ignore_errors=True)
        self.places = (
            f"--root={client.home}/root",
            f"--runroot={runs}",
            f"--tmpdir={client.home / 'tmp'}",
            "--storage-driver=vfs",
            "--events-backend=none",
        )

    def pulled(self, reference: str, into: Path) -> str:
        del into
        return succeeded(self._execute("image", "inspect", "--format={{.Digest}}", reference))


class Buildah(_Store):
    """buildah."""

    tools = ("buildah",)

    def __init__(self, client: Client, address: str) -> None:
        super().__init__(client, address)
        self.places = (f"--root={client.home}/root", f"--runroot={client.home}/run", "--storage-driver=vfs")

    def pulled(self, reference: str, into: Path) -> str:
        del into
        return succeeded(self._execute("inspect", "--type=image", "--format={{.FromImageDigest}}", reference))


class Ctr(Transporter, Keeper):
    """ctr, in a namespace of its own of one containerd; it takes the password with each command, as kubelet does."""

    tools = ("ctr", "containerd")
    asks_at_login = False

    def __init__(self, client: Client, address: str) -> None:
        super().__init__(client, address)
        self._namespace = f"machine-{next(_numbers)}"
        self._account: tuple[str, ...] = ()

    def login(self, user: str, password: str) -> Done:
        self._account = ("--user", f"{user}:{password}")
        return subprocess.CompletedProcess([], 0, b"", b"")

    def push(self, layout: Path, reference: str) -> Done:
        archive = self.client.home / "image.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(layout, arcname=".", filter=lambda member: None if member.name == "./index.json" else member)
            entry = {**tagged(layout, "single"), "annotations": {"io.containerd.image.name": reference}}
            index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
            member = tarfile.TarInfo("index.json")
            member.size = len(index)
            tar.addfile(member, io.BytesIO(index))
        succeeded(self._images("import", "--no-unpack", archive))
        return self._push(reference)

    def pull(self, reference: str, into: Path) -> Done:
        del into
        return self._images("pull", "--snapshotter=native", "--plain-http", *self._account, reference)

    def pulled(self, reference: str, into: Path) -> str:
        del into
        line = succeeded(self._images("list", f"name=={reference}"))
        found = re.search(r"sha256:\w{64}", line)
        assert found, line
        return found[0]

    def fetch(self, source: str) -> Done:
        return self.pull(source, self.client.home)

    def send(self, source: str, target: str) -> Done:
        succeeded(self._images("tag", source, target))
        return self._push(target)

    def _push(self, reference: str) -> Done:
        """Push, again where ctr crashed: a refusal that comes early closes its writer under another of its threads."""
        for _ in range(4):
            done = self._images("push", "--plain-http", *self._account, reference)
            if not re.search(rb"panic: (send on|close of) closed channel", done.stderr):
                break
        return done

    def _images(self, *arguments: str | Path) -> Done:
        return self.client.execute("--namespace", self._namespace, "images", *arguments)


class Docker(Keeper):
    """docker: its daemon remembers where layers came from. It has no way to push a layout."""

    tools = ("docker", "dockerd")

    def login(self, user: str, password: str) -> Done:
        account = ("--username", user, "--password-stdin")
        return self.client.execute("login", *account, self.address, stdin=password.encode())

    def fetch(self, source: str) -> Done:
        return self.client.execute("pull", source)

    def send(self, source: str, target: str) -> Done:
        succeeded(self.client.execute("tag", source, target))
        return self.client.execute("push", target)
