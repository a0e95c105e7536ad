"""Flow, latencies and supply are kept, so that an overview never scans a million rows.

Triggers keep them in the writer's own transaction, as they keep the counts (0002), and name their
own table's schema. Every sum is a function of the rows: what a statement adds is what its rows say
now less what they said before, and a test compares the sums with those over all rows.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = ("request_flow", "request_latencies", "token_events", "chain_supply")

CREATE = """
CREATE TABLE request_flow (
    width_seconds integer NOT NULL,
    at timestamptz NOT NULL,
    received bigint NOT NULL,
    completed bigint NOT NULL,
    failed bigint NOT NULL,
    PRIMARY KEY (width_seconds, at)
) WITH (fillfactor = 80);
COMMENT ON TABLE request_flow IS
    'Requests by the bucket of their creation, and of their last change for those at their end.';

CREATE TABLE request_latencies (
    width_seconds integer NOT NULL,
    at timestamptz NOT NULL,
    bin integer NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (width_seconds, at, bin)
) WITH (fillfactor = 80);
COMMENT ON COLUMN request_latencies.bin IS
    'Creation to completion, in bins of equal ratio: a percentile is known to 2 %.';

CREATE TABLE token_events (
    seat text PRIMARY KEY,
    chain_id bigint NOT NULL,
    event text NOT NULL,
    amount numeric NOT NULL,
    stands boolean NOT NULL
);
COMMENT ON TABLE token_events IS
    'Every Minted and Redeemed of the contracts, once; stands is false for those taken back.';

CREATE TABLE chain_supply (
    chain_id bigint PRIMARY KEY,
    minted numeric NOT NULL,
    redeemed numeric NOT NULL
) WITH (fillfactor = 50);
"""

BUCKET = "to_timestamp(floor(extract(epoch FROM {}) / width) * width)"
WIDTHS = "(VALUES (10), (300)) AS widths (width)"
CREATED, CHANGED = BUCKET.format("created_at"), BUCKET.format("changed_at")

FLOW = f"""
INSERT INTO %s.request_flow AS held
SELECT * FROM (
    SELECT width, at, sum(received) AS received, sum(completed) AS completed, sum(failed) AS failed
    FROM (
        SELECT width, {CREATED} AS at, n AS received, 0 AS completed, 0 AS failed
        FROM (%s) AS rows, {WIDTHS}
        UNION ALL
        SELECT width, {CHANGED}, 0,
            CASE status WHEN 'COMPLETED' THEN n ELSE 0 END,
            CASE status WHEN 'FAILED' THEN n ELSE 0 END
        FROM (%s) AS rows, {WIDTHS} WHERE status IN ('COMPLETED', 'FAILED')
    ) AS single GROUP BY width, at
) AS delta WHERE received <> 0 OR completed <> 0 OR failed <> 0
ON CONFLICT (width_seconds, at) DO UPDATE SET received = held.received + EXCLUDED.received,
    completed = held.completed + EXCLUDED.completed, failed = held.failed + EXCLUDED.failed
"""  # noqa: S608 - names from this module

LATENCIES = f"""
INSERT INTO %s.request_latencies AS held
SELECT * FROM (
    SELECT width, {CHANGED} AS at,
        ceil(
            ln(greatest(extract(epoch FROM changed_at - created_at)::float8, 0.001))
            / ln(1.02::float8 / 0.98::float8)
        )::int AS bin,
        sum(n) AS count
    FROM (%s) AS rows, {WIDTHS} WHERE status = 'COMPLETED' GROUP BY 1, 2, 3
) AS delta WHERE count <> 0
ON CONFLICT (width_seconds, at, bin) DO UPDATE SET count = held.count + EXCLUDED.count
"""  # noqa: S608

EVENTS = """
WITH told AS (
    SELECT seat, max(chain_id) AS chain_id, max(event) AS event, max(amount) AS amount,
        (array_agg(kind ORDER BY "offset" DESC))[1] = 'ContractEvent' AS stands
    FROM (
        SELECT kind, "offset", (value ->> 'chain_id')::bigint AS chain_id,
            value ->> 'event' AS event, (value ->> 'amount')::numeric AS amount,
            concat_ws(':', value ->> 'chain_id', value ->> 'block_hash', value ->> 'log_index')
            AS seat
        FROM %s WHERE topic = 'evm.events' AND kind IN ('ContractEvent', 'EventRetracted')
            AND value ->> 'event' IN ('Minted', 'Redeemed')
    ) AS single GROUP BY seat
), taken_back AS (
    UPDATE %s.token_events AS held SET stands = false FROM told
    WHERE held.seat = told.seat AND told.amount IS NULL AND held.stands
)
INSERT INTO %s.token_events AS held (seat, chain_id, event, amount, stands)
SELECT seat, chain_id, event, amount, stands FROM told WHERE amount IS NOT NULL
ON CONFLICT (seat) DO UPDATE SET stands = EXCLUDED.stands WHERE held.stands <> EXCLUDED.stands
"""
# A retraction carries no amount: what the batch itself has not told stands in the table already.

SUPPLY = """
INSERT INTO %s.chain_supply AS held
SELECT chain_id, coalesce(sum(n * amount) FILTER (WHERE event = 'Minted'), 0),
    coalesce(sum(n * amount) FILTER (WHERE event = 'Redeemed'), 0)
