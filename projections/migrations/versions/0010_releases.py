"""Which halt a chain is in, and when a person let it go on: a release shows before the next range.

A halt that stands has its block in the words that the follower writes.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

HALT = """
UPDATE chain_heads
SET halt = 'halted:' || chain_id || ':'
    || array_to_string(regexp_match(halted_reason, '^block (\\d+) was (0x[0-9a-f]+) and'), ':')
WHERE halted_reason IS NOT NULL
"""


def upgrade() -> None:
    op.execute("ALTER TABLE chain_heads ADD COLUMN halt text, ADD COLUMN resumed_at timestamptz")
    op.execute(HALT)


def downgrade() -> None:
    op.execute("ALTER TABLE chain_heads DROP COLUMN halt, DROP COLUMN resumed_at")
