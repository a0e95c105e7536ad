"""How far each webhook's endpoint was served, and what it refused. NOT rebuilt from the log: these
tables stand in a schema of their own, which no rebuild of the projection touches."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE SCHEMA IF NOT EXISTS webhooks;

CREATE TABLE IF NOT EXISTS webhooks.endpoints (
    name text PRIMARY KEY,
    shown_url text NOT NULL,
    cursor text NOT NULL,
    holder text,
    beat_at timestamptz,
    delivered bigint NOT NULL DEFAULT 0,
    delivered_at timestamptz,
    turn_place text,
    turn_fact_id text,
    turn_since timestamptz,
    turn_attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    problem text
) WITH (fillfactor = 50);
COMMENT ON COLUMN webhooks.endpoints.cursor IS 'All before it was answered for.';
COMMENT ON COLUMN webhooks.endpoints.turn_place IS 'The event that is being tried again.';

CREATE TABLE IF NOT EXISTS webhooks.dead_letters (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    webhook_id text NOT NULL,
    kind text NOT NULL,
    fact_id text,
    reason text NOT NULL,
    attempts integer NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    ordered_at timestamptz,
    ordered_by text,
    redelivered_at timestamptz,
    UNIQUE (endpoint, topic, partition, "offset")
);
CREATE INDEX IF NOT EXISTS dead_letters_open ON webhooks.dead_letters (endpoint, number)
    WHERE redelivered_at IS NULL;

CREATE TABLE IF NOT EXISTS webhooks.skips (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint text NOT NULL,
    place text NOT NULL,
    who text NOT NULL,
    why text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz
);
COMMENT ON TABLE webhooks.skips IS 'Orders to give up on one event, and which event was meant.';
"""


def upgrade() -> None:
    op.execute(SCHEMA)


def downgrade() -> None:
    op.execute("DROP SCHEMA webhooks CASCADE")