FROM (%s) AS rows GROUP BY chain_id
ON CONFLICT (chain_id) DO UPDATE SET minted = held.minted + EXCLUDED.minted,
    redeemed = held.redeemed + EXCLUDED.redeemed
"""

REQUEST_COLUMNS = "status, created_at, changed_at"
SUPPLY_COLUMNS = "chain_id, event, amount"


def _changed(columns: str, condition: str = "true") -> str:
    """SQL that gives the text of a query: rows of a statement with n = 1 or -1."""
    added = f"SELECT {columns}, 1 AS n FROM new_rows WHERE {condition}"  # noqa: S608
    taken = f"SELECT {columns}, -1 AS n FROM old_rows WHERE {condition}"  # noqa: S608
    return (
        f"CASE TG_OP WHEN 'INSERT' THEN $q${added}$q$ WHEN 'DELETE' THEN $q${taken}$q$ "
        f"ELSE $q${added} UNION ALL {taken}$q$ END"
    )


def _function(name: str, body: str) -> str:
    return (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $body$\n"
        f"DECLARE\n    changed text;\nBEGIN\n{body}\n    RETURN NULL;\nEND\n$body$"
    )


def _formatted(statement: str) -> str:
    """For plpgsql's format(): a table's schema is its first argument, a query the second."""
    return statement.replace("%s.", "%1$I.").replace("%s", "%2$s")


def _execute(statement: str) -> str:
    return f"    EXECUTE format($f${_formatted(statement)}$f$, TG_TABLE_SCHEMA, changed);"


FUNCTIONS = (
    _function(
        "keep_flow",
        f"    changed := {_changed(REQUEST_COLUMNS)};\n{_execute(FLOW)}\n{_execute(LATENCIES)}",
    ),
    _function("keep_events", f"    changed := 'new_rows';\n{_execute(EVENTS)}"),
    _function(
        "keep_supply", f"    changed := {_changed(SUPPLY_COLUMNS, 'stands')};\n{_execute(SUPPLY)}"
    ),
    _function(
        "forget_flow",
        "    EXECUTE format('DELETE FROM %1$I.request_flow', TG_TABLE_SCHEMA);\n"
        "    EXECUTE format('DELETE FROM %1$I.request_latencies', TG_TABLE_SCHEMA);",
    ),
    _function(
        "forget_events", "    EXECUTE format('DELETE FROM %1$I.token_events', TG_TABLE_SCHEMA);"
    ),
    _function(
        "forget_supply", "    EXECUTE format('DELETE FROM %1$I.chain_supply', TG_TABLE_SCHEMA);"
    ),
)

ROWS = {
    "INSERT": "REFERENCING NEW TABLE AS new_rows",
    "UPDATE": "REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows",
    "DELETE": "REFERENCING OLD TABLE AS old_rows",
    "TRUNCATE": "",
}
TRIGGERS = (
    ("requests", "flow", ("INSERT", "UPDATE", "DELETE", "TRUNCATE")),
    ("request_facts", "events", ("INSERT", "TRUNCATE")),
    ("token_events", "supply", ("INSERT", "UPDATE", "DELETE", "TRUNCATE")),
)


def fill(schema: str = "public") -> tuple[str, ...]:
    """What sums up the rows that are there; the sums must be empty. Events add to the supply by
    their own trigger."""
    rows = f"SELECT {REQUEST_COLUMNS}, 1 AS n FROM {schema}.requests"  # noqa: S608
    return (
        FLOW % (schema, rows, rows),
        LATENCIES % (schema, rows),
        EVENTS % (f"{schema}.request_facts", schema, schema),
    )


def upgrade() -> None:
    op.execute("LOCK TABLE requests, request_facts IN SHARE MODE")
    op.execute(CREATE)
    for function in FUNCTIONS:
        op.execute(function)
    for table, name, events in TRIGGERS:
        for event in events:
            action = "forget" if event == "TRUNCATE" else "keep"
            op.execute(
                f"CREATE TRIGGER {table}_{event.lower()}_{name} AFTER {event} ON {table} "
                f"{ROWS[event]} FOR EACH STATEMENT EXECUTE FUNCTION {action}_{name}()"
            )
    schema = op.get_bind().exec_driver_sql("SELECT current_schema()").scalar_one()
    for statement in fill(schema):
        op.execute(statement)


def downgrade() -> None:
    for table, name, events in TRIGGERS:
        for event in events:
            op.execute(f"DROP TRIGGER {table}_{event.lower()}_{name} ON {table}")
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
    for _, name, _ in TRIGGERS:
        op.execute(f"DROP FUNCTION keep_{name}(), forget_{name}()")
