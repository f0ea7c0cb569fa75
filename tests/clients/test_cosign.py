"""cosign: signatures, attestations and attachments, as tags beside an image and as its referrers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.layouts import tagged

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.clients.client import Client
    from tests.clients.conftest import PushLayout
    from tests.clients.layouts import Layout
    from tests.clients.wire import Wire

pytestmark = [pytest.mark.clients, pytest.mark.tools("cosign", "skopeo")]
PLAIN = "--allow-http-registry"
VERIFY = ("--key=cosign.pub", "--insecure-ignore-tlog=true", PLAIN)
SIGN = ("--yes", "--key=cosign.key", "--tlog-upload=false", PLAIN)


@pytest.fixture
def cosign(new_client: Callable[[str], Client]) -> Client:
    """A cosign with a key pair of its own, which asks no public service for anything."""
    client = new_client("cosign")
    client.environment |= {
        "COSIGN_PASSWORD": "",
        "TUF_MIRROR": "http://127.0.0.1:1",
        "TUF_ROOT": str(client.home / "tuf"),
    }
    client.run("generate-key-pair")
    (client.home / "predicate.json").write_text('{"checked": true}', encoding="utf-8")
    return client


@pytest.fixture
def image(push_layout: PushLayout, wire: Wire, layout: Layout, request: pytest.FixtureRequest) -> str:
    """An index pushed to a repository named after the test; its reference by digest."""
    name = f"cosign/{request.node.name.replace('_', '-')}"
    push_layout(layout.directory, "multi", f"{wire.address}/{name}:1")
    return f"{wire.address}/{name}@{tagged(layout.directory, 'multi')['digest']}"


def parts(image: str) -> tuple[str, str]:
    """Return the repository and the digest in a reference."""
    name, _, digest = image.partition("@")
    return name.partition("/")[2], digest


def test_signatures_in_tags(cosign: Client, wire: Wire, image: str) -> None:
    repository, digest = parts(image)
    cosign.fails("verify", *VERIFY, image, saying="no signatures found")
    cosign.run("sign", *SIGN, "--annotations=by=tests", image)
    assert digest in cosign.run("verify", *VERIFY, "--annotations=by=tests", image)
    assert wire.tags(repository) == ["1", f"{digest.replace(':', '-')}.sig"]
    cosign.run("sign", *SIGN, "--recursive", image)

    copied = f"{wire.address}/{repository}/copy:1"
    cosign.run("copy", PLAIN, image, copied)
    assert digest in cosign.run("verify", *VERIFY, copied)
    cosign.run("clean", "--force", "--type=signature", PLAIN, image)
    cosign.fails("verify", *VERIFY, image, saying="no signatures found")


@pytest.mark.local_storage("the kind of store makes no difference")
def test_attestations_and_attachments_in_tags(cosign: Client, wire: Wire, image: str) -> None:
    repository, digest = parts(image)
    cosign.run("attest", *SIGN, "--predicate=predicate.json", "--type=custom", image)
    assert "payload" in cosign.run("verify-attestation", *VERIFY, "--type=custom", image)
    (cosign.home / "sbom.spdx").write_text("SPDXVersion: SPDX-2.3\n", encoding="utf-8")
    cosign.run("attach", "sbom", "--sbom=sbom.spdx", "--type=spdx", PLAIN, image)
    assert cosign.run("download", "sbom", PLAIN, image) == "SPDXVersion: SPDX-2.3"
    prefix = digest.replace(":", "-")
    assert wire.tags(repository) == ["1", f"{prefix}.att", f"{prefix}.sbom"]
    assert f"{prefix}.att" in cosign.run("tree", PLAIN, image)


def test_signatures_as_referrers(cosign: Client, wire: Wire, image: str) -> None:
    repository, digest = parts(image)
    cosign.environment["COSIGN_EXPERIMENTAL"] = "1"
    cosign.run("sign", *SIGN, "--registry-referrers-mode=oci-1-1", image)
    assert digest in cosign.run("verify", *VERIFY, "--experimental-oci11", image)
    (signature,) = wire.referrers(repository, digest)
    assert signature["artifactType"] == "application/vnd.dev.cosign.artifact.sig.v1+json"
    assert wire.tags(repository) == ["1"]


@pytest.mark.local_storage("the kind of store makes no difference")
def test_attestations_in_bundles_as_referrers(cosign: Client, wire: Wire, image: str) -> None:
    repository, digest = parts(image)
    cosign.run("attest", *SIGN, "--new-bundle-format", "--predicate=predicate.json", "--type=custom", image)
    cosign.run("trusted-root", "create", "--out=root.json")
    bundle = ("--new-bundle-format", "--trusted-root=root.json")
    assert "payload" in cosign.run("verify-attestation", *VERIFY, *bundle, "--type=custom", image)
    (attestation,) = wire.referrers(repository, digest)
    assert attestation["artifactType"].startswith("application/vnd.dev.sigstore.bundle")
    assert wire.tags(repository) == ["1"]
