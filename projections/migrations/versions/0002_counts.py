"""Counts that are kept, so that metrics and overviews never scan a million rows.

Triggers keep them, in the transaction of whoever writes: an older version's writer that is still
running while this migration lands keeps them right as well. They name their own table's schema,
so that a rebuild's tables beside the live ones have counts of their own.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("request_counts", "projection_tallies")

CREATE = """
CREATE TABLE request_counts (
    type text NOT NULL,
    status text NOT NULL,
    stage text NOT NULL,
    chain_id bigint NOT NULL,
    count bigint NOT NULL,
    amount numeric NOT NULL,
    PRIMARY KEY (type, status, stage, chain_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE request_counts IS
    'Requests by type, stage and chain (0 where none is known), and the sum of their amounts in '
    'base units, where an amount is a number. A row may have come down to 0.';

CREATE TABLE projection_tallies (
    name text NOT NULL,
    label text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (name, label)
) WITH (fillfactor = 50);
COMMENT ON TABLE projection_tallies IS
    'Rows of dead_letters by reason, and of projection_faults under an empty label.';
"""

GROUPED = """
SELECT type, status, stage, coalesce(chain_id, 0), sum(n),
    sum(n * CASE WHEN amount ~ '^[0-9]{1,78}$' THEN amount::numeric ELSE 0 END)
FROM (%s) AS changed GROUP BY 1, 2, 3, 4
"""

FUNCTIONS = """
CREATE FUNCTION count_requests() RETURNS trigger LANGUAGE plpgsql AS $body$
DECLARE
    added text := 'SELECT type, status, stage, chain_id, amount, 1 AS n FROM new_rows';
    taken text := 'SELECT type, status, stage, chain_id, amount, -1 AS n FROM old_rows';
    changed text;
BEGIN
    changed := CASE TG_OP WHEN 'INSERT' THEN added WHEN 'DELETE' THEN taken
        ELSE added || ' UNION ALL ' || taken END;
    EXECUTE format(
        'INSERT INTO %I.request_counts AS held (type, status, stage, chain_id, count, amount) '
        'SELECT * FROM (SELECT type, status, stage, coalesce(chain_id, 0) AS chain_id, '
        'sum(n) AS count, sum(n * CASE WHEN amount ~ ''^[0-9]{1,78}$'' '
        'THEN amount::numeric ELSE 0 END) AS amount '
        'FROM (' || changed || ') AS changed GROUP BY 1, 2, 3, 4) AS delta '
        'WHERE count <> 0 OR amount <> 0 '
        'ON CONFLICT (type, status, stage, chain_id) '
        'DO UPDATE SET count = held.count + EXCLUDED.count, '
        'amount = held.amount + EXCLUDED.amount', TG_TABLE_SCHEMA);
    RETURN NULL;
END
$body$;

CREATE FUNCTION tally_rows() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    EXECUTE format(
        'INSERT INTO %I.projection_tallies AS held (name, label, count) '
        'SELECT %L, ' || TG_ARGV[0] || ' AS label, '
        || CASE TG_OP WHEN 'INSERT' THEN 'count(*) FROM new_rows' ELSE '-count(*) FROM old_rows' END
        || ' GROUP BY 2 ON CONFLICT (name, label) DO UPDATE SET count = held.count '
        '+ EXCLUDED.count', TG_TABLE_SCHEMA, TG_TABLE_NAME);
    RETURN NULL;
END
$body$;

CREATE FUNCTION forget_counts() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    IF TG_TABLE_NAME = 'requests' THEN
        EXECUTE format('DELETE FROM %I.request_counts', TG_TABLE_SCHEMA);
    ELSE
        EXECUTE format('DELETE FROM %I.projection_tallies WHERE name = %L',
            TG_TABLE_SCHEMA, TG_TABLE_NAME);
    END IF;
    RETURN NULL;
END
$body$;
"""

COUNTED = {"requests": "count_requests()"}
COUNTED["dead_letters"] = "tally_rows('reason')"
COUNTED["projection_faults"] = "tally_rows('''''')"

EVENTS = {
    "INSERT": "REFERENCING NEW TABLE AS new_rows",
    "UPDATE": "REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows",
    "DELETE": "REFERENCING OLD TABLE AS old_rows",
}


def upgrade() -> None:
    op.execute("LOCK TABLE requests, dead_letters, projection_faults IN SHARE MODE")
    op.execute(CREATE)
    op.execute(FUNCTIONS)
    for table, function in COUNTED.items():
        events = EVENTS if table == "requests" else {k: EVENTS[k] for k in ("INSERT", "DELETE")}
        for event, tables in events.items():
            op.execute(
                f"CREATE TRIGGER {table}_{event.lower()}_counted AFTER {event} ON {table} {tables} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION {function}"
            )
        op.execute(
            f"CREATE TRIGGER {table}_truncate_counted AFTER TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION forget_counts()"
        )
    everything = "SELECT type, status, stage, chain_id, amount, 1 AS n FROM requests"
    op.execute("INSERT INTO request_counts " + GROUPED % everything)
    op.execute(
        "INSERT INTO projection_tallies SELECT 'dead_letters', reason, count(*) "
        "FROM dead_letters GROUP BY reason"
    )
    op.execute(
        "INSERT INTO projection_tallies SELECT 'projection_faults', '', count(*) "
        "FROM projection_faults HAVING count(*) > 0"
    )


def downgrade() -> None:
    for table in COUNTED:
        for event in (*EVENTS, "TRUNCATE"):
            op.execute(f"DROP TRIGGER IF EXISTS {table}_{event.lower()}_counted ON {table}")
    for function in ("count_requests", "tally_rows", "forget_counts"):
        op.execute(f"DROP FUNCTION {function}()")
    for table in TABLES:
        op.execute(f"DROP TABLE {table}")
