"""Runs the migrations on the connection that the opener of the catalog hands over, inside its transaction."""

from __future__ import annotations

from alembic import context

from thaw.catalog.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
