"""*Scope*: what the usage of is asked for: ``REPO``, ``PREFIX/**``, ``REPO:TAG``, ``REPO@DIGEST``, or everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from registry.maintenance.usage.range_usage import ALL, below
from registry.oci.change_reference import ChangeReference
from registry.oci.errors import RequestInvalid
from registry.oci.escaping import quoted
from registry.oci.name import parse_name

if TYPE_CHECKING:
    from registry.database.usage.holders import Range

EVERYTHING = "**"


class Scope(NamedTuple):
    """Repositories, or one manifest."""

    within: Range | None
    """The repositories; None where it is one, or less than one."""
    reference: ChangeReference | None = None
    """A repository, a tag or a manifest."""

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read it. Raises RequestInvalid, NameInvalid, TagInvalid, DigestInvalid."""
        if text == EVERYTHING:
            return cls(ALL)
        if text.endswith("/**"):
            return cls(below(parse_name(text.removesuffix("/**"))))
        reference = ChangeReference.parse(text)
        if reference.sequence is not None:
            raise RequestInvalid(f"{quoted(text)} is none of REPO, PREFIX/**, REPO:TAG and REPO@DIGEST")
        return cls(None, reference)
