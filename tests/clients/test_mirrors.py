"""Mirrors of real registries through clients without a daemon: the same bytes, also without the upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    blob_path,
    digest_of,
    layout_content,
    tagged,
)
from tests.clients.upstreams import CREDENTIALS, PASSWORD, USER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.clients.client import Client
    from tests.clients.layouts import Layout
    from tests.clients.mirrors import Mirrors

pytestmark = [pytest.mark.clients, pytest.mark.tools("skopeo", "registry", "zot", "nginx")]
each_upstream = pytest.mark.parametrize("name", ["own", "hub", "zot"])
NOTE = "application/vnd.stowage.note"


@pytest.mark.tools("crane")
@each_upstream
def test_crane_pulls_an_index_whole_and_again_without_the_upstream(
    mirrors: Mirrors, new_client: Callable[[str], Client], layout: Layout, tmp_path: Path, name: str
) -> None:
    upstream, crane = mirrors.upstreams[name], new_client("crane")
    sent = upstream.push(new_client("skopeo"), layout, "multi", "team/crane")
    here = f"{upstream.prefix}/team/crane"
    digest = tagged(layout.directory, "multi")["digest"]
    assert sent == blob_path(layout.directory, digest).read_bytes()

    assert crane.output("manifest", "--insecure", f"{mirrors.address}/{here}:1") == sent
    crane.run("pull", "--insecure", "--format=oci", f"{mirrors.address}/{here}:1", tmp_path / "first")
    assert layout_content(tmp_path / "first") == layout_content(layout.directory, "multi")
    assert crane.run("ls", "--insecure", f"{mirrors.address}/{here}") == "1"
    with mirrors.away(name):
        for number, reference in enumerate((f"{here}:1", f"{here}@{digest}")):
            crane.run("pull", "--insecure", "--format=oci", f"{mirrors.address}/{reference}", tmp_path / str(number))
            assert layout_content(tmp_path / str(number)) == layout_content(layout.directory, "multi")
        mirrors.require_stale(here)


@each_upstream
def test_docker_schema_2_comes_as_it_is_and_no_platform_is_cut_out(
    mirrors: Mirrors, new_client: Callable[[str], Client], layout: Layout, tmp_path: Path, name: str
) -> None:
    upstream, skopeo, here = mirrors.upstreams[name], new_client("skopeo"), f"{name}/schema2"
    sent = upstream.push(skopeo, layout, "multi", here, form="v2s2")
    here = f"{upstream.prefix}/{here}"
    reference = f"docker://{mirrors.address}/{here}:1"
    one = ("--override-arch=arm64", "copy", "--src-tls-verify=false")
    skopeo.run(*one, reference, f"dir:{tmp_path}/one")  # one platform of both
    assert skopeo.output("inspect", "--raw", "--tls-verify=false", reference) == sent
    listed = mirrors.wire.manifest(here, "1")
    assert (listed.body, listed.headers["content-type"]) == (sent, DOCKER_LIST)
    assert listed.headers["docker-content-digest"] == digest_of(sent)
    for child in listed.json()["manifests"]:
        answer = mirrors.wire.manifest(here, child["digest"])
        assert (answer.headers["content-type"], digest_of(answer.body)) == (DOCKER_MANIFEST, child["digest"])
    with mirrors.away(name):
        skopeo.run(*one, reference, f"dir:{tmp_path}/again")
        assert (tmp_path / "again/manifest.json").read_bytes() == (tmp_path / "one/manifest.json").read_bytes()
        mirrors.require_stale(here)


@pytest.mark.tools("oras")
@each_upstream
def test_oras_discovers_what_refers_to_an_artifact_and_copies_both(
    mirrors: Mirrors, new_client: Callable[[str], Client], tmp_path: Path, name: str
) -> None:
    upstream, writer, oras = mirrors.upstreams[name], new_client("oras"), new_client("oras")
    (writer.home / "note.txt").write_text("a note\n", encoding="utf-8")
    given = ("--plain-http", f"--username={USER}", f"--password={PASSWORD}", "--format=json")
    there, here = upstream.address("team/oras:1"), f"{mirrors.address}/{upstream.second_prefix}/team/oras:1"
    subject = writer.json("push", *given, f"--artifact-type={NOTE}", there, "note.txt:text/plain")["digest"]
    note = writer.json("attach", *given, f"--artifact-type={NOTE}", there, "note.txt:text/plain")["digest"]

    def discovered() -> list[str]:
        found = oras.json("discover", "--plain-http", "--format=json", here)
        return [entry["digest"] for entry in found["referrers"]]

    assert oras.run("resolve", "--plain-http", here) == subject
    assert discovered() == [note]
    oras.run("pull", "--plain-http", "--output", oras.home / "out", here)
    assert (oras.home / "out/note.txt").read_text() == "a note\n"
    oras.run("cp", "--recursive", "--from-plain-http", "--to-oci-layout", here, f"{tmp_path}/first:1")
    assert tagged(tmp_path / "first", "1")["digest"] == subject
    with mirrors.away(name):
        assert discovered() == [note]
        oras.run("cp", "--recursive", "--from-plain-http", "--to-oci-layout", here, f"{tmp_path}/second:1")
    for copied in ("first", "second"):
        assert digest_of(blob_path(tmp_path / copied, note).read_bytes()) == note


@each_upstream
def test_skopeo_pulls_through_a_mirror_of_its_registries(
    mirrors: Mirrors, new_client: Callable[[str], Client], layout: Layout, tmp_path: Path, name: str
) -> None:
    """As podman, buildah and CRI-O do, which read the same file."""
    upstream, skopeo = mirrors.upstreams[name], new_client("skopeo")
    upstream.push(skopeo, layout, "multi", "library/skopeo")
    path = tmp_path / "registries.conf"
    path.write_text(
        f'[[registry]]\nprefix = "{upstream.prefix}"\nlocation = "{upstream.prefix}"\n'
        f'[[registry.mirror]]\nlocation = "{mirrors.address}/{upstream.prefix}"\ninsecure = true\n',
        encoding="utf-8",
    )
    reference = f"docker://{upstream.prefix}/library/skopeo:1"
    pull = (f"--registries-conf={path}", "copy", "--all", "--preserve-digests", reference)
    skopeo.run(*pull, f"oci:{tmp_path}/first:1")
    with mirrors.away(name):
        skopeo.run(*pull, f"oci:{tmp_path}/second:1")
        mirrors.require_stale(f"{upstream.prefix}/library/skopeo")
    for copied in ("first", "second"):
        assert layout_content(tmp_path / copied, "1") == layout_content(layout.directory, "multi")


def test_no_client_pushes_to_a_mirror(mirrors: Mirrors, new_client: Callable[[str], Client], layout: Layout) -> None:
    to = ("--dest-tls-verify=false", f"--dest-creds={CREDENTIALS}")
    reference = f"docker://{mirrors.address}/docker.io/library/pushed:1"
    new_client("skopeo").fails("copy", *to, f"oci:{layout.directory}:single", reference, saying="unsupported")
