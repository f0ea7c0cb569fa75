"""Media types: the sets, and the reading of a Content-Type."""

from __future__ import annotations

import pytest

from registry.oci import media_types


def test_every_manifest_type_is_an_image_or_an_index_and_never_both() -> None:
    assert media_types.IMAGE_MANIFESTS | media_types.INDEXES == media_types.MANIFESTS
    assert not media_types.IMAGE_MANIFESTS & media_types.INDEXES
    assert not media_types.SCHEMA1 & media_types.MANIFESTS


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", True),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", True),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar", True),
        ("application/vnd.oci.image.layer.v1.tar+gzip", False),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", False),
        ("", False),
    ],
)
def test_layers_that_may_be_absent(media_type: str, *, expected: bool) -> None:
    assert media_types.is_nondistributable(media_type) is expected


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        (" Application/JSON ;charset=utf-8; q=1", "application/json"),
        (f"{media_types.OCI_INDEX};", media_types.OCI_INDEX),
        ("", ""),
        (";", ""),
    ],
)
def test_parameters_and_case_of_a_content_type_do_not_count(content_type: str, expected: str) -> None:
    assert media_types.without_parameters(content_type) == expected
