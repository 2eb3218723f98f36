"""Run migrations on the connection that `adapters.migrate` hands over."""

from alembic import context

from adapters.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
context.run_migrations()
