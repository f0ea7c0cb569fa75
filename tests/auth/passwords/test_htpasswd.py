"""htpasswd files: their lines, and the line that a mistake is in."""

from __future__ import annotations

import pytest

from registry.auth.passwords.htpasswd import LONGEST_USER, parse_htpasswd

HASH = "$2y$05$" + "a" * 53


def test_each_line_is_a_user() -> None:
    document = f"# users\nalice:{HASH}\n\nbob.b@example.org:{HASH}\r\n  # nothing\ncarol:{HASH}"
    assert list(parse_htpasswd(document.encode())) == ["alice", "bob.b@example.org", "carol"]


def test_an_empty_file_has_no_users() -> None:
    assert parse_htpasswd(b"") == {}


@pytest.mark.parametrize(
    "line",
    [
        "bob",
        "bob:secret",
        f":{HASH}",
        f"oidc:sso/bob:{HASH}",
        f"key:1:{HASH}",
        f"anonymous:{HASH}",
        f"authenticated:{HASH}",
        f"alice:{HASH}",
        f"{'b' * (LONGEST_USER + 1)}:{HASH}",
        f"b\0b:{HASH}",
        f"bob :{HASH}",
        f"bob: {HASH}",
        f"bob:{HASH}:more",
        b"b\xffb:".decode("latin-1") + HASH,
    ],
)
def test_a_mistake_is_told_by_its_line(line: str) -> None:
    document = f"# users\nalice:{HASH}\n{line}\n"
    encoding = "latin-1" if "ÿ" in line else "utf-8"
    with pytest.raises(ValueError, match=r"^line 3: ") as caught:
        parse_htpasswd(document.encode(encoding))
    assert "secret" not in str(caught.value)
    assert HASH not in str(caught.value)
