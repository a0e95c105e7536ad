"""The read side's tables. All of them can be dropped and are rebuilt from the log."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

REQUESTS = """
CREATE TABLE requests (
    request_key text COLLATE "C" PRIMARY KEY,
    request_id text COLLATE "C" NOT NULL,
    type text NOT NULL,
    status text NOT NULL,
    stage text NOT NULL,
    reason text,
    error_message text,
    user_address text,
    amount text,
    chain_id bigint,
    tx_hash text,
    fiat_ref text,
    attempt integer NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    state jsonb NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX requests_page ON requests (created_at, request_key);
CREATE INDEX requests_chain_page ON requests (chain_id, created_at, request_key);
CREATE INDEX requests_status_page ON requests (status, created_at, request_key);
CREATE INDEX requests_stage ON requests (type, stage, created_at);
CREATE INDEX requests_id ON requests USING hash (request_id);
CREATE INDEX requests_user ON requests USING hash (lower(user_address));
CREATE INDEX requests_tx_hash ON requests USING hash (tx_hash);
CREATE INDEX requests_fiat_ref ON requests USING hash (fiat_ref);
COMMENT ON TABLE requests IS 'One row a request; state is the folded RequestState.';
"""
# Hash indexes where the text is of any length: a B-tree refuses entries above 2.7 kB, and one
# such record would stop the projection.

FACTS = """
CREATE TABLE request_facts (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    request_key text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    fact_id text NOT NULL,
    at timestamptz NOT NULL,
    value jsonb NOT NULL,
    verdict text,
    PRIMARY KEY (topic, partition, "offset")
);
CREATE INDEX request_facts_key ON request_facts USING hash (request_key);
COMMENT ON COLUMN request_facts.verdict IS
    'What the fold made of it; null for facts of other topics, which the fold does not read.';

CREATE TABLE projection_offsets (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

CREATE TABLE projection_state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    writer text NOT NULL,
    beat_at timestamptz NOT NULL,
    fresh_at timestamptz,
    problem text
);
COMMENT ON COLUMN projection_state.fresh_at IS
    'All that stood on the log at this time is in the tables.';

CREATE TABLE projection_faults (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    reason text NOT NULL,
    value bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, "offset")
);
COMMENT ON TABLE projection_faults IS
    'Records that could not be read; value holds the first 64 KiB. The log holds all.';
"""

CHAINS = """
CREATE TABLE lanes (
    chain_id bigint NOT NULL,
    wallet text NOT NULL,
    first_nonce bigint,
    next_nonce bigint,
    halted_reason text,
    halted_at timestamptz,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (chain_id, wallet)
);

CREATE TABLE lane_transactions (
    chain_id bigint NOT NULL,
    wallet text NOT NULL,
    nonce bigint NOT NULL,
    tx_hash text NOT NULL,
    relay text,
    state text NOT NULL,
    replaces text,
    gas_limit bigint,
    max_fee_per_gas_wei numeric,
    max_priority_fee_per_gas_wei numeric,
    block_number bigint,
    block_hash text,
    succeeded boolean,
    gas_used bigint,
    prepared_at timestamptz,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (chain_id, wallet, nonce, tx_hash)
);
CREATE INDEX lane_transactions_open ON lane_transactions (chain_id, wallet, nonce)
    WHERE state IN ('PREPARED', 'BROADCAST', 'INCLUDED', 'ORPHANED');

CREATE TABLE chain_heads (
    chain_id bigint PRIMARY KEY,
    to_block bigint,
    to_hash text,
    to_timestamp timestamptz,
    followed_at timestamptz,
    halted_reason text,
    halted_at timestamptz
);

CREATE TABLE dead_letters (
    fact_id text PRIMARY KEY,
    origin text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    raw_bytes bigint NOT NULL,
    raw_sha256 text NOT NULL,
    at timestamptz NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL
);
CREATE INDEX dead_letters_reason ON dead_letters (reason, at);
"""

TABLES = (
    "requests",
    "request_facts",
    "projection_offsets",
    "projection_state",
    "projection_faults",
    "lanes",
    "lane_transactions",
    "chain_heads",
    "dead_letters",
)


def upgrade() -> None:
    for statements in (REQUESTS, FACTS, CHAINS):
        op.execute(statements)


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
