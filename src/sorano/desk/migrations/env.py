"""Alembic's entry: runs the versions on the connection that `sorano.web.migrate` gives."""

from __future__ import annotations

from alembic import context

from sorano.desk.tables import VERSIONS, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSIONS,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
