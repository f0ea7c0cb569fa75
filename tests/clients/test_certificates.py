"""Clients that show a certificate in place of a password, and those that cannot.

docker takes loopback addresses for insecure ones, and shows them no certificate: it calls the registry by a name.
"""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.clients.daemon import DockerDaemon
from tests.clients.layouts import tagged
from tests.clients.tunnel import Tunnel
from tests.server.tls import TlsProcess
from tests.support.authority import Authority
from tests.support.servers import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.layouts import Layout
    from tests.support.authority import Issued

pytestmark = [pytest.mark.clients, pytest.mark.local_storage("the kind of store makes no difference")]

NAME = "registry.invalid"
"""A name that no resolver knows: docker asks the tunnel for it."""
CI = "spiffe://example.org/ci"
RULES = [{"who": [f"cert:{CI}"], "repositories": ["ci/**"], "actions": ["push"]}]


class Place(NamedTuple):
    """A registry that a certificate of its authority may push to."""

    server: TlsProcess
    authority: Authority
    shown: Issued

    @property
    def address(self) -> str:
        return self.server.address

    def digest(self, repository: str) -> str | None:
        """The digest of the tag 1, as the certificate sees it."""
        context = ssl.create_default_context(cafile=self.authority.pem)
        context.load_cert_chain(self.shown.pem, self.shown.key)
        connection = HTTPSConnection(HOST, self.server.port, timeout=30, context=context)
        try:
            connection.request("HEAD", f"/v2/{repository}/manifests/1")
            return connection.getresponse().getheader("Docker-Content-Digest")
        finally:
            connection.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("certificates")
    authority = Authority(directory / "authority")
    own = authority.server(HOST, NAME)
    tls = {
        "certificate": str(own.pem),
        "key": str(own.key),
        "client_ca": str(authority.pem),
        "client_auth": "optional",
    }
    config: dict[str, dict[str, Any]] = {
        "http": {"tls": tls},
        "auth": {"certificates": {}},
        "access": {"rules": RULES},
    }
    server = TlsProcess(directory, config)
    server.context = ssl.create_default_context(cafile=authority.pem)
    with server:
        yield Place(server, authority, authority.client(CI))


@pytest.mark.tools("skopeo")
def test_skopeo_and_so_podman_find_certificates_in_a_directory(
    place: Place, new_client: Callable[[str], Client], layout: Layout, tmp_path: Path
) -> None:
    skopeo, reference = new_client("skopeo"), f"{place.address}/ci/skopeo:1"
    certificates = push(skopeo, place, layout, reference, tmp_path)
    assert place.digest("ci/skopeo") == tagged(layout.directory, "single")["digest"]
    pull = ("copy", f"--src-cert-dir={certificates}", f"docker://{reference}", f"oci:{tmp_path}/back:1")
    skopeo.run(*pull)
    for name in ("client.cert", "client.key"):
        (certificates / name).unlink()
    skopeo.fails(*pull, saying="unauthorized")


def push(skopeo: Client, place: Place, layout: Layout, reference: str, directory: Path) -> Path:
    """Push an image; the directory with certificates, as docker and podman have it for each registry."""
    certificates = keep_certificates(directory / "certs.d", place)
    image = f"oci:{layout.directory}:single"
    skopeo.run("copy", "--preserve-digests", f"--dest-cert-dir={certificates}", image, f"docker://{reference}")
    return certificates


def keep_certificates(directory: Path, place: Place) -> Path:
    """Make a directory of certificates for one registry, under the names that docker and podman know."""
    directory.mkdir(parents=True)
    for name, source in (
        ("ca.crt", place.authority.pem),
        ("client.cert", place.shown.pem),
        ("client.key", place.shown.key),
    ):
        shutil.copy(source, directory / name)
    return directory


@pytest.mark.tools("docker", "dockerd", "unshare")
def test_docker_finds_certificates_in_the_directory_of_its_daemon(place: Place, tmp_path: Path) -> None:
    host = f"{NAME}:{place.server.port}"
    settings, reference = tmp_path / "etc-docker", f"{host}/ci/docker:1"
    certificates = keep_certificates(settings / "certs.d" / host, place)
    with (
        Tunnel(place.server.port) as tunnel,
        DockerDaemon(tmp_path / "d", settings=settings, proxy=tunnel.url) as daemon,
    ):
        docker = daemon.client(tmp_path / "docker")
        docker.run("import", "-", reference, stdin=b"\0" * 10240)
        docker.run("push", reference)
        assert place.digest("ci/docker") is not None
        daemon.forget_images(docker)
        docker.run("pull", reference)
        docker.run("tag", reference, f"{host}/other/docker:1")
        docker.fails("push", f"{host}/other/docker:1", saying="denied")
        daemon.forget_images(docker)
        for name in ("client.cert", "client.key"):
            (certificates / name).unlink()
        docker.fails("pull", reference, saying="denied")


