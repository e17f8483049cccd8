"""Run the migrations on the connection that control_api.schema hands over."""

from __future__ import annotations

from alembic import context

from control_api.schema import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can, with BEGIN sent explicitly as db.py does
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
