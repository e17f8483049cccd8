"""The history of the schema, written for Alembic."""
