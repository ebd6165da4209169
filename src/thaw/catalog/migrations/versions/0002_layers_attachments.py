"""Layers, and what hangs on functions, versions and aliases: policies, URLs, concurrency and the like."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "layer_counters",
        sa.Column("layer_name", sa.String(140), primary_key=True),
        sa.Column("last_version", sa.Integer, nullable=False),
    )
    op.create_table(
        "layer_versions",
        sa.Column("layer_name", sa.String(140), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("content_key", sa.String(64), nullable=False, index=True),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "attachments",
        sa.Column(
            "function_name", sa.String(64), sa.ForeignKey("functions.name", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("qualifier", sa.String(128), primary_key=True),
        sa.Column("kind", sa.String(32), primary_key=True, index=True),
        sa.Column("lookup", sa.String(64), nullable=True, unique=True),
        sa.Column("document", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drops them."""
    for table in ("attachments", "layer_versions", "layer_counters"):
        op.drop_table(table)
