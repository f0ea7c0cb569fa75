"""Output: the exit code of every command, and one JSON document on stdout with ``--json``.

Tests: ``tests/cli/test_commands.py``.
"""

from __future__ import annotations

import enum
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.config.file import ConfigError, ConfigProblem, Sources, read_file

if TYPE_CHECKING:
    from registry.config.settings import Settings
    from registry.observability.audit import AuditLog

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="JSON file of settings (none: the defaults). REGISTRY_<SECTION>__<KEY> in the environment goes first.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]


SHOWN = 20
"""Most names that follow a message for a person."""


class ExitCode(enum.IntEnum):
    """The meaning of each exit code."""

    DONE = 0
    PROBLEMS = 1
    """Done, but problems are listed."""
    USAGE = 2
    """Bad usage or configuration; nothing was done."""
    REFUSED = 3
    """Something would be lost."""
    UNFINISHED = 4
    """Run it again."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The failure of a command."""

    code: ExitCode
    error: str
    """One word for programs: usage, configuration, refused, unfinished."""
    message: str
    names: list[str] = field(default_factory=list)
    """The names that the message is about, one a line."""


class Output:
    """The output of a command: documents and lines on stdout, everything else on stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.config: Path | None = None

    def document(self, value: object, lines: Iterable[str]) -> None:
        """The result: ``value`` (a dataclass or a JSON value) for a program, ``lines`` for a person, one by one."""
        if self.as_json:
            print_json(value)
        else:
            for line in lines:
                print(line)

    def settings(self, path: Path | None) -> Settings:
        """The settings of this command; logs go to stderr in their form from here on. Raises ConfigError."""
        from registry.config.settings import load_settings
        from registry.observability.logs import configure_logging

        self.config = path
        settings = load_settings(path)
        configure_logging(settings.log.format, settings.log.level)
        return settings

    def usable_settings(self, path: Path | None) -> Settings:
        """As ``settings``, and check that storage and database can be used. Raises ConfigError if they cannot."""
        from registry.config.check import check_stores

        settings = self.settings(path)
        problems = check_stores(settings)
        if problems:
            raise ConfigError(problems)
        return settings

    def locate(self, error: ConfigError) -> ConfigError:
        """The same mistakes with the source of each: an operator may have several files."""
        try:
            document = read_file(self.config) if self.config is not None else {}
        except ConfigError:
            return error
        return error.located(Sources(os.environ, self.config, document))


@contextmanager
def command(*, as_json: bool) -> Iterator[Output]:
    """The frame of every command: an error inside becomes a message and its exit code."""
    output = Output(as_json=as_json)
    try:
        yield output
    except typer.Exit:
        raise
    except ConfigError as error:
        _fail_configuration(output.locate(error), as_json=as_json)
    except SystemExit as error:
        _fail(
            Failure(ExitCode.UNFINISHED, "unfinished", f"ended with {error.code!r}; its log says why"), as_json=as_json
        )
    except KeyboardInterrupt:
        _fail(Failure(ExitCode.UNFINISHED, "unfinished", "interrupted; run it again"), as_json=as_json)
    except Exception as error:
        mistake = _mistake(error)
        if mistake is not None:
            _fail_configuration(output.locate(mistake), as_json=as_json)
        failure = _explain(error)
        if failure is None:
            import logging

            logging.getLogger("registry.cli").exception("unexpected error")
            failure = Failure(ExitCode.UNFINISHED, "unfinished", f"unexpected error: {error!r}")
        _fail(failure, as_json=as_json)


def open_command_audit(settings: Settings) -> AuditLog | None:
    """The audit log for what a command does; None if it is not wanted. Raises OSError.

    Open it before anything is done: an operator sees that it cannot be.
    """
    from registry.observability.audit import open_audit_log

    with_access = settings.auth is not None or settings.access is not None

    def to_stderr(line: bytes) -> None:
        print(line.decode(errors="replace"), end="", file=sys.stderr)

    return open_audit_log(settings.log.audit.file, with_access=with_access, stderr=to_stderr)


def print_json(value: object) -> None:
    """One document on stdout; paths and times as text."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    json.dump(plain, sys.stdout, indent=2, default=str, ensure_ascii=False)
    sys.stdout.write("\n")


def describe(report: object) -> list[str]:
    """The fields of a report, one to a line, for a person; lists by their lines."""
    fields: dict[str, Any] = asdict(report) if is_dataclass(report) and not isinstance(report, type) else {}
    lines = []
    for name, value in fields.items():
        label = name.replace("_", " ")
        if isinstance(value, (list, tuple)):
            lines += [f"{label}: {len(value)}", *(f"  {entry}" for entry in value)]
        else:
            lines.append(f"{label}: {'none' if value is None else value}")
    return lines


def _explain(error: Exception) -> Failure | None:
    """The failure that an error of the layers below means; None for an unexpected error."""
    from registry.auth.errors import AccountError
    from registry.database.errors import DatabaseError, SchemaTooNew
    from registry.images.migration_journal.documents import UnknownJournal
    from registry.maintenance.collection.budget import Stopped
    from registry.maintenance.collection.survey.gc_state import CollectionRefused
    from registry.maintenance.single_replica import AnotherReplica
    from registry.migration.report import Refused, Unfinished
    from registry.migration.source.detection import BothLayouts
    from registry.mirror.prefix_claims import PrefixTaken
    from registry.oci.errors import RegistryError
    from registry.storage.errors import StorageError

    is_mistake = isinstance(error, RegistryError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR
    if is_mistake or isinstance(error, AccountError):
        return Failure(ExitCode.USAGE, "usage", str(error))
    if isinstance(error, Refused):
        return Failure(ExitCode.REFUSED, "refused", str(error), error.names)
    if isinstance(error, (Unfinished, Stopped)):
        return Failure(ExitCode.UNFINISHED, "unfinished", str(error))
    if isinstance(error, (UnknownJournal, SchemaTooNew, AnotherReplica, BothLayouts, CollectionRefused, PrefixTaken)):
        is_journal = isinstance(error, UnknownJournal)
        message = f"the journal {error}; use the release that wrote it" if is_journal else str(error)
        return Failure(ExitCode.REFUSED, "refused", message)
    if isinstance(error, (DatabaseError, StorageError, RegistryError, OSError)):
        return Failure(ExitCode.UNFINISHED, "unfinished", f"{error}; run the command again once that is repaired")
    return None


def _fail(failure: Failure, *, as_json: bool) -> None:
    if as_json:
        named = {"names": failure.names} if failure.names else {}
        print_json({"error": failure.error, "message": failure.message} | named)
    else:
        more = len(failure.names) - SHOWN
        names = [*failure.names[:SHOWN], *([f"and {more:,} more: --json has all"] if more > 0 else [])]
        print(f"registry: {failure.message}", *names, sep="\n  ", file=sys.stderr)
    raise typer.Exit(failure.code)


def _mistake(error: Exception) -> ConfigError | None:
    """The mistake in the configuration that caused an error of the layers below; None if there is none."""
    from registry.database.errors import DatabaseUrlInvalid

    return (
        ConfigError([ConfigProblem("database.url", str(error), "")]) if isinstance(error, DatabaseUrlInvalid) else None
    )


def _fail_configuration(error: ConfigError, *, as_json: bool) -> None:
    if as_json:
        print_json(error.document())
    else:
        for line in str(error).splitlines():
            print(f"registry: {line}", file=sys.stderr)
    raise typer.Exit(ExitCode.USAGE)
