"""Runs the schema migrations on the connection that ``registry.database.schema`` hands over."""

from __future__ import annotations

from alembic import context

from registry.database import revision
from registry.database.tables import metadata

connection = context.config.attributes["connection"]
revision.begin(connection)
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=revision.TABLE,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
revision.tell(connection)
