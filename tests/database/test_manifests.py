"""The queries of manifests, their references, tags and referrers, over SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from registry.database import blobs, manifests, references, repositories, tags
from registry.database.engine import Database
from registry.database.transaction import Transaction

NOW = 1_750_000_000.25
IMAGE = "application/vnd.oci.image.manifest.v1+json"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


@pytest.fixture
def transaction(database: Database) -> Iterator[Transaction]:
    with database.transaction() as connection:
        yield connection


@pytest.fixture
def repository(transaction: Transaction) -> int:
    return repositories.create(transaction, "team/app", signature="", now=NOW).id


def put(
    transaction: Transaction,
    repository: int,
    number: int,
    *,
    artifact_type: str | None = None,
    subject: str | None = None,
    annotations: str = "{}",
) -> int:
    blob = blobs.put(transaction, digest(number), size=number, leased_until=0).get()
    manifests.put(
        transaction,
        repository,
        blob,
        media_type=IMAGE,
        artifact_type=artifact_type,
        subject=subject,
        annotations=annotations,
        now=NOW,
    )
    return blob


def test_a_manifest_is_found_by_tag_and_digest_of_its_repository_only(
    transaction: Transaction, repository: int
) -> None:
    blob = put(transaction, repository, 1)
    other = repositories.create(transaction, "other", signature="", now=NOW).id
    tags.put(transaction, repository, "v1", blob, sequence=1, now=NOW)
    expected = manifests.ManifestRow(blob, digest(1), 1, IMAGE, "present")
    assert manifests.by_tag(transaction, repository, "v1").get() == expected
    assert manifests.by_digest(transaction, repository, digest(1)).get() == expected
    assert manifests.of_repository(transaction, repository).get() == {digest(1): expected}
    assert manifests.by_tag(transaction, repository, "V1").get() is None
    assert manifests.by_tag(transaction, other, "v1").get() is None
    assert manifests.by_digest(transaction, other, digest(1)).get() is None


def test_a_tag_moves_and_goes(transaction: Transaction, repository: int) -> None:
    first, second = put(transaction, repository, 1), put(transaction, repository, 2)
    tags.put(transaction, repository, "v1", first, sequence=1, now=NOW)
    tags.put(transaction, repository, "v1", second, sequence=2, now=NOW)
    assert tags.find_all(transaction, repository, ["v1", "v2"]).get() == [("v1", digest(2), 2)]
    assert tags.of_manifest(transaction, repository, first).get() == []
    tags.remove(transaction, repository, "v1")
    assert tags.of_repository(transaction, repository).get() == {}


def test_a_removed_manifest_takes_its_tags_and_references_with_it(transaction: Transaction, repository: int) -> None:
    blob, child = put(transaction, repository, 1), put(transaction, repository, 2)
    tags.put(transaction, repository, "v1", blob, sequence=1, now=NOW)
    tags.put(transaction, repository, "child", child, sequence=2, now=NOW)
    references.add(transaction, repository, blob, [(digest(2), "manifest"), (digest(3), "blob")])
    references.add(transaction, repository, blob, [(digest(2), "manifest")])
    assert references.referenced_by(transaction, repository, digest(2)).get() == [digest(1)]
    assert references.children_of(transaction, repository, digest(1)).get() == [digest(2)]
    manifests.remove(transaction, repository, blob)
    assert references.referenced_by(transaction, repository, digest(2)).get() == []
    assert references.referenced_by(transaction, repository, digest(3)).get() == []
    assert list(tags.of_repository(transaction, repository).get()) == ["child"]
    assert list(manifests.of_repository(transaction, repository).get()) == [digest(2)]


def test_at_most_ten_that_need_a_blob_are_named(transaction: Transaction, repository: int) -> None:
    for number in range(12):
        references.add(transaction, repository, put(transaction, repository, number), [(digest(99), "blob")])
    assert references.referenced_by(transaction, repository, digest(99)).get() == [
        digest(number) for number in range(10)
    ]


def test_referrers_are_filtered_and_paged_in_the_order_of_their_digests(
    transaction: Transaction, repository: int
) -> None:
    for number in range(5, 0, -1):
        kind = "application/sbom" if number % 2 else None
        put(transaction, repository, number, subject=digest(9), artifact_type=kind, annotations='{"a":"50%"}')
    put(transaction, repository, 6, subject=digest(8))

    def found(artifact_type: str | None, last: str = "", count: int = 10) -> list[str]:
        rows = manifests.referrers(
            transaction, repository, digest(9), artifact_type=artifact_type, last=last, count=count
        ).get()
        return [row.digest for row in rows]

    assert found(None) == [digest(number) for number in range(1, 6)]
    assert found(None, last=digest(2), count=2) == [digest(3), digest(4)]
    assert found("application/sbom") == [digest(1), digest(3), digest(5)]
    assert found("application/none") == []
    [row] = manifests.referrers(transaction, repository, digest(9), artifact_type=None, last=digest(4), count=1).get()
    assert row[1:] == (digest(5), 5, IMAGE, "application/sbom", '{"a":"50%"}')


def test_a_referrer_whose_bytes_are_lost_is_not_listed(transaction: Transaction, repository: int) -> None:
    blob = put(transaction, repository, 1, subject=digest(9))
    blobs.set_state(transaction, blob, blobs.QUARANTINED)
    assert manifests.referrers(transaction, repository, digest(9), artifact_type=None, last="", count=10).get() == []


def test_a_manifest_put_again_is_replaced(transaction: Transaction, repository: int) -> None:
    put(transaction, repository, 1, subject=digest(9))
    put(transaction, repository, 1)
    assert manifests.referrers(transaction, repository, digest(9), artifact_type=None, last="", count=10).get() == []
    assert len(manifests.of_repository(transaction, repository).get()) == 1


@pytest.mark.parametrize("subject", [digest(9), digest(9)[:60]])
def test_an_index_without_its_tag_is_a_former_list_of_referrers_if_it_lists_these_alone(
    transaction: Transaction, repository: int, subject: str
) -> None:
    """A fallback tag has 64 digits of the hash: of sha512 it has the beginning."""
    put(transaction, repository, 1, subject=digest(9))
    put(transaction, repository, 2, subject="sha512:" + 128 * "8")
    for number, listed in ((3, [1]), (4, [1, 2])):
        index = put(transaction, repository, number)
        references.add(transaction, repository, index, [(digest(each), references.MANIFEST) for each in listed])
        references.set_former(transaction, repository, digest(number), subject=subject)
    assert references.formerly_listed_by(transaction, repository, digest(1)).get() == [digest(3)]
    assert references.referenced_by(transaction, repository, digest(1)).get() == [digest(4)]
