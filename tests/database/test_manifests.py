"""The queries of manifests, their references, tags and referrers, over SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from registry.database import blobs, manifests, memberships, references, repositories, tags
from registry.database.engine import Database
from registry.database.statement import Statement
from registry.database.transaction import Transaction

NOW = 1_750_000_000.25
IMAGE = "application/vnd.oci.image.manifest.v1+json"
LEASE_ENDED = Statement("UPDATE blob SET leased_until = 0, lease_until = clock_now() - 1 WHERE id = :blob")
PULLED = Statement("UPDATE manifest SET pulled_at = :now WHERE blob_id = :blob")


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


@pytest.fixture
def transaction(database: Database) -> Iterator[Transaction]:
    with database.transaction() as connection:
        yield connection


@pytest.fixture
def repository(transaction: Transaction) -> int:
    return repositories.create(transaction, "team/app", etag="", now=NOW).id


def put(
    transaction: Transaction,
    repository: int,
    number: int,
    *,
    artifact_type: str | None = None,
    subject: str | None = None,
    annotations: str = "{}",
) -> int:
    blob = blobs.put(transaction, digest(number), size=number, lease=0).get().id
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
    other = repositories.create(transaction, "other", etag="", now=NOW).id
    tags.put(transaction, repository, "v1", blob, sequence=1, now=NOW)
    expected = manifests.ManifestRow(blob, digest(1), 1, IMAGE, "present", 0)

    def found(of: int, target: str) -> list[manifests.ManifestRow]:
        row = (manifests.by_digest if ":" in target else manifests.by_tag)(transaction, of, target).get()
        return [] if row is None else [row._replace(lease_left=round(row.lease_left / 60))]

    assert found(repository, "v1") == found(repository, digest(1)) == [expected]
    assert [row.digest for row in manifests.of_repository(transaction, repository).get().values()] == [digest(1)]
    assert found(repository, "V1") == found(other, "v1") == found(other, digest(1)) == []


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


def unneeded(transaction: Transaction, repository: int, *, before: float = NOW + 1) -> list[str]:
    found = manifests.unneeded(transaction, repository, before=before, after=-1, count=10).get()
    return [row.digest for row in found]


def test_a_manifest_without_tag_index_subject_lease_and_late_push_or_pull_is_unneeded(
    transaction: Transaction, repository: int
) -> None:
    tagged, leased, pulled = (put(transaction, repository, number) for number in (1, 2, 3))
    put(transaction, repository, 4)
    tags.put(transaction, repository, "v1", tagged, sequence=1, now=NOW)
    blobs.lease(transaction, leased, seconds=60)
    transaction.execute(PULLED, {"now": NOW + 30, "blob": pulled})
    assert unneeded(transaction, repository) == [digest(4)]
    assert unneeded(transaction, repository, before=NOW) == []
    assert unneeded(transaction, repository, before=NOW + 31) == [digest(3), digest(4)]
    transaction.execute(LEASE_ENDED, {"blob": leased})
    assert unneeded(transaction, repository, before=NOW + 31) == [digest(2), digest(3), digest(4)]
    tags.remove(transaction, repository, "v1")
    assert unneeded(transaction, repository) == [digest(1), digest(2), digest(4)]
    other = repositories.create(transaction, "other", etag="", now=NOW).id
    assert unneeded(transaction, other) == []
    page = manifests.unneeded(transaction, repository, before=NOW + 99, after=tagged, count=2).get()
    assert [row.digest for row in page] == [digest(2), digest(3)]


def test_what_an_index_lists_and_what_has_a_subject_go_after_these(transaction: Transaction, repository: int) -> None:
    index, child, _, _ = (
        put(transaction, repository, number, subject=subject)
        for number, subject in ((1, None), (2, None), (3, digest(2)), (4, digest(9)))
    )
    references.add(transaction, repository, index, [(digest(2), references.MANIFEST)])
    assert unneeded(transaction, repository) == [digest(1), digest(4)], "its subject was never there"
    manifests.remove(transaction, repository, index)
    assert unneeded(transaction, repository) == [digest(2), digest(4)]
    manifests.remove(transaction, repository, child)
    assert unneeded(transaction, repository) == [digest(3), digest(4)]


def test_a_member_that_is_no_manifest_and_that_none_names_is_unneeded(
    transaction: Transaction, repository: int
) -> None:
    manifest = put(transaction, repository, 1)
    named, leased, late, free = (
        blobs.put(transaction, digest(number), size=1, lease=0).get().id for number in (2, 3, 4, 5)
    )
    other = repositories.create(transaction, "other", etag="", now=NOW).id
    for blob in (manifest, named, leased, free):
        memberships.add(transaction, repository, blob, now=NOW)
    memberships.add(transaction, repository, late, now=NOW + 60)
    memberships.add(transaction, other, named, now=NOW)
    references.add(transaction, repository, manifest, [(digest(2), references.OPTIONAL)])
    blobs.lease(transaction, leased, seconds=60)

    def found(of: int, *, before: float) -> list[str]:
        rows = memberships.unneeded(transaction, of, before=before, after=-1, count=10).get()
        return [row.digest for row in rows]

    assert found(repository, before=NOW + 1) == [digest(5)]
    transaction.execute(LEASE_ENDED, {"blob": leased})
    assert found(repository, before=NOW + 61) == [digest(3), digest(4), digest(5)]
    assert found(other, before=NOW + 1) == [digest(2)]
    manifests.remove(transaction, repository, manifest)
    assert found(repository, before=NOW + 1) == [digest(1), digest(2), digest(3), digest(5)]
