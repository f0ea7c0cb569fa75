"""Groups of the configuration."""

from __future__ import annotations

from registry.auth.groups import Groups


def test_a_member_is_in_each_group_that_lists_it() -> None:
    groups = Groups({"one": ["alice", "key:1"], "two": ["alice"], "none": []})
    assert groups.of("alice") == {"one", "two"}
    assert groups.of("key:1") == {"one"}
    assert groups.of("bob") == frozenset()
