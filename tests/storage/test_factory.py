"""The table of drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.config.sections import StorageSettings
from registry.config.settings import Settings
from registry.storage.factory import DRIVERS, open_driver


@pytest.mark.parametrize("dedupe", [True, False])
def test_the_local_driver_is_opened_as_configured(tmp_path: Path, dedupe: bool) -> None:
    storage = StorageSettings(driver="local", root_directory=tmp_path / "store", fsync=False, dedupe=dedupe)
    driver = open_driver(Settings(storage=storage))
    driver.write("a/x", b"data")
    driver.link("a/x", "b/x")
    assert driver.name == "local"
    assert (tmp_path / "store/a/x").samefile(tmp_path / "store/b/x") is dedupe


def test_every_name_that_the_configuration_accepts_has_a_driver() -> None:
    accepted = StorageSettings.model_fields["driver"].annotation
    assert set(DRIVERS) == set(accepted.__args__)  # type: ignore[union-attr]
