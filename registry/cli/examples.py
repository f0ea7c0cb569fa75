"""Examples: the ends of the commands' help texts.

Tests: ``tests/cli/test_commands.py``.
"""

from __future__ import annotations


def examples(*lines: str) -> str:
    """The end of a help text; its lines are printed unchanged."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


SERVE = examples(
    "registry serve",
    "registry serve --config /etc/registry/config.json",
    "REGISTRY_HTTP__HOST=0.0.0.0 REGISTRY_STORAGE__ROOT_DIRECTORY=/srv/registry registry serve",
)
CHECK = examples("registry config check --config config.json", "REGISTRY_HTTP__PORT=8080 registry config check --json")
SHOW = examples("registry config show --config config.json")
SCHEMA = examples("registry config schema > config.schema.json")
REBUILD = examples("registry rebuild --config config.json", "registry rebuild --json 2>rebuild.log")
UPGRADE = examples("registry db upgrade --config config.json")
MIGRATE = examples(
    "registry migrate-s3-storage --config config.json --dry-run --plan review.json",
    "registry migrate-s3-storage --config config.json --adopt-only",
    "registry migrate-s3-storage --config config.json --plan review.json --rate 200",
    "registry migrate-s3-storage --config config.json --status",
    "registry migrate-s3-storage --config config.json --rollback --dry-run",
)
