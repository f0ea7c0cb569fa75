"""The conformance program of the distribution specification: how it is found, run and read.

Its exit code alone proves little: it ends with 0 when its configuration cannot be read, and "not supported" answers are
skips that do not fail it. So its reports are read: the counts of `junit.xml` are per request that was judged, where a
skip counts even if the test around it passed; `results.yaml` has one status per API and per kind of data, where "Pass"
hides a skip beside it, but "Disabled" shows that nothing was tried.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.support.tools import find_tool, tool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODULE = "github.com/opencontainers/distribution-spec/conformance@967efdc079b9"
TIMEOUT = 360.0  # seconds for one run, which takes a few


@dataclass(frozen=True)
class Report:
    """What one run found: counts of judged requests, and the status of each API and each kind of data."""

    total: int
    failed: int
    errors: int
    skipped: int
    disabled: int
    apis: Mapping[str, str]
    data: Mapping[str, str]
    output: str
    """The end of what the program printed, with the reason of every failure."""

    def __str__(self) -> str:
        """The totals in one line."""
        return (
            f"{self.total} tests: {self.failed} failed, {self.errors} errors, {self.skipped} skipped, "
            f"{self.disabled} disabled; {len(self.apis)} APIs, {len(self.data)} kinds of data"
        )


def command() -> list[str]:
    """`$CONFORMANCE`, else the program among the tools, else `go run`; skips the test where none of them is there."""
    if named := os.environ.get("CONFORMANCE"):
        return shlex.split(named)
    if find_tool("conformance") is None and (go := find_tool("go")):
        return [str(go), "run", MODULE]
    return [str(tool("conformance"))]


def run(address: str, results: Path, settings: Mapping[str, str] | None = None) -> Report:
    """Run the whole program for version 1.1+dev against `host:port`; `results` must not exist yet."""
    results.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OCI_")}
    done = subprocess.run(
        command(),
        cwd=results,
        env={
            **kept,
            "OCI_VERSION": "dev",
            "OCI_REGISTRY": address,
            "OCI_TLS": "disabled",
            "OCI_RESULTS_DIR": str(results),
            **(settings or {}),
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    output = done.stdout + done.stderr
    junit = results / "junit.xml"
    assert junit.exists(), f"the program wrote no report and exited with {done.returncode}:\n{output}"
    counts = ET.parse(junit).getroot().attrib  # noqa: S314 - written by the program we started
    statuses = read_statuses((results / "results.yaml").read_text(encoding="utf-8"))
    return Report(
        total=int(counts["tests"]),
        failed=int(counts.get("failures", 0)),
        errors=int(counts.get("errors", 0)),
        skipped=int(counts.get("skipped", 0)),
        disabled=int(counts.get("disabled", 0)),
        apis=statuses["apis"],
        data=statuses["data"],
        output=failures(output),
    )


def read_statuses(text: str) -> dict[str, dict[str, str]]:
    """Read the sections `apis` and `data` of `results.yaml`, which are flat maps of a name to a status."""
    found: dict[str, dict[str, str]] = {}
    section = ""
    for line in text.splitlines():
        name, _, value = line.partition(": ")
        if not line.startswith(" "):
            section = line.rstrip(":")
            found[section] = {}
        elif section in ("apis", "data"):
            found[section][name.strip()] = value.strip()
    return found


def failures(output: str) -> str:
    """Return the lines about what did not pass, each with the reasons below it."""
    kept: list[str] = []
    wanted = False
    for line in output.splitlines():
        if not line.lstrip().startswith("- "):
            wanted = line.rstrip().endswith((": FAIL", ": Error", ": Skip"))
        if wanted:
            kept.append(line)
    return "\n".join(kept[:200])
