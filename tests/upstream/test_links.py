"""Which page follows, as servers write it."""

from __future__ import annotations

import pytest
from urllib3 import HTTPHeaderDict, HTTPResponse

from registry.upstream.answer import Answer
from registry.upstream.errors import AnswerInvalid
from registry.upstream.links import next_page
from registry.upstream.url import parse_url

PAGE = "https://hub.example.org/v2/app/tags/list?n=2"


def answer(*lines: str, url: str = PAGE) -> Answer:
    headers = HTTPHeaderDict()
    for line in lines:
        headers.add("Link", line)
    return Answer(HTTPResponse(b"", headers=headers, preload_content=False), parse_url(url), int)


@pytest.mark.parametrize(
    "lines",
    [
        ('</v2/app/tags/list?last=b&n=2>; rel="next"',),
        ("</v2/app/tags/list?last=b&n=2>;rel=next",),
        ("<list?last=b&n=2> ; REL = NEXT ; title=x",),
        ('<https://hub.example.org/v2/app/tags/list?last=b&n=2>; title="a, <b>; rel=prev"; rel="prefetch next"',),
        ('<https://hub.example.org:443/v2/app/tags/list?last=b&n=2>; rel="next"',),
        ('<http://hub.example.org/v2/app/tags/list?last=b&n=2>; rel="next"',),
        ('</v2/>; rel="first", </v2/app/tags/list?last=b&n=2>; rel="next"',),
        ('</v2/>; rel="first"', '</v2/app/tags/list?last=b&n=2>; rel="next"'),
        ("</v2/app/tags/list?last=b&n=2>; rel=next, </v2/>; rel=last",),
    ],
    ids=range(9),
)
def test_it_is_found(lines: tuple[str, ...]) -> None:
    assert str(next_page(answer(*lines))) == "https://hub.example.org/v2/app/tags/list?last=b&n=2"


@pytest.mark.parametrize("line", ["", "</x>", '</x>; rel="prev"', '</x>; rel="nextish"', "/x; rel=next", "<" * 60_000])
def test_there_is_none(line: str) -> None:
    assert next_page(answer(line)) is None


def test_one_elsewhere_is_named_as_it_is() -> None:
    found = next_page(answer('<https://other.example.org:5000/page>; rel="next"'))
    assert str(found) == "https://other.example.org:5000/page"


@pytest.mark.parametrize(
    "target", ["http://other.example.org/x", "ftp://hub.example.org/x", "https://user@hub.example.org/x"]
)
def test_one_that_may_not_be_asked_for_is_an_error(target: str) -> None:
    with pytest.raises(AnswerInvalid, match=r"hub\.example\.org: a next page"):
        next_page(answer(f'<{target}>; rel="next"'))


def test_without_tls_every_scheme_is_one_to_go_to() -> None:
    found = next_page(answer('<http://other.example.org/x>; rel="next"', url=PAGE.replace("https", "http")))
    assert str(found) == "http://other.example.org/x"
