"""*Links*: the next page of a list, as an answer names it in its Link headers (RFC 8288)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from registry.upstream.errors import AnswerInvalid
from registry.upstream.url import Origin, Url, join_url

if TYPE_CHECKING:
    from registry.upstream.answer import Answer

_PARAMETER: Final = r"\s*;\s*([^\s=;,<>\"]+)(?:\s*=\s*(\"[^\"]*\"|[^\s;,\"]*))?"
_LINK: Final = re.compile(rf"<([^<>]*)>((?:{_PARAMETER})*)")


def next_page(answer: Answer) -> Url | None:
    """The page behind this one; None if it is the last. It may be at any host: the guard decides.

    A link to the same host by http, as servers behind a proxy for TLS write it, is one to the server that has answered.
    Raises AnswerInvalid where it is no URL, and where it leads from https to http elsewhere.
    """
    target = _target(answer.all("Link"))
    if target is None:
        return None
    host = answer.origin.host
    try:
        url = join_url(answer.url, target)
    except ValueError as error:
        raise AnswerInvalid(f"{host}: a next page that cannot be asked for: {error}") from None
    return Url(_origin(answer.origin, url.origin), url.target)


def _target(lines: list[str]) -> str | None:
    for line in lines:
        for link in _LINK.finditer(line):
            for name, value in re.findall(_PARAMETER, link[2]):
                if name.lower() == "rel" and "next" in value.strip('"').lower().split():
                    return link[1]
    return None


def _origin(here: Origin, there: Origin) -> Origin:
    if here.scheme != "https" or there.scheme == "https":
        return there
    if there.host != here.host:
        raise AnswerInvalid(f"{here.host}: a next page that leads from https to http")
    return here
