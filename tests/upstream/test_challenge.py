"""What a server wants to see is read however it writes it."""

from __future__ import annotations

import pytest

from registry.upstream.challenge import Challenge, parse_challenges

REALM = "https://auth.example.org/token"
CASES: list[tuple[str, list[str], list[Challenge]]] = [
    ("nothing", [], []),
    ("an empty header", [""], []),
    ("a scheme alone", ["Negotiate"], [Challenge("negotiate", {})]),
    (
        "quoted",
        [f'Bearer realm="{REALM}",service="registry.example.org",scope="repository:a:pull,push"'],
        [Challenge("bearer", {"realm": REALM, "service": "registry.example.org", "scope": "repository:a:pull,push"})],
    ),
    (
        "unquoted, with spaces, in another case",
        [f"BEARER  Realm = {REALM} ,  SERVICE=registry.example.org"],
        [Challenge("bearer", {"realm": REALM, "service": "registry.example.org"})],
    ),
    (
        "several in one header",
        [f'Basic realm="x", Bearer realm="{REALM}",service=s, Negotiate'],
        [
            Challenge("basic", {"realm": "x"}),
            Challenge("bearer", {"realm": REALM, "service": "s"}),
            Challenge("negotiate", {}),
        ],
    ),
    (
        "in several headers",
        ['Basic realm="x"', f'Bearer realm="{REALM}"'],
        [Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": REALM})],
    ),
    (
        "a credential in place of parameters",
        [f'Negotiate YII+/x==, Bearer realm="{REALM}"'],
        [Challenge("negotiate", {}), Challenge("bearer", {"realm": REALM})],
    ),
    ("escapes", ['Basic realm="a \\"b\\" \\\\, c"'], [Challenge("basic", {"realm": 'a "b" \\, c'})]),
    ("an empty value", ['Bearer realm="",service=s'], [Challenge("bearer", {"realm": "", "service": "s"})]),
    ("a name twice", ['Bearer realm="a",realm="b"'], [Challenge("bearer", {"realm": "a"})]),
    (
        "empty elements",
        [f', ,Bearer ,realm="{REALM}",, service=s,'],
        [Challenge("bearer", {"realm": REALM, "service": "s"})],
    ),
    (
        "a quote without end",
        ['Basic realm="x", Bearer realm="https:'],
        [Challenge("basic", {"realm": "x"}), Challenge("bearer", {})],
    ),
    ("no header at all", ['"quoted"', "Basic"], [Challenge("basic", {})]),
]


@pytest.mark.parametrize(("lines", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_challenges_are_read(lines: list[str], expected: list[Challenge]) -> None:
    assert parse_challenges(lines) == expected


@pytest.mark.parametrize(
    "line", ['Basic a="' + "\\" * 60_000, "a=" * 30_000, "a " * 30_000, "," * 60_000 + "=", "a" * 60_000]
)
def test_a_header_of_the_greatest_length_costs_no_time(line: str) -> None:
    parse_challenges([line])
