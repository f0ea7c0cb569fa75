"""Cookies that come twice, or have what no value of ours has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from registry.admin.cookies import find_cookie, set_cookie


def request_with(*lines: str, origin: str = "http://registry.test") -> Request:
    context: Any = SimpleNamespace(urls=SimpleNamespace(origin=lambda _request: origin))
    headers = [(b"cookie", line.encode("latin-1")) for line in lines]
    return Request({"type": "http", "headers": headers, "registry.context": context})


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (["session=abc"], "abc"),
        (["other=1; session=abc; session2=x"], "abc"),
        (["other=1", "session=abc"], "abc"),
        (["session=abc;session=abc"], "abc"),
        (["session=abc; session=abd"], ""),
        (["session=abc", "session=abd"], ""),
        (["Session=abc"], ""),
        (["session"], ""),
        (["session="], ""),
        (['session="abc"'], ""),
        (["session=a b"], ""),
        (["session=\xe9"], ""),
        (["__Host-session=abc"], ""),
        ([], ""),
    ],
)
def test_a_cookie_is_found_by_its_whole_name_where_it_is_unambiguous(lines: list[str], value: str) -> None:
    assert find_cookie(request_with(*lines), "session") == value


def test_over_https_only_the_name_counts_that_no_other_host_can_set() -> None:
    lines = ("session=abc; __Host-session=xyz",)
    assert find_cookie(request_with(*lines, origin="https://registry.test"), "session") == "xyz"


@pytest.mark.parametrize("value", ["a;b", "a\r\nSet-Cookie: x", "a b", '"'])
def test_nothing_but_a_value_of_ours_gets_into_a_header(value: str) -> None:
    with pytest.raises(ValueError, match="session"):
        set_cookie(request_with(), Response(), "session", value, 1)
