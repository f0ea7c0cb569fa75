"""Keys of a repository, for both layouts of blobs and both kinds of journals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from registry.images.layout import SEGMENT, Layout, Span
from registry.oci.digest import Digest
from registry.storage.driver import BlobLayout, Capabilities
from registry.storage.memory import MemoryDriver

SHARED = MemoryDriver.capabilities
PER_REPOSITORY = replace(SHARED, blob_layout=BlobLayout.PER_REPOSITORY, appends=True)
DIGEST = Digest.of(b"")
HEX = DIGEST.encoded


def test_repositories_share_blobs_or_have_their_own() -> None:
    assert Layout(SHARED).blob("app", DIGEST) == f"storage/blobs/sha256/{HEX}"
    own = Layout(PER_REPOSITORY)
    assert own.blob("team/app", DIGEST) == f"team/app/blobs/sha256/{HEX}" == f"{own.blobs('team/app', 'sha256')}/{HEX}"


def test_an_image_layout_lies_in_the_directory_of_its_repository() -> None:
    assert (Layout.index("team/app"), Layout.marker("team/app")) == ("team/app/index.json", "team/app/oci-layout")


def test_a_record_is_an_object_where_the_store_does_not_append() -> None:
    layout = Layout(SHARED)
    assert layout.record("app", 7) == "app/.journal/0000000000000007.json"
    assert layout.record("app", 9) < layout.record("app", 10)
    assert layout.span_of("0000000000000007.json") == (7, 7)


def test_records_share_a_file_where_the_store_appends() -> None:
    layout = Layout(PER_REPOSITORY)
    assert (
        layout.record("app", SEGMENT) == layout.record("app", 2 * SEGMENT - 1) == "app/.journal/0000000000000001.jsonl"
    )
    assert layout.record("app", 0) != layout.record("app", SEGMENT)
    assert layout.span_of("0000000000000001.jsonl") == (SEGMENT, 2 * SEGMENT - 1)


@pytest.mark.parametrize("capabilities", [SHARED, PER_REPOSITORY])
def test_a_pack_says_in_its_name_what_it_holds_and_sorts_behind_all_records(capabilities: Capabilities) -> None:
    layout = Layout(capabilities)
    key = layout.pack("app", Span(1, 4096))
    assert key == "app/.journal/packed-0000000000000001-0000000000004096.jsonl"
    assert layout.span_of(key.rpartition("/")[2]) == (1, 4096)
    assert layout.record("app", 10**15) < layout.before_packs("app") < key < layout.index("app")


@pytest.mark.parametrize(
    "name",
    ["", "1", "x.json", "1.txt", "-1.json", ".json", "0000000000000001.jsonl.tmp", "packed-1-2.jsonl", "packed-.jsonl"],
)
def test_a_file_of_another_name_holds_no_records(name: str) -> None:
    assert Layout(PER_REPOSITORY).span_of(name) is None
