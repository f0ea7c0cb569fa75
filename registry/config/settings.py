"""*Settings*: one JSON file, each key of which the environment may override as ``REGISTRY_<SECTION>__<KEY>``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from registry.config.access_sections import AccessSettings, AuthSettings
from registry.config.cache_sections import CacheSettings
from registry.config.file import ConfigError, Sources, read_environment, read_file
from registry.config.mirror_sections import Mirrors
from registry.config.mistakes import problems_of
from registry.config.retention_sections import RetentionSettings
from registry.config.scrub_sections import ScrubSettings
from registry.config.sections import (
    DatabaseSettings,
    GcSettings,
    HttpSettings,
    LimitsSettings,
    LogSettings,
    ManifestsSettings,
    MetricsSettings,
    MigrationSettings,
    StorageSettings,
)
from registry.config.urls import mask

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic.fields import FieldInfo

DATABASE_DIRECTORY = ".database"
"""Where SQLite is below the root directory unless ``database.url`` says something else."""


class Settings(BaseSettings):
    """All settings. The environment overrides the arguments of the constructor."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        title="Stowage configuration",
        nested_model_default_partial_update=True,
    )

    http: HttpSettings = HttpSettings()
    """Listening and answering."""
    storage: StorageSettings = StorageSettings()
    """Where content is kept."""
    database: DatabaseSettings = DatabaseSettings()
    """The cache database, which can always be filled again from storage."""
    cache: CacheSettings = CacheSettings()
    """Directories of this machine that keep what clients read from a bucket."""
    manifests: ManifestsSettings = ManifestsSettings()
    """Which manifests are accepted."""
    gc: GcSettings = GcSettings()
    """Keeping and collecting unreferenced content."""
    retention: RetentionSettings = RetentionSettings()
    """Which tags stay. A tag that no rule matches stays."""
    scrub: ScrubSettings = ScrubSettings()
    """Reading every object again and comparing it with its digest."""
    log: LogSettings = LogSettings()
    """The log, on stderr."""
    metrics: MetricsSettings = MetricsSettings()
    """Prometheus metrics."""
    limits: LimitsSettings = LimitsSettings()
    """Bounds on what one process uses."""
    migration: MigrationSettings = MigrationSettings()
    """Migrating a bucket that another registry filled."""
    mirrors: Mirrors = ()
    """OCI registries of other organisations, each below a prefix of repositories."""

    auth: AuthSettings | None = None
    """Where identities come from; null: every caller may do everything."""
    access: AccessSettings | None = None
    """What identities may do; null: users and keys may pull, push and delete everywhere, the rest nothing."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the interface of pydantic-settings
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file; no dotenv, no secrets directory."""
        return Environment(settings_cls), init_settings

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL in use: ``database.url``, or SQLite below the root directory."""
        return self.database.url or f"sqlite:///{self.storage.root_directory / DATABASE_DIRECTORY / 'registry.db'}"

    def masked(self) -> dict[str, Any]:
        """Every value in use as JSON values, secrets replaced by asterisks."""
        document = self.model_dump(mode="json", by_alias=True)
        if self.database.url is not None:
            document["database"]["url"] = mask(self.database.url)
        return document

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema (2020-12) of the file, comments included."""
        schema = cls.model_json_schema()
        for model in (schema, *schema["$defs"].values()):
            model["patternProperties"] = {"^#": {}}
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class Environment(PydanticBaseSettingsSource):
    """The variables ``REGISTRY_<SECTION>__<KEY>`` of the process."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The variables of one section; part of the interface of a source."""
        return read_environment(os.environ).get(field_name), field_name, field.is_required()

    def __call__(self) -> dict[str, Any]:
        """Every variable that is ours, known key or not, so that an unknown one is an error."""
        return read_environment(os.environ)


def load_settings(path: Path | None) -> Settings:
    """The settings of the file (none: the defaults) and the environment. Raises ConfigError, which names the keys."""
    document = read_file(path) if path is not None else {}
    try:
        return Settings(**document)
    except ValidationError as error:
        raise ConfigError(problems_of(error, Settings, Sources(os.environ, path, document))) from None
