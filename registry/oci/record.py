"""Records: acknowledged changes of a repository, in the order of their sequence numbers (I11)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from registry.oci.descriptor import Descriptor
from registry.oci.digest import Digest
from registry.oci.errors import RegistryError
from registry.oci.escaping import quoted
from registry.oci.moment import is_moment
from registry.oci.tag import parse_tag
from registry.oci.withheld import NOTHING, Withheld

if TYPE_CHECKING:
    from registry.oci.index import Index

Operation = Literal["put", "untag", "delete"]

_MAXIMUM_SEQUENCE: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Record:
    """A change of a repository: a manifest put with or without tags, tags removed, a manifest removed.

    Raises:
        ValueError: the fields do not make the change that the operation names. Checked before a record is written,
            because an unreadable journal stops its repository.
    """

    sequence: int
    """From 1, given by the database, without gaps within a repository."""
    time: str
    """RFC 3339 in UTC."""
    actor: str
    """The caller that asked for the change."""
    operation: Operation
    digest: Digest | None
    """The manifest that is put or deleted; may be None for ``put``, whose descriptor says it."""
    descriptor: Descriptor | None
    """The new manifest of ``put``; None for other operations."""
    tags: tuple[str, ...]
    """The tags that are set or removed."""
    old: dict[str, str] = field(hash=False)
    """The digest that each of the tags had before; absent for a new tag."""
    withheld: Withheld = NOTHING
    """References whose content the repository lacked: they stay withheld until a record releases them (I12)."""
    released: Withheld = NOTHING
    """References that are no longer withheld: the content arrived, or no manifest names it now."""
    pushed: str | None = None
    """The time of the manifest's push; None for ``time``. A record without a push repeats the earlier time."""
    tagged: dict[str, str] = field(default_factory=dict, hash=False)
    """The times when tags were set, if not at ``time``."""
    address: str | None = None
    """The address of the caller, beside an actor with a name; None where ``actor`` is all that is known."""
    cause: str | None = None
    """What made the registry itself change something, as the name of a rule of retention; None where a caller did."""
    batch: int | None = None
    """The number of the first change of the same request or run; None but in a ``delete`` that is not alone."""
    lacked: tuple[Digest, ...] | None = None
    """What a manifest that is deleted named and its repository did not have; None where that was not written down."""
    purged: bool = False
    """A manifest went for good, from the trash too: no rebuild makes it restorable."""
    root: Digest | None = None
    """The manifest because of which this one is deleted, where that follows in a later change; None for itself."""

    def __post_init__(self) -> None:
        complete = {
            "put": self.descriptor is not None and self.digest in {None, self.descriptor.digest},
            "untag": self.descriptor is None and bool(self.tags),
            "delete": self.descriptor is None and self.digest is not None,
        }
        if not complete[self.operation]:
            raise ValueError(f"the record lacks or contradicts what {self.operation} needs")
        if not 1 <= self.sequence <= _MAXIMUM_SEQUENCE:
            raise ValueError(f"the record has the sequence number {self.sequence}; they start at 1")
        for text in (self.time, self.pushed or self.time, *self.tagged.values()):
            if not is_moment(text):
                raise ValueError(f"the times of the record are not RFC 3339 in UTC: {quoted(text)}")

    def to_line(self) -> bytes:
        """The record as one line of JSON, line feed included."""
        document: dict[str, object] = {
            "seq": self.sequence,
            "time": self.time,
            "actor": self.actor,
            "op": self.operation,
        }
        if self.digest is not None:
            document["digest"] = str(self.digest)
        document["tags"] = list(self.tags)
        document["old"] = {tag: str(digest) for tag, digest in self.old.items()}
        if self.descriptor is not None:
            document["new"] = self.descriptor.to_json()
        for name, references in (("withheld", self.withheld), ("released", self.released)):
            if references:
                document[name] = references.to_json()
        further: dict[str, object] = {
            "pushed": self.pushed,
            "tagged": self.tagged or None,
            "address": self.address,
            "cause": self.cause,
            "batch": self.batch,
            "lacked": self.lacked,
            "purged": self.purged or None,
            "root": self.root,
        }
        document |= {name: value for name, value in further.items() if value is not None}
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def parse(cls, line: bytes) -> Record:
        """Read a line of a journal, with or without its line feed. Unknown fields are ignored.

        Raises:
            ValueError: the line is torn, damaged, or of an operation that this release does not know.
        """
        document = orjson.loads(line)
        if not isinstance(document, dict):
            raise ValueError("the record is not a JSON object")  # noqa: TRY004  # ValueError is the contract
        try:
            return _from_json(document)
        except RegistryError as error:
            raise ValueError(f"the record is damaged: {error.message}") from error

    def apply(self, index: Index) -> None:
        """Make the change in ``index``; making it twice is the same as once."""
        if self.operation == "delete" and self.digest is not None:
            index.remove_manifest(self.digest)
            index.deleted = self.sequence
        elif self.descriptor is None:
            for tag in self.tags:
                index.remove_tag(tag)
        elif self.tags:
            for tag in self.tags:
                index.set_tag(tag, self.descriptor, pushed=self._pushed, tagged=self.tagged.get(tag, self.time))
        else:
            index.add_manifest(self.descriptor, pushed=self._pushed)
        index.withhold(self.withheld, released=self.released)

    def note(self, index: Index) -> None:
        """Note times, deletions and withheld references in ``index``, which has this change and perhaps later ones.

        After all records in order, the index is as if each had been applied.
        """
        if self.descriptor is not None:
            tagged = {tag: self.tagged.get(tag, self.time) for tag in self.tags}
            index.note(self.descriptor.digest, self.tags, pushed=self._pushed, tagged=tagged)
        elif self.operation == "delete":
            index.deleted = self.sequence
        index.withhold(self.withheld, released=self.released)

    @property
    def _pushed(self) -> str:
        return self.pushed or self.time


