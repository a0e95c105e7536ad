"""What operators paused, and how fast each chain's blocks come: an explanation needs both."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = ("pause_facts",)

CREATE = """
CREATE TABLE pause_facts (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    scope text COLLATE "C" NOT NULL,
    paused boolean NOT NULL,
    "order" text NOT NULL,
    who text NOT NULL,
    why text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);
COMMENT ON TABLE pause_facts IS
    'Every pause and resumption; the last one of a scope counts. Few: people give them.';

ALTER TABLE chain_heads ADD COLUMN block_seconds double precision;
COMMENT ON COLUMN chain_heads.block_seconds IS
    'Time between two blocks by the chain''s clock, smoothed over about ten looks.';
"""


def upgrade() -> None:
    op.execute(CREATE)
    op.execute(
        "DELETE FROM request_facts WHERE topic = 'controls'; "
        "DELETE FROM projection_faults WHERE topic = 'controls'; "
        "UPDATE projection_offsets SET next_offset = 0 WHERE topic = 'controls'"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE chain_heads DROP COLUMN block_seconds")
    op.execute("DROP TABLE pause_facts")
