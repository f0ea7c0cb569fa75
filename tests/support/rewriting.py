"""*Rewriting*: the workers of one run share what pytest makes of each assert, where a new checkout has none of it yet.

It takes longer than everything else that is done to collect tests, and each worker would do it for every file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from _pytest.assertion import rewrite

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

PATTERN = "test_*.py"


def share_rewriting(config: pytest.Config) -> None:
    """Rewrite a worker's part of the files, before it collects all of them and finds what the rest have rewritten.

    Where another has not come as far yet, a file is rewritten twice. Nothing outside of a worker.
    """
    given: dict[str, object] | None = getattr(config, "workerinput", None)
    if given is None or sys.dont_write_bytecode:
        return
    place, count = int(str(given["workerid"]).removeprefix("gw")), int(str(given["workercount"]))
    state = config.stash[rewrite.assertstate_key]
    for file in files(config.args)[place::count]:
        directory = rewrite.get_cache_dir(file)
        kept = directory / f"{file.stem}{rewrite.PYC_TAIL}"
        if rewrite._read_pyc(file, kept) is None and rewrite.try_makedirs(directory):
            of_source, code = rewrite._rewrite_test(file, config)
            rewrite._write_pyc(state, code, of_source, kept)


def files(arguments: Iterable[str]) -> list[Path]:
    """The files with tests that pytest was told to collect."""
    found: set[Path] = set()
    for argument in arguments:
        path = Path(argument.partition("::")[0]).resolve()
        found.update(path.rglob(PATTERN) if path.is_dir() else [path] if path.match(PATTERN) else [])
    return sorted(found)