def _from_json(document: dict[str, Any]) -> Record:
    new = document.get("new")
    digest = document.get("digest")
    return Record(
        sequence=_checked(document, "seq", int),
        time=_checked(document, "time", str),
        actor=_checked(document, "actor", str),
        operation=_operation(document),
        digest=None if digest is None else Digest.parse(_checked(document, "digest", str)),
        descriptor=None if new is None else Descriptor.from_json(new, "new"),
        tags=tuple(parse_tag(_text(tag)) for tag in _checked(document, "tags", list)),
        old={parse_tag(tag): Digest.parse(_text(old)) for tag, old in _checked(document, "old", dict).items()},
        withheld=Withheld.from_json(document.get("withheld")),
        released=Withheld.from_json(document.get("released")),
        pushed=None if document.get("pushed") is None else _checked(document, "pushed", str),
        tagged={parse_tag(tag): _text(at) for tag, at in _checked({"tagged": {}, **document}, "tagged", dict).items()},
        address=None if document.get("address") is None else _checked(document, "address", str),
        cause=None if document.get("cause") is None else _checked(document, "cause", str),
        batch=None if document.get("batch") is None else _checked(document, "batch", int),
        lacked=_lacked(document),
        purged=document.get("purged") is True,
        root=None if document.get("root") is None else Digest.parse(_checked(document, "root", str)),
    )


def _lacked(document: dict[str, Any]) -> tuple[Digest, ...] | None:
    if document.get("lacked") is None:
        return None
    return tuple(Digest.parse(_text(digest)) for digest in _checked(document, "lacked", list))


def _operation(document: dict[str, Any]) -> Operation:
    match document.get("op"):
        case "put":
            return "put"
        case "untag":
            return "untag"
        case "delete":
            return "delete"
        case other:
            raise ValueError(f"the record has an unknown operation: {other!r:.80}")


def _checked(document: dict[str, Any], name: str, kind: type) -> Any:  # noqa: ANN401  # of the given type
    value = document.get(name)
    # bool is a subclass of int: the exact type is meant.
    if type(value) is not kind:
        raise ValueError(f"the record has no valid {name}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("the record holds something else where text is expected")  # noqa: TRY004  # ValueError is the contract
    return value