@pytest.mark.tools("crane")
def test_crane_cannot_show_a_certificate_and_says_what_it_lacks(
    place: Place, new_client: Callable[[str], Client], layout: Layout, tmp_path: Path
) -> None:
    crane = new_client("crane")
    crane.environment["SSL_CERT_FILE"] = str(place.authority.pem)
    crane.fails("push", "--index", layout.directory, f"{place.address}/ci/crane:1", saying="unauthorized")
    assert "cert" not in crane.run("push", "--help").lower(), "it could by now"


@pytest.mark.tools("regctl")
def test_regctl_shows_a_certificate(place: Place, new_client: Callable[[str], Client], layout: Layout) -> None:
    regctl, reference = new_client("regctl"), f"{place.address}/ci/regctl:1"
    files = {"cacert": place.authority.pem, "client-cert": place.shown.pem, "client-key": place.shown.key}
    options = (f"--{name}={path.read_text()}" for name, path in files.items())
    regctl.run("registry", "set", "--skip-check", *options, place.address)
    regctl.run("image", "copy", f"ocidir://{layout.directory}:single", reference)
    assert place.digest("ci/regctl") == tagged(layout.directory, "single")["digest"]


@pytest.mark.tools("oras")
def test_oras_shows_a_certificate(place: Place, new_client: Callable[[str], Client], layout: Layout) -> None:
    files = {"ca-file": place.authority.pem, "cert-file": place.shown.pem, "key-file": place.shown.key}
    options = [f"--to-{name}={path}" for name, path in files.items()]
    source = f"{layout.directory}:single"
    new_client("oras").run("cp", "--from-oci-layout", *options, source, f"{place.address}/ci/oras:1")
    assert place.digest("ci/oras") == tagged(layout.directory, "single")["digest"]


@pytest.mark.tools("helm")
def test_helm_shows_a_certificate(place: Place, new_client: Callable[[str], Client]) -> None:
    helm = new_client("helm")
    helm.run("create", "chart")
    helm.run("package", "chart", "--version=1")
    files = {"ca-file": place.authority.pem, "cert-file": place.shown.pem, "key-file": place.shown.key}
    options = [f"--{name}={path}" for name, path in files.items()]
    helm.run("push", "chart-1.tgz", f"oci://{place.address}/ci/helm", *options)
    assert place.digest("ci/helm/chart") is not None


@pytest.mark.tools("ctr", "containerd", "skopeo")
def test_containerd_shows_a_certificate(
    place: Place, ctr: Client, new_client: Callable[[str], Client], layout: Layout, tmp_path: Path
) -> None:
    reference = f"{place.address}/ci/ctr:1"
    push(new_client("skopeo"), place, layout, reference, tmp_path)
    hosts = tmp_path / "hosts.d"
    (hosts / place.address).mkdir(parents=True)
    pull = ("images", "pull", "--snapshotter=native", f"--hosts-dir={hosts}", reference)
    for shown, succeeds in (("", False), (f'client = [["{place.shown.pem}", "{place.shown.key}"]]', True)):
        (hosts / place.address / "hosts.toml").write_text(
            f'server = "https://{place.address}"\n[host."https://{place.address}"]\n'
            f'ca = "{place.authority.pem}"\n{shown}\n'
        )
        if succeeds:
            ctr.run(*pull)
        else:
            ctr.fails(*pull, saying="authorization failed")


@pytest.mark.tools("curl")
def test_curl_shows_a_certificate(place: Place) -> None:
    shown: list[str | Path] = ["--cert", place.shown.pem, "--key", place.shown.key]
    options = ["--silent", "--fail", "--cacert", place.authority.pem, *shown]
    done = subprocess.run(
        ["curl", *options, f"https://{place.address}/v2/_catalog"], check=True, capture_output=True, timeout=60
    )
    assert "repositories" in json.loads(done.stdout)
