-- Fills an empty database with {events} audit events of 20 zones over {months} months up to now, as
-- the role that owns it. Half of them are of the first zone. The chains' hashes are of the right size
-- and nothing else. Months are filled before they are attached and indexed: the same rows, quicker.
SET ROLE caracal_owner;
SET search_path = caracal;
SET caracal.zone = '*';
SET maintenance_work_mem = '512MB';
SET work_mem = '256MB';

ALTER TABLE audit_chain DROP CONSTRAINT audit_chain_pkey;
DROP INDEX audit_events_id;

CREATE FUNCTION pg_temp.event(i BIGINT, at BIGINT) RETURNS TABLE (zone_id TEXT, seq BIGINT,
    event_id TEXT, event_type TEXT, decision TEXT, request_id TEXT, application_id TEXT,
    agent_session_id TEXT, authority_record_id TEXT, data TEXT) LANGUAGE sql STABLE AS $$
    SELECT zone, place, event, kind, verdict, request, application, session, record,
        '{"id":"' || event || '","zone_id":"' || zone || '","event_type":"' || kind
            || '","request_id":"' || request || '","decision":"' || verdict
            || '","evaluation_status":"complete","determining_policies_json":[],'
            || '"diagnostics_json":[],"metadata_json":{"application_id":"' || application
            || '","agent_session_id":"' || session || '","resource":"resource://ledger",'
            || '"requested_scopes":["ledger.read"]},"occurred_at":"' || at || '"}'
    FROM (SELECT
        '00000000-0000-7000-8000-' || lpad((CASE WHEN i % 2 = 0 THEN 0 ELSE 1 + i / 2 % 19 END)::TEXT, 12, '0') AS zone,
        CASE WHEN i % 2 = 0 THEN i / 2 + 1 ELSE i / 2 / 19 + 1 END AS place,
        '01900000-0000-7000-8000-' || lpad(to_hex(i), 12, '0') AS event,
        CASE WHEN i % 211 = 0 THEN 'replay_detected' WHEN i / 2 % 3 = 0 THEN 'token_exchange'
            WHEN i / 2 % 3 = 1 THEN 'gateway_request_started' ELSE 'gateway_resource_request' END AS kind,
        CASE WHEN i % 211 = 0 OR i / 2 % 33 = 0 THEN 'deny' ELSE 'allow' END AS verdict,
        md5('request' || i % 2 || i / 6)::UUID::TEXT AS request,
        'application-' || i / 2 % 50 AS application,
        md5('session' || i % 2 || i / 400)::UUID::TEXT AS session,
        md5('record' || i % 2 || i / 10000)::UUID::TEXT AS record) AS made
$$;

DO $$
DECLARE
    total  BIGINT := {events};
    until  BIGINT := extract(epoch FROM now())::BIGINT * 1000000;
    since  BIGINT := until - {months} * 30 * 86400000000;
    step   BIGINT := (until - since) / total;
    month  TIMESTAMP := date_trunc('month', to_timestamp(since / 1000000) AT TIME ZONE 'UTC');
    lower  BIGINT;
    upper  BIGINT;
    suffix TEXT;
    exists BOOLEAN;
BEGIN
    WHILE month <= now() AT TIME ZONE 'UTC' LOOP
        lower := extract(epoch FROM month)::BIGINT * 1000000;
        upper := extract(epoch FROM month + INTERVAL '1 month')::BIGINT * 1000000;
        suffix := to_char(month, '"_y"YYYY"m"MM');
        exists := to_regclass('audit_events' || suffix) IS NOT NULL;
        IF exists THEN
            EXECUTE format('DROP TABLE %I', 'audit_events' || suffix);
        END IF;
        EXECUTE format('CREATE TABLE %I (LIKE audit_events INCLUDING DEFAULTS)', 'audit_events' || suffix);
        EXECUTE format('INSERT INTO %I SELECT zone_id, seq, event_id, at, at + 50000, event_type,
                decision, ''complete'', request_id, application_id, agent_session_id,
                authority_record_id, data, sha256(i::TEXT::BYTEA)
            FROM generate_series(GREATEST(0, (%s - %s + %s - 1) / %s)::BIGINT, LEAST(%s - 1, (%s - 1 - %s) / %s)::BIGINT) AS i,
                LATERAL (SELECT %s + i * %s AS at) AS time, LATERAL pg_temp.event(i, at)',
            'audit_events' || suffix, lower, since, step, step, total, upper, since, step, since, step);
        EXECUTE format('INSERT INTO audit_chain SELECT zone_id, seq, event_id, occurred_at, ingested_at,
            sha256((''leaf'' || event_id)::BYTEA), sha256((''link'' || event_id)::BYTEA) FROM %I',
            'audit_events' || suffix);
        EXECUTE format('ALTER TABLE audit_events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
            'audit_events' || suffix, lower, upper);
        PERFORM audit_partition_ensure(lower);
        month := month + INTERVAL '1 month';
    END LOOP;
END $$;

ALTER TABLE audit_chain ADD PRIMARY KEY (zone_id, seq);
CREATE UNIQUE INDEX audit_events_id ON audit_chain (zone_id, event_id);
INSERT INTO audit_event_labels
    SELECT zone_id, 'label-' || seq % 7, occurred_at, event_id FROM audit_events WHERE seq % 20 = 0;
INSERT INTO audit_hours
    SELECT zone_id, occurred_at / 3600000000, decision, count(*), min(seq), max(seq)
    FROM audit_events GROUP BY 1, 2, 3;
-- A tree of n leaves has as many hashes on its edge as n has ones.
INSERT INTO audit_heads
    SELECT zone_id, size, chain_hash, decode(repeat('ab', 32 * bit_count(size::BIT(64))::INT), 'hex'),
        size, 0
    FROM (SELECT zone_id, max(seq) AS size FROM audit_chain GROUP BY 1) AS sizes
    JOIN audit_chain USING (zone_id) WHERE seq = size;
ANALYZE audit_events, audit_chain, audit_event_labels, audit_hours, audit_heads;
