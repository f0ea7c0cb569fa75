"""Checks of mirrors: what a registry with mirrors has to pass, each named by the tests that do it.

A test or a module of tests says so in its docstring: "check 7 of mirrors", "checks 6, 7 and 8 of mirrors".
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

CHECKS = {
    1: "memory: large layers at a time, over each driver, also for clients that are slow",
    2: "tee: a client has bytes while the upstream sends the rest",
    3: "one fetch: fifty clients of all processes are one request and its bytes",
    4: "a late client of another process has all bytes, for no further request",
    5: "an upstream that breaks off, with ranges and without; no short answer looks whole",
    6: "an upstream whose content changes in between: anew, or cut, and never mixed",
    7: "wrong bytes: a byte is missing for each client, then 404 without a request",
    8: "a leader that is killed, after each of its steps too",
    9: "a client that leaves stops no fetch, or does where it is to, and closes the connection",
    10: "a leader that is frozen changes nothing when it wakes",
    11: "a slow client holds back neither a fast one nor the upstream",
    12: "a tag that is here is served whatever the upstream does; a pause holds for all replicas",
    13: "a digest that is here is served without the upstream",
    14: "within its time a tag costs no request, after it one, and no client gets the old one again",
    15: "a late answer changes nothing, on storage, in the database and after a rebuild",
    16: "an absence is one request in a while, found when it has come, and takes nothing away",
    17: "digests and ETags that are absent, wrong or of another kind, upstreams without HEAD",
    18: "bytes, digests and media types are as they were sent; referrers are found",
    19: "credentials are shown to the upstream alone, and appear nowhere",
    20: "rights: bytes of one repository are shown to no other one whose upstream does not have them",
    21: "an upstream sends a mirror to no address of the network it stands in",
    22: "names: no push below a prefix, no fallback from a local name, no unknown namespace",
    23: "credentials that expire or change",
}
"""Those of mirrors of registries; the cache of a bucket has its own."""
ROOT = Path(__file__).parent
NAMED = re.compile(r"\b[Cc]hecks? (\d++(?:(?:, | and )\d++)*+) of mirrors")


@cache
def named() -> dict[int, list[str]]:
    """The tests and modules that name each check."""
    found: dict[int, list[str]] = {}
    for path in sorted(ROOT.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if path == Path(__file__) or " of mirrors" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for match in NAMED.finditer(ast.get_docstring(node) or ""):
                    for number in re.findall(r"\d+", match[1]):
                        told = f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'all of it')}"
                        found.setdefault(int(number), []).append(told)
    return found


@pytest.mark.parametrize("number", sorted(CHECKS))
def test_a_check_is_named_by_a_test(number: int) -> None:
    assert named().get(number), f"no test says that it is check {number} of mirrors: {CHECKS[number]}"
