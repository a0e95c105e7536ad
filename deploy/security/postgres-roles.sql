-- Roles of the projection's database. Run once by its owner, after `orchestrator init`:
--   psql -v ON_ERROR_STOP=1 -d orchestrator -f deploy/security/postgres-roles.sql
-- Each is a group: grant it to a login of yours, `GRANT orchestrator_api TO <login>`.
--
-- orchestrator_owner    init, project, rebuild: makes the tables and writes them
-- orchestrator_api      api: reads
-- orchestrator_webhooks webhooks, and people who order redeliveries: reads, and keeps the books of
--                       deliveries (schema webhooks)
-- orchestrator_sign     sign: adds to the guard's record, and never changes or deletes what is there
-- orchestrator_auditor  people and audits: reads only

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY[
        'orchestrator_owner', 'orchestrator_api', 'orchestrator_webhooks', 'orchestrator_auditor',
        'orchestrator_sign']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO orchestrator_owner;
GRANT USAGE ON SCHEMA public, webhooks
    TO orchestrator_api, orchestrator_auditor, orchestrator_webhooks;
GRANT USAGE, CREATE ON SCHEMA webhooks TO orchestrator_owner;
GRANT ALL ON ALL TABLES IN SCHEMA webhooks TO orchestrator_owner;
GRANT SELECT ON ALL TABLES IN SCHEMA webhooks TO orchestrator_api, orchestrator_auditor;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA webhooks TO orchestrator_webhooks;
GRANT ALL ON ALL TABLES IN SCHEMA public TO orchestrator_owner;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO orchestrator_owner;
GRANT SELECT ON ALL TABLES IN SCHEMA public
    TO orchestrator_api, orchestrator_auditor, orchestrator_webhooks;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO orchestrator_owner;
ALTER DEFAULT PRIVILEGES IN SCHEMA public
    GRANT SELECT ON TABLES TO orchestrator_api, orchestrator_auditor, orchestrator_webhooks;
ALTER ROLE orchestrator_auditor SET default_transaction_read_only = on;

-- The signing guard's record; on a server of its own, grant this there alone.
DO $$
BEGIN
    IF to_regnamespace('signing_guard') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA signing_guard TO orchestrator_sign, orchestrator_auditor;
        GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA signing_guard TO orchestrator_sign;
        GRANT SELECT ON ALL TABLES IN SCHEMA signing_guard TO orchestrator_auditor;
    END IF;
END
$$;
