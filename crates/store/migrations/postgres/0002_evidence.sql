-- Evidence. Only the Audit role writes it; the API reads it; producers read how far theirs is stored.
--
-- An event is two rows. `audit_chain` holds its place, its id and its hashes, for ever: proofs need
-- them, and an event id stays spent. `audit_events` holds its text and what searches filter by, in
-- one partition for each month in which events happened; retention drops whole months. Nobody may
-- change or delete a row of either, the owner included.

CREATE TABLE audit_heads (
    zone_id     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seq         BIGINT NOT NULL,
    chain_hash  BYTEA  NOT NULL,
    frontier    BYTEA  NOT NULL,
    signed_size BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX audit_heads_unsigned ON audit_heads (updated_at) WHERE seq > signed_size;

CREATE TABLE audit_chain (
    zone_id     TEXT COLLATE "C" NOT NULL,
    seq         BIGINT NOT NULL,
    event_id    TEXT COLLATE "C" NOT NULL,
    occurred_at BIGINT NOT NULL,
    ingested_at BIGINT NOT NULL,
    leaf_hash   BYTEA  NOT NULL,
    chain_hash  BYTEA  NOT NULL,
    PRIMARY KEY (zone_id, seq)
);
CREATE UNIQUE INDEX audit_events_id ON audit_chain (zone_id, event_id);

CREATE TABLE audit_events (
    zone_id             TEXT COLLATE "C" NOT NULL,
    seq                 BIGINT NOT NULL,
    event_id            TEXT COLLATE "C" NOT NULL,
    occurred_at         BIGINT NOT NULL,
    ingested_at         BIGINT NOT NULL,
    event_type          TEXT COLLATE "C" NOT NULL,
    decision            TEXT COLLATE "C" NOT NULL,
    evaluation_status   TEXT COLLATE "C" NOT NULL,
    request_id          TEXT COLLATE "C" NOT NULL,
    application_id      TEXT COLLATE "C",
    agent_session_id    TEXT COLLATE "C",
    authority_record_id TEXT COLLATE "C",
    data                TEXT COLLATE "C" NOT NULL,
    signature           BYTEA
) PARTITION BY RANGE (occurred_at);
-- Each index ends in the order of a search, so that a page of a rare value is found without sorting
-- or passing over the others. Months are ordered too: a search takes one after the other, newest
-- first, and stops when its page is full.
CREATE INDEX audit_events_page ON audit_events (zone_id, occurred_at, event_id);
CREATE INDEX audit_events_request ON audit_events (zone_id, request_id, occurred_at, event_id);
CREATE INDEX audit_events_application ON audit_events (zone_id, application_id, occurred_at, event_id)
    WHERE application_id IS NOT NULL;
CREATE INDEX audit_events_session ON audit_events (zone_id, agent_session_id, occurred_at, event_id)
    WHERE agent_session_id IS NOT NULL;
CREATE INDEX audit_events_record ON audit_events (zone_id, authority_record_id, occurred_at, event_id)
    WHERE authority_record_id IS NOT NULL;
CREATE INDEX audit_events_refused ON audit_events (zone_id, decision, occurred_at, event_id)
    WHERE decision <> 'allow';
CREATE INDEX audit_events_refused_application
    ON audit_events (zone_id, application_id, decision, occurred_at, event_id)
    WHERE application_id IS NOT NULL AND decision <> 'allow';
CREATE INDEX audit_events_rare ON audit_events (zone_id, event_type, occurred_at, event_id)
    WHERE event_type NOT IN ('token_exchange', 'gateway_request_started', 'gateway_resource_request');
-- For walks in the chain's order.
CREATE INDEX audit_events_seq ON audit_events (zone_id, seq);
CREATE INDEX audit_events_refused_seq ON audit_events (zone_id, decision, seq)
    WHERE decision <> 'allow';

CREATE TABLE audit_event_labels (
    zone_id     TEXT COLLATE "C" NOT NULL,
    label       TEXT COLLATE "C" NOT NULL,
    occurred_at BIGINT NOT NULL,
    event_id    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (zone_id, label, occurred_at, event_id)
) PARTITION BY RANGE (occurred_at);

CREATE FUNCTION refuse_rewriting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'evidence is append-only' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_chain_is_immutable BEFORE UPDATE OR DELETE ON audit_chain
    FOR EACH ROW EXECUTE FUNCTION refuse_rewriting();
CREATE TRIGGER audit_chain_is_kept BEFORE TRUNCATE ON audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewriting();
CREATE TRIGGER audit_events_are_immutable BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_rewriting();
CREATE TRIGGER audit_event_labels_are_immutable BEFORE UPDATE OR DELETE ON audit_event_labels
    FOR EACH ROW EXECUTE FUNCTION refuse_rewriting();

-- Decisions per hour since the epoch, for overviews, and between which places an hour's events are.
CREATE TABLE audit_hours (
    zone_id   TEXT COLLATE "C" NOT NULL,
    hour      BIGINT NOT NULL,
    decision  TEXT COLLATE "C" NOT NULL,
    events    BIGINT NOT NULL,
    first_seq BIGINT NOT NULL,
    last_seq  BIGINT NOT NULL,
    PRIMARY KEY (zone_id, hour, decision)
) WITH (fillfactor = 50);
CREATE TABLE audit_checkpoints (
    zone_id TEXT COLLATE "C" NOT NULL,
    size    BIGINT NOT NULL,
    note    TEXT COLLATE "C" NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (zone_id, size)
);
CREATE TABLE audit_alerts (
    zone_id   TEXT COLLATE "C" NOT NULL,
    id        TEXT COLLATE "C" NOT NULL,
    kind      TEXT COLLATE "C" NOT NULL,
    event_id  TEXT COLLATE "C",
    detail    TEXT COLLATE "C" NOT NULL,
    raised_at BIGINT NOT NULL,
    PRIMARY KEY (zone_id, id)
);
CREATE INDEX audit_alerts_page ON audit_alerts (zone_id, raised_at, id);
CREATE INDEX audit_alerts_lost ON audit_alerts (raised_at, id)
    WHERE kind IN ('evidence_lost', 'log_gap');
-- An operator has looked into an alert.
CREATE TABLE audit_acknowledgements (
    zone_id  TEXT COLLATE "C" NOT NULL,
    alert_id TEXT COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (zone_id, alert_id)
);

-- Up to where each producer's log is stored, and what of it is stored behind that (`12-20,31-40`):
-- parts arrive out of order when several replicas of the Audit role store them.
CREATE TABLE audit_producers (
    producer   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    watermark  BIGINT NOT NULL,
    ahead      TEXT COLLATE "C" NOT NULL DEFAULT '',
    updated_at BIGINT NOT NULL
) WITH (fillfactor = 50);
-- What checkpoints are signed with, when no variable gives a key: sealed under a key that producers
-- hold, in a table that producers can't read.
CREATE TABLE audit_keys (
    version    BIGINT NOT NULL PRIMARY KEY,
    sealed     BYTEA  NOT NULL,
    public_key TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

-- Makes the month that holds an instant, unless it is there. Without the months at both ends: what a
-- broken clock dates before 2020 or after 2099 goes into the two partitions below and is never
-- dropped. Attaching waits for no reader and no writer.
CREATE FUNCTION audit_partition_ensure(at_micros BIGINT) RETURNS BOOLEAN
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = caracal, pg_temp AS $$
DECLARE
    month  TIMESTAMP;
    suffix TEXT;
    lower  BIGINT;
    upper  BIGINT;
    parent TEXT;
BEGIN
    IF at_micros < 1577836800000000 OR at_micros >= 4102444800000000 THEN
        RETURN false;
    END IF;
    month := date_trunc('month', to_timestamp(at_micros / 1000000) AT TIME ZONE 'UTC');
    suffix := to_char(month, '"_y"YYYY"m"MM');
    IF to_regclass('caracal.audit_events' || suffix) IS NOT NULL
        AND to_regclass('caracal.audit_event_labels' || suffix) IS NOT NULL
    THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('audit_partition', 0));
    lower := extract(epoch FROM month)::BIGINT * 1000000;
    upper := extract(epoch FROM month + INTERVAL '1 month')::BIGINT * 1000000;
    FOREACH parent IN ARRAY ARRAY['audit_events', 'audit_event_labels'] LOOP
        IF to_regclass('caracal.' || parent || suffix) IS NULL THEN
            EXECUTE format('CREATE TABLE caracal.%I (LIKE caracal.%I INCLUDING DEFAULTS)',
                parent || suffix, parent);
            EXECUTE format('ALTER TABLE caracal.%I ATTACH PARTITION caracal.%I
                FOR VALUES FROM (%s) TO (%s)', parent, parent || suffix, lower, upper);
        END IF;
    END LOOP;
    RETURN true;
END $$;

-- Drops the texts of a month that has been over for a day at least: whoever calls this, the newest
-- evidence stays. Gives up rather than keeping readers and writers waiting.
CREATE FUNCTION audit_partition_drop(month_start BIGINT) RETURNS BOOLEAN
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = caracal, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    month  TIMESTAMP;
    suffix TEXT;
    parent TEXT;
    found_one BOOLEAN := false;
BEGIN
    month := date_trunc('month', to_timestamp(month_start / 1000000) AT TIME ZONE 'UTC');
    IF month + INTERVAL '1 month 1 day' > now() AT TIME ZONE 'UTC' THEN
        RAISE EXCEPTION 'the month is not over for a day' USING ERRCODE = 'restrict_violation';
    END IF;
    suffix := to_char(month, '"_y"YYYY"m"MM');
    FOREACH parent IN ARRAY ARRAY['audit_event_labels', 'audit_events'] LOOP
        IF EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = ('caracal.' || parent)::REGCLASS
            AND inhrelid = to_regclass('caracal.' || parent || suffix))
        THEN
            EXECUTE format('DROP TABLE caracal.%I', parent || suffix);
            found_one := true;
        END IF;
    END LOOP;
    RETURN found_one;
END $$;
REVOKE EXECUTE ON FUNCTION audit_partition_ensure(BIGINT), audit_partition_drop(BIGINT) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_partition_ensure(BIGINT), audit_partition_drop(BIGINT) TO caracalaudit;

CREATE TABLE audit_events_early PARTITION OF audit_events
    FOR VALUES FROM (MINVALUE) TO (1577836800000000);
CREATE TABLE audit_events_late PARTITION OF audit_events
    FOR VALUES FROM (4102444800000000) TO (MAXVALUE);
CREATE TABLE audit_event_labels_early PARTITION OF audit_event_labels
    FOR VALUES FROM (MINVALUE) TO (1577836800000000);
CREATE TABLE audit_event_labels_late PARTITION OF audit_event_labels
    FOR VALUES FROM (4102444800000000) TO (MAXVALUE);
SELECT audit_partition_ensure((extract(epoch FROM date_trunc('month', now() AT TIME ZONE 'UTC')
    + make_interval(months => ahead))::BIGINT) * 1000000) FROM generate_series(0, 3) AS ahead;

DO $$
DECLARE
    zoned TEXT;
BEGIN
    FOREACH zoned IN ARRAY ARRAY['audit_heads', 'audit_chain', 'audit_events',
        'audit_event_labels', 'audit_hours', 'audit_checkpoints', 'audit_alerts',
        'audit_acknowledgements']
    LOOP
        PERFORM protect(zoned);
        EXECUTE format($policy$CREATE POLICY platform ON %I TO caracalaudit
            USING (current_setting('caracal.zone', true) = '*')
            WITH CHECK (current_setting('caracal.zone', true) = '*')$policy$, zoned);
    END LOOP;
END $$;

GRANT SELECT, INSERT ON audit_chain, audit_events, audit_event_labels, audit_checkpoints,
    audit_alerts, audit_acknowledgements, audit_keys TO caracalaudit;
GRANT SELECT, INSERT, UPDATE ON audit_heads, audit_hours, audit_producers TO caracalaudit;
GRANT SELECT ON audit_heads, audit_chain, audit_events, audit_event_labels, audit_hours,
    audit_checkpoints, audit_alerts, audit_acknowledgements TO caracalapi;
GRANT SELECT (version, public_key, created_at) ON audit_keys TO caracalapi;
GRANT SELECT ON audit_producers
    TO caracalapi, caracalsts, caracalgateway, caracalcoordinator;
