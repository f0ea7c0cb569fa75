"""Queries of usage look through no table for a few rows, on either database."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.database.statement import Statement
from registry.database.usage import blobs, closures, holders
from tests.database.test_query_plans import explain

OF_A_REPOSITORY = [
    blobs._MEMBERS,
    blobs._TRASHED_MANIFESTS,
    blobs._TRASHED_BLOBS,
    blobs._MANIFESTS,
    blobs._NAMED_BYTES,
    closures._NAMED,
]


@pytest.mark.parametrize("statement", OF_A_REPOSITORY)
def test_what_is_asked_of_a_repository_is_found_by_its_id(statement: Statement, tmp_path: Path) -> None:
    plan = explain(statement, tmp_path)
    assert not any("SCAN" in step and "SCAN p" not in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


def test_what_manifests_name_is_found_by_the_range_of_their_ids(tmp_path: Path) -> None:
    plan = explain(blobs._NAMED_BYTES, tmp_path)
    assert any("SEARCH r USING PRIMARY KEY (repository_id=? AND manifest_id>?" in step for step in plan), plan


def test_all_blobs_are_read_in_the_order_of_their_ids(tmp_path: Path) -> None:
    plan = explain(holders._PAGE, tmp_path)
    assert any("SEARCH b USING INTEGER PRIMARY KEY (rowid>?)" in step for step in plan), plan
    assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan), plan


def test_objects_are_found_by_their_blobs(tmp_path: Path) -> None:
    plan = explain(holders._LOCATIONS, tmp_path)
    assert any("ix_blob_location_blob_id" in step for step in plan), plan
    assert not any("SCAN" in step or "TEMP B-TREE" in step for step in plan), plan
