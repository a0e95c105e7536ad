"""When each chain's supply was compared with the log last, and what was found."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE chain_heads ADD COLUMN supply_block bigint, ADD COLUMN supply_total text, "
        "ADD COLUMN supply_by_events text, ADD COLUMN supply_at timestamptz; "
        "COMMENT ON COLUMN chain_heads.supply_by_events IS "
        "'What the log''s events added up to at supply_block, base units, minted less burnt.'"
    )


def downgrade() -> None:
    op.execute(
        "ALTER TABLE chain_heads DROP COLUMN supply_block, DROP COLUMN supply_total, "
        "DROP COLUMN supply_by_events, DROP COLUMN supply_at"
    )
