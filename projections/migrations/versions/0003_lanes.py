"""What blocks what: the work of each lane, wallets set aside, when each transaction got how far.

The tables of the lanes are emptied and folded anew from the `lanes` topic; requests stay as they
are, and are served meanwhile.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

AGAIN = """
TRUNCATE lanes, lane_transactions;
DELETE FROM request_facts WHERE topic = 'lanes';
DELETE FROM projection_faults WHERE topic = 'lanes';
UPDATE projection_offsets SET next_offset = 0 WHERE topic = 'lanes';
"""

LANES = """
ALTER TABLE lanes
    ADD COLUMN set_aside_number integer,
    ADD COLUMN set_aside_reason text,
    ADD COLUMN set_aside_at timestamptz;

ALTER TABLE lane_transactions
    ADD COLUMN prepared_block bigint,
    ADD COLUMN broadcast_block bigint,
    ADD COLUMN broadcast_at timestamptz,
    ADD COLUMN included_at timestamptz,
    ADD COLUMN closed_at timestamptz;
COMMENT ON COLUMN lane_transactions.closed_at IS
    'When its nonce was spent for good, on it or on another transaction.';

CREATE TABLE lane_work (
    chain_id bigint NOT NULL,
    wallet text NOT NULL,
    relay text COLLATE "C" NOT NULL,
    request_key text COLLATE "C" NOT NULL,
    state text NOT NULL,
    nonce bigint,
    requested_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    closed_at timestamptz,
    PRIMARY KEY (chain_id, wallet, relay)
) WITH (fillfactor = 80);
CREATE INDEX lane_work_open ON lane_work (chain_id, wallet, requested_at)
    WHERE state IN ('WAITING', 'REVERTED');
CREATE INDEX lane_work_closed ON lane_work (chain_id, wallet, closed_at);

CREATE TABLE lane_facts (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    chain_id bigint NOT NULL,
    wallet text NOT NULL,
    nonce bigint,
    kind text NOT NULL,
    at timestamptz NOT NULL,
    value jsonb NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);
CREATE INDEX lane_facts_lane ON lane_facts (chain_id, wallet, nonce, at);
COMMENT ON TABLE lane_facts IS
    'Facts of lanes that belong to no request: no-ops, and what befell the wallet itself.';
"""

TABLES = ("lane_work", "lane_facts")


def upgrade() -> None:
    op.execute(AGAIN)
    op.execute(LANES)


def downgrade() -> None:
    op.execute(AGAIN)
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
    op.execute(
        "ALTER TABLE lanes DROP COLUMN set_aside_number, DROP COLUMN set_aside_reason, "
        "DROP COLUMN set_aside_at"
    )
    op.execute(
        "ALTER TABLE lane_transactions DROP COLUMN prepared_block, DROP COLUMN broadcast_block, "
        "DROP COLUMN broadcast_at, DROP COLUMN included_at, DROP COLUMN closed_at"
    )
