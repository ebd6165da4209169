"""Alembic's environment for the catalog; `thaw.catalog.database` runs it when the catalog is opened."""
