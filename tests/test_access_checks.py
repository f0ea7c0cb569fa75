"""Checks of access: what a registry with users and rules has to pass, each named by the tests that do it.

A test or a module of tests says so in its docstring: "check 7", "checks 6, 7 and 8". Below OTHER, where tests name the
checks of collection so, it says "check 7 of access".
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

CHECKS = {
    1: "real clients: public pull without a login, private pull and push with one, a wrong password is said",
    2: "GET /v2/: 401 and one challenge without credentials, with empty and wrong ones; 200 with any good ones",
    3: "what is public needs no token; what is private answers as what is not there, at the same cost",
    4: "docker login keeps a password and no token, and what it wrote is a pull secret",
    5: "scopes: twenty forms, by GET and POST, repeated and spaced, give the same",
    6: "a push with the right to pull: a token with less than asked, then 403, and clients stop",
    7: "a token with too little: 401 with what another needs, and clients get it",
    8: "a push across repositories: mounted where the source may be read, sent where not, no mount refused",
    9: "a mount without a source tells nothing of a blob that the caller may not read",
    10: "a token that ends during a push does not end the push; containerd 1.6 may hang then, and no test has it",
    11: "a client whose clock is wrong pulls",
    12: "a user, key or rule that is taken away, or another password, ends old tokens everywhere",
    13: "forged, foreign, expired and huge tokens: 401, and no request leaves the registry",
    14: "workloads of GitHub, GitLab and Kubernetes; keys that change, providers that are down",
    15: "a rule with a claim in its pattern opens no neighbour",
    16: "many logins cost a hash for each user, not for each request",
    17: "guesses cost few hashes, keep no other caller out and tell no user",
    18: "rules: a table, more rules never take away, order means nothing",
    19: "a catalog of which few names are visible: full pages, and nothing of the rest",
    20: "immutable tags: another digest is refused, by tag, by list, in parallel",
    21: "every route asks for credentials unless it is decided otherwise",
    22: "reads from memory are decided as those without",
    23: "an address in the store is told after the decision alone",
    24: "the cookie of the page is no credential for clients, and of no use to other sites",
    25: "no secret is in logs, metrics, errors, settings as shown or the journal",
}
MISSING: frozenset[int] = frozenset()
"""Checks whose tests are still to come."""
ROOT = Path(__file__).parent
_NUMBERS = r"\b[Cc]hecks? (\d++(?:(?:, | and )\d++)*+)"
NAMED = re.compile(_NUMBERS + "(?! of (?:lifecycle|mirrors))")
NAMED_THERE = re.compile(_NUMBERS + " of access")
OTHER = ("images", "maintenance")


@cache
def named() -> dict[int, list[str]]:
    """The tests and modules that name each check."""
    found: dict[int, list[str]] = {number: [] for number in CHECKS}
    for path in sorted(ROOT.rglob("test_*.py")):
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        pattern = NAMED_THERE if path.relative_to(ROOT).parts[0] in OTHER else NAMED
        if pattern.search(text) is None:  # to parse all of them takes seconds
            continue
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for match in pattern.finditer(ast.get_docstring(node) or ""):
                    for number in re.findall(r"\d+", match[1]):
                        found[int(number)].append(f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'all of it')}")
    return found


def test_no_check_of_another_number_is_named() -> None:
    assert named().keys() == CHECKS.keys()


@pytest.mark.parametrize("number", sorted(CHECKS.keys() - MISSING))
def test_a_check_is_named_by_a_test(number: int) -> None:
    assert named()[number], f"no test says that it is check {number}: {CHECKS[number]}"
