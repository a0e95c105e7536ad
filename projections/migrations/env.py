"""Alembic's entry: runs on the connection that `projections.database.migrate` hands over, which
holds the advisory lock. There is no offline mode and no URL in any file."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=None)
with context.begin_transaction():
    context.run_migrations()
