"""Inventory: a listing of a bucket, and what was read of the source registry in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry.migration.source.listing import Listing, bounds, marks
from registry.migration.source.objects import (
    Member,
    RepositoryRow,
    SourceObject,
    Tag,
    UnreadManifest,
)
from registry.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from registry.migration.source.objects import ObjectKind, SourceRepository
    from registry.oci.descriptor import Descriptor

SERVABLE: Final = "EXISTS (SELECT 1 FROM manifest f WHERE f.digest = {0}.digest AND f.problem = '')"
"""A condition on a row with the digest of a manifest: that it could be read, and understood."""
_UNHASHED: Final = "location l WHERE NOT EXISTS (SELECT 1 FROM hashed h WHERE h.key = l.key)"
_CHILDREN: Final = (
    "FROM member m JOIN reference r ON r.manifest = m.digest JOIN repository p ON p.name = m.repository"
    " WHERE r.kind = 'child' AND NOT EXISTS"
    " (SELECT 1 FROM member h WHERE h.repository = m.repository AND h.digest = r.digest)"
)


class Inventory(Listing):
    """What one scan of a bucket found. Any thread."""

    # ---- repositories

    def add_repository(self, found: SourceRepository) -> None:
        """Have a repository of the source registry, with its tags and manifests."""
        self.put("repository", [(found.path, found.name, found.prefix, found.index_key, found.index_etag)])
        self.put("tag", [(found.name, tag, digest) for tag, digest in found.tags.items()])
        self.put(
            "member",
            [
                (found.name, digest, descriptor and descriptor.media_type, descriptor and descriptor.size)
                for digest, descriptor in found.manifests.items()
            ],
        )

    def remove_repository(self, name: str) -> None:
        """Have a repository no more."""
        self.do("DELETE FROM repository WHERE name = ?", name)
        self.do("DELETE FROM tag WHERE repository = ?", name)
        self.do("DELETE FROM member WHERE repository = ?", name)

    def add_ours(self, *paths: str) -> None:
        """Note that the repositories at these paths are Stowage's."""
        self.put("ours", [(path,) for path in paths])

    def repositories(self) -> list[RepositoryRow]:
        """Every repository of the source registry, by name."""
        return [RepositoryRow(*row) for row in self.rows("SELECT * FROM repository ORDER BY name")]

    def repository(self, path: str) -> RepositoryRow | None:
        """The repository of the source registry at a path; None if there is none."""
        row = self.row("SELECT * FROM repository WHERE path = ?", path)
        return None if row is None else RepositoryRow(*row)

    def path_of(self, name: str) -> str:
        """The path of a repository of the source registry; its name if there is none."""
        return self.value("SELECT path FROM repository WHERE name = ?", name) or name

    def usual_prefix(self) -> str:
        """The prefix that most repositories have."""
        return self.value("SELECT prefix FROM repository GROUP BY prefix ORDER BY count(*) DESC, 1") or ""

    def tags(self, name: str) -> list[Tag]:
        """The tags of a repository, by name."""
        statement = f"SELECT name, digest, {SERVABLE.format('t')} FROM tag t WHERE repository = ? ORDER BY name"
        return [Tag(tag, Digest(digest), bool(readable)) for tag, digest, readable in self.rows(statement, name)]

    def members(self, name: str) -> list[Member]:
        """The manifests of a repository, by digest."""
        rows = self.rows(
            "SELECT m.digest, f.media_type, f.size FROM member m LEFT JOIN manifest f ON f.digest = m.digest"
            " AND f.problem = '' WHERE m.repository = ? ORDER BY m.digest",
            name,
        )
        return [Member(Digest(digest), media_type, size) for digest, media_type, size in rows]

    def unlinked(self, name: str) -> list[tuple[Digest, bool]]:
        """Each digest that manifests of a repository name and the repository does not have; True for a manifest."""
        rows = self.rows("SELECT digest, kind = 'manifest' FROM unlinked WHERE repository = ?", name)
        return [(Digest(digest), bool(is_manifest)) for digest, is_manifest in rows]

    def repositories_wanting(self, digest: str) -> list[str]:
        """The names of the repositories that need a digest."""
        return [name for (name,) in self.rows("SELECT repository FROM wanted WHERE digest = ?", digest)]

    # ---- manifests

    def add_manifest(
        self, digest: str, media_type: str, size: int | None, problem: str, references: Iterable[tuple[str, Descriptor]]
    ) -> None:
        """Have a manifest that was read; ``references`` are what it names, each with its kind."""
        self.put("manifest", [(digest, media_type, size, problem)])
        self.put("reference", [(digest, to.digest, to.size, kind, to.media_type) for kind, to in references])

    def add_body(self, key: str, etag: str, digest: str, data: bytes, modified: float) -> None:
        """Have the bytes of a manifest, read and hashed at a key."""
        self.put("hashed", [(key, etag)])
        self.put("body", [(digest, data, modified)])

    def add_bad(self, *keys: str) -> None:
        """Note that the objects at these keys have wrong bytes."""
        self.put("bad", [(key,) for key in keys])

    def unread_manifests(self) -> list[UnreadManifest]:
        """The manifests that repositories name and that were not read yet."""
        rows = self.rows(
            "SELECT digest, max(media_type), max(size), min(repository) FROM member m"
            " WHERE NOT EXISTS (SELECT 1 FROM manifest f WHERE f.digest = m.digest) GROUP BY digest"
        )
        return [UnreadManifest(Digest(digest), *row) for digest, *row in rows]

    def add_children(self, member_kinds: tuple[ObjectKind, ...], bytes_kind: ObjectKind) -> None:
        """Give each repository that has an index the manifests that it lists (M3), if it can have them.

        A manifest that lies in other repositories alone is not this one's for being listed (I12).
        """
        kinds = marks(member_kinds)
        here = f"SELECT 1 FROM object o WHERE o.digest = r.digest AND o.repository = p.path AND o.kind IN ({kinds})"
        anywhere = f"SELECT 1 FROM object o WHERE o.digest = r.digest AND o.kind IN ({kinds}, ?)"
        self.do(
            f"INSERT OR IGNORE INTO unlinked SELECT m.repository, r.digest, 'manifest', EXISTS ({anywhere}) {_CHILDREN}"
            f" AND NOT EXISTS ({here})",
            *member_kinds, bytes_kind, *member_kinds,
        )  # fmt: skip
        self.do(
            f"INSERT OR IGNORE INTO member SELECT m.repository, r.digest, r.media_type, r.size {_CHILDREN}"
            " AND NOT EXISTS (SELECT 1 FROM unlinked u WHERE u.repository = m.repository AND u.digest = r.digest"
            " AND u.kind = 'manifest' AND u.is_elsewhere)"
        )

    def bodies(self, name: str) -> list[tuple[str, bytes]]:
        """The digest and bytes of each manifest of a repository that was read now."""
        statement = "SELECT b.digest, b.data FROM member m JOIN body b ON b.digest = m.digest WHERE m.repository = ?"
        return [(digest, data) for digest, data in self.rows(statement, name)]

    def times(self, name: str) -> dict[Digest, float]:
        """When the objects of these manifests were written (seconds since the epoch), by digest."""
        rows = self.rows(
            "SELECT b.digest, b.modified FROM member m JOIN body b ON b.digest = m.digest WHERE m.repository = ?", name
        )
        return {Digest(digest): modified for digest, modified in rows}

    # ---- locations

    def location_shards(self) -> list[str]:
        """The shards that digests with a location fall into."""
        statement = "SELECT DISTINCT replace(substr(digest, 1, instr(digest, ':') + 2), ':', '-') FROM location"
        return [shard for (shard,) in self.rows(statement)]

    def locations(self, shard: str) -> Iterator[SourceObject]:
        """Each object with the bytes of a digest in a shard, by digest and key."""
        rows = self.each(
            "SELECT l.digest, l.size, l.key, o.etag, coalesce(h.etag = o.etag, 0) FROM location l"
            " JOIN object o ON o.key = l.key LEFT JOIN hashed h ON h.key = l.key"
            " WHERE l.digest >= ? AND l.digest < ? ORDER BY l.digest, l.key",
            *bounds(shard),
        )
        return (
            SourceObject(Digest(digest), size, key, etag, bool(is_hashed))
            for digest, size, key, etag, is_hashed in rows
        )

    def unhashed(self) -> tuple[int, int]:
        """How many locations were not hashed when their manifest was read, and their bytes."""
        return self.total(_UNHASHED)

    def each_unhashed(self) -> Iterator[tuple[str, str, int]]:
        """The digest, key and size of each location that was not hashed, by digest and key."""
        rows = self.each(f"SELECT l.digest, l.key, l.size FROM {_UNHASHED} ORDER BY l.digest, l.key")
        return ((digest, key, size) for digest, key, size in rows)

    def reject(self, digest: str, key: str) -> str:
        """Note that an object has wrong bytes; returns the repository that it belongs to, or the first to need it."""
        self.do("DELETE FROM location WHERE digest = ? AND key = ?", digest, key)
        self.add_bad(key)
        owner = "SELECT p.name FROM object o JOIN repository p ON p.path = o.repository WHERE o.key = ?"
        wanting = "SELECT min(repository) FROM wanted WHERE digest = ?"
        return self.value(f"SELECT coalesce(({owner}), ({wanting}), '')", key, digest) or ""

    def is_restored(self, key: str) -> bool:
        """Whether ``add_restored`` was called for a key."""
        return self.value("SELECT 1 FROM restored WHERE key = ?", key) is not None

    def add_restored(self, key: str) -> None:
        """Note that a rollback copied an object there."""
        self.put("restored", [(key,)])
