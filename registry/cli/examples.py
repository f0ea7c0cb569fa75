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
RETENTION = examples(
    "registry retention --config config.json --dry-run",
    "registry retention --config config.json --rules proposed.json --json",
    "registry retention --config config.json --apply --force team/app",
)
GC = examples(
    "registry gc --config config.json --dry-run",
    "registry gc --config config.json",
    "registry gc --config config.json --orphans --json",
    "registry gc --config config.json --empty-trash team/app",
)
USAGE = examples(
    "registry usage --config config.json",
    "registry usage 'team/**' --json",
    "registry usage team/app:latest --config config.json",
)
SCRUB = examples(
    "registry scrub --config config.json",
    "registry scrub --config config.json --repair --json",
    "REGISTRY_SCRUB__RATE=200MiB registry scrub --config config.json",
)
HISTORY = examples("registry history team/app:latest --config config.json", "registry history team/app -n 100 --json")
RESTORE = examples(
    "registry restore team/app --config config.json",
    "registry restore team/app:latest --config config.json",
    "registry restore team/app:latest@41 --config config.json",
)
PURGE = examples(
    "registry purge team/app:leaked --config config.json",
    "registry purge team/app@sha256:9591... --everywhere --json",
)
CACHE_STATUS = examples("registry cache status --config config.json", "registry cache status --json")
MIRROR_LIST = examples("registry mirror list --config config.json", "registry mirror list --json")
UPGRADE = examples("registry db upgrade --config config.json")
MIGRATE = examples(
    "registry migrate-s3-storage --config config.json --dry-run --plan review.json",
    "registry migrate-s3-storage --config config.json --adopt-only",
    "registry migrate-s3-storage --config config.json --plan review.json --rate 200",
    "registry migrate-s3-storage --config config.json --status",
    "registry migrate-s3-storage --config config.json --rollback --dry-run",
)
USER_ADD = examples(
    "registry user add alice --file /etc/stowage/htpasswd",
    "pass show registry/alice | registry user add alice --config config.json",
)
USER_PASSWORD = examples("registry user passwd alice --config config.json")
USER_REMOVE = examples("registry user remove alice --config config.json")
USER_LIST = examples("registry user list --config config.json --json")
KEY_CREATE = examples(
    "registry key create --owner alice --config config.json",
    "registry key create --owner alice --repository 'team-a/**' --action push --days 30 --description 'CI of team-a'",
)
KEY_LIST = examples("registry key list --config config.json")
KEY_REVOKE = examples("registry key revoke 3f2a9c0d41b7e865 --config config.json")
ACCESS_CHECK = examples(
    "registry access check alice team-a/app push --config config.json",
    "registry access check oidc:gitlab/team/app team/app push --claim project_path=team/app --claim ref_protected=true",
)
