"""Functions, their versions and aliases, and the version counters that outlive them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the first tables."""
    op.create_table(
        "functions",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("function_id", sa.String(32), nullable=False, unique=True),
        sa.Column("tags", sa.Text, nullable=False),
    )
    op.create_table(
        "counters",
        sa.Column("function_name", sa.String(64), primary_key=True),
        sa.Column("last_version", sa.Integer, nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column(
            "function_name", sa.String(64), sa.ForeignKey("functions.name", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("state", sa.String(32), nullable=False, index=True),
        sa.Column("last_update_status", sa.String(16), nullable=True, index=True),
        sa.Column("code_key", sa.String(64), nullable=False, index=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("serving", sa.Text, nullable=True),
    )
    op.create_table(
        "aliases",
        sa.Column(
            "function_name", sa.String(64), sa.ForeignKey("functions.name", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drops them."""
    for table in ("aliases", "versions", "counters", "functions"):
        op.drop_table(table)
