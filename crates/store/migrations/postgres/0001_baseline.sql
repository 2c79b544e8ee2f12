-- Times are microseconds since the Unix epoch; JSON is TEXT; every row of a zone carries its zone.
-- Texts compare by their bytes, as they do everywhere else, so that pages are the same.
--
-- Who may see what: a statement of one zone runs with caracal.zone set to it, and a row of a zone is
-- visible to it alone. A statement over all zones runs with '*', which counts only for the roles and
-- tables named at the end. Unset, nothing is visible. The owner is bound by the same rules.

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% are immutable', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

-- Makes the rows of a table visible to their own zone only.
CREATE FUNCTION protect(zoned TEXT, zone_column TEXT DEFAULT 'zone_id') RETURNS VOID
    LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', zoned);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', zoned);
    EXECUTE format($policy$CREATE POLICY zone_isolation ON %I
        USING (%I = NULLIF(current_setting('caracal.zone', true), ''))
        WITH CHECK (%I = NULLIF(current_setting('caracal.zone', true), ''))$policy$,
        zoned, zone_column, zone_column);
    -- The owner's own reading of everything: backups, and proofs that every secret was sealed anew.
    EXECUTE format($policy$CREATE POLICY owner ON %I TO CURRENT_USER
        USING (current_setting('caracal.zone', true) = '*')
        WITH CHECK (current_setting('caracal.zone', true) = '*')$policy$, zoned);
END $$;
REVOKE EXECUTE ON FUNCTION protect(TEXT, TEXT) FROM PUBLIC;

CREATE TABLE zones (
    id                      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name                    TEXT COLLATE "C" NOT NULL,
    slug                    TEXT COLLATE "C" NOT NULL,
    dcr_enabled             BOOLEAN NOT NULL,
    operator_coauthor_badge BOOLEAN NOT NULL,
    operator_governed       BOOLEAN NOT NULL,
    owner_account_id        TEXT COLLATE "C",
    reserved                BOOLEAN NOT NULL,
    created_by              TEXT COLLATE "C",
    created_via_operator    BOOLEAN NOT NULL,
    updated_by              TEXT COLLATE "C",
    updated_via_operator    BOOLEAN NOT NULL,
    created_at              BIGINT  NOT NULL,
    updated_at              BIGINT  NOT NULL,
    archived_at             BIGINT
);
CREATE UNIQUE INDEX zones_slug ON zones (slug);
CREATE INDEX zones_page ON zones (created_at, id) WHERE archived_at IS NULL;

-- The change log: what made a fact about a zone wrong, in commit order.
CREATE TABLE zone_sequences (
    zone_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL
);
CREATE TABLE zone_changes (
    zone_id TEXT COLLATE "C" NOT NULL,
    seq     BIGINT NOT NULL,
    kind    TEXT COLLATE "C" NOT NULL,
    id      TEXT COLLATE "C" NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (zone_id, seq)
);

CREATE TABLE applications (
    zone_id              TEXT COLLATE "C" NOT NULL REFERENCES zones (id),
    id                   TEXT COLLATE "C" NOT NULL,
    name                 TEXT COLLATE "C" NOT NULL,
    name_key             TEXT COLLATE "C" NOT NULL,
    registration_method  TEXT COLLATE "C" NOT NULL,
    traits               TEXT COLLATE "C" NOT NULL,
    secret_hash          TEXT COLLATE "C",
    sealed_secret        BYTEA,
    expires_at           BIGINT,
    created_by           TEXT COLLATE "C",
    created_via_operator BOOLEAN NOT NULL,
    updated_by           TEXT COLLATE "C",
    updated_via_operator BOOLEAN NOT NULL,
    created_at           BIGINT  NOT NULL,
    updated_at           BIGINT,
    archived_at          BIGINT,
    PRIMARY KEY (zone_id, id)
);
CREATE UNIQUE INDEX applications_id ON applications (id);
CREATE UNIQUE INDEX applications_name ON applications (zone_id, name_key)
    WHERE archived_at IS NULL AND registration_method = 'managed';
CREATE INDEX applications_page ON applications (zone_id, created_at, id);
CREATE INDEX applications_dcr ON applications (zone_id, expires_at)
    WHERE archived_at IS NULL AND registration_method = 'dcr';

CREATE TABLE providers (
    zone_id                TEXT COLLATE "C" NOT NULL REFERENCES zones (id),
    id                     TEXT COLLATE "C" NOT NULL,
    name                   TEXT COLLATE "C" NOT NULL,
    identifier             TEXT COLLATE "C" NOT NULL,
    kind                   TEXT COLLATE "C" NOT NULL,
    config                 TEXT COLLATE "C" NOT NULL,
    secret_config_keys     TEXT COLLATE "C" NOT NULL,
    sealed_config          BYTEA,
    connectivity_failed_at BIGINT,
    created_by             TEXT COLLATE "C",
    created_via_operator   BOOLEAN NOT NULL,
    updated_by             TEXT COLLATE "C",
    updated_via_operator   BOOLEAN NOT NULL,
    created_at             BIGINT  NOT NULL,
    updated_at             BIGINT  NOT NULL,
    archived_at            BIGINT,
    PRIMARY KEY (zone_id, id)
);
CREATE UNIQUE INDEX providers_identifier ON providers (zone_id, identifier) WHERE archived_at IS NULL;
CREATE INDEX providers_page ON providers (zone_id, created_at, id);

CREATE TABLE resources (
    zone_id                TEXT COLLATE "C" NOT NULL REFERENCES zones (id),
    id                     TEXT COLLATE "C" NOT NULL,
    name                   TEXT COLLATE "C" NOT NULL,
    identifier             TEXT COLLATE "C" NOT NULL,
    upstream_url           TEXT COLLATE "C",
    scopes                 TEXT COLLATE "C" NOT NULL,
    credential_provider_id TEXT COLLATE "C",
    operations             TEXT COLLATE "C" NOT NULL,
    operation_enforcement  TEXT COLLATE "C" NOT NULL,
    created_by             TEXT COLLATE "C",
    created_via_operator   BOOLEAN NOT NULL,
    updated_by             TEXT COLLATE "C",
    updated_via_operator   BOOLEAN NOT NULL,
    created_at             BIGINT  NOT NULL,
    updated_at             BIGINT  NOT NULL,
    archived_at            BIGINT,
    PRIMARY KEY (zone_id, id),
    FOREIGN KEY (zone_id, credential_provider_id) REFERENCES providers (zone_id, id)
);
CREATE UNIQUE INDEX resources_identifier ON resources (zone_id, identifier) WHERE archived_at IS NULL;
CREATE INDEX resources_page ON resources (zone_id, created_at, id);
CREATE INDEX resources_live ON resources (zone_id, archived_at, operation_enforcement);
CREATE INDEX resources_provider ON resources (zone_id, credential_provider_id);

CREATE TABLE policies (
    zone_id              TEXT COLLATE "C" NOT NULL REFERENCES zones (id),
    id                   TEXT COLLATE "C" NOT NULL,
    name                 TEXT COLLATE "C" NOT NULL,
    description          TEXT COLLATE "C",
    created_by           TEXT COLLATE "C",
    created_via_operator BOOLEAN NOT NULL,
    updated_by           TEXT COLLATE "C",
    updated_via_operator BOOLEAN NOT NULL,
    created_at           BIGINT  NOT NULL,
    updated_at           BIGINT  NOT NULL,
    archived_at          BIGINT,
    PRIMARY KEY (zone_id, id)
);
CREATE UNIQUE INDEX policies_name ON policies (zone_id, name) WHERE archived_at IS NULL;
CREATE INDEX policies_page ON policies (zone_id, created_at, id);

CREATE TABLE policy_versions (
    zone_id              TEXT COLLATE "C" NOT NULL,
    id                   TEXT COLLATE "C" NOT NULL,
    policy_id            TEXT COLLATE "C" NOT NULL,
    version              BIGINT  NOT NULL,
    content              TEXT COLLATE "C" NOT NULL,
    content_sha256       TEXT COLLATE "C" NOT NULL,
    schema_version       TEXT COLLATE "C" NOT NULL,
    created_by           TEXT COLLATE "C",
    created_via_operator BOOLEAN NOT NULL,
    created_at           BIGINT  NOT NULL,
    PRIMARY KEY (zone_id, id),
    FOREIGN KEY (zone_id, policy_id) REFERENCES policies (zone_id, id)
);
CREATE UNIQUE INDEX policy_versions_number ON policy_versions (zone_id, policy_id, version);
CREATE TRIGGER policy_versions_are_immutable BEFORE UPDATE OR DELETE ON policy_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE policy_sets (
    zone_id              TEXT COLLATE "C" NOT NULL REFERENCES zones (id),
    id                   TEXT COLLATE "C" NOT NULL,
    name                 TEXT COLLATE "C" NOT NULL,
    description          TEXT COLLATE "C",
    active_version_id    TEXT COLLATE "C",
    created_by           TEXT COLLATE "C",
    created_via_operator BOOLEAN NOT NULL,
    updated_by           TEXT COLLATE "C",
    updated_via_operator BOOLEAN NOT NULL,
    created_at           BIGINT  NOT NULL,
    updated_at           BIGINT  NOT NULL,
    archived_at          BIGINT,
    PRIMARY KEY (zone_id, id)
);
CREATE UNIQUE INDEX policy_sets_name ON policy_sets (zone_id, name) WHERE archived_at IS NULL;
CREATE UNIQUE INDEX policy_sets_active ON policy_sets (zone_id) WHERE active_version_id IS NOT NULL;
CREATE INDEX policy_sets_page ON policy_sets (zone_id, created_at, id);

CREATE TABLE policy_set_versions (
    zone_id              TEXT COLLATE "C" NOT NULL,
    id                   TEXT COLLATE "C" NOT NULL,
    policy_set_id        TEXT COLLATE "C" NOT NULL,
    version              BIGINT  NOT NULL,
    manifest             TEXT COLLATE "C" NOT NULL,
    manifest_sha256      TEXT COLLATE "C" NOT NULL,
    schema_version       TEXT COLLATE "C" NOT NULL,
    created_by           TEXT COLLATE "C",
    created_via_operator BOOLEAN NOT NULL,
    created_at           BIGINT  NOT NULL,
    PRIMARY KEY (zone_id, id),
    FOREIGN KEY (zone_id, policy_set_id) REFERENCES policy_sets (zone_id, id)
);
CREATE UNIQUE INDEX policy_set_versions_number ON policy_set_versions (zone_id, policy_set_id, version);
CREATE INDEX policy_set_versions_page ON policy_set_versions (zone_id, policy_set_id, created_at, id);
CREATE TRIGGER policy_set_versions_are_immutable BEFORE UPDATE OR DELETE ON policy_set_versions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE authority_records (
    zone_id          TEXT COLLATE "C" NOT NULL REFERENCES zones (id),
    id               TEXT COLLATE "C" NOT NULL,
    kind             TEXT COLLATE "C" NOT NULL,
    subject_id       TEXT COLLATE "C" NOT NULL,
    issuer           TEXT COLLATE "C",
    application_id   TEXT COLLATE "C" NOT NULL,
    parent_id        TEXT COLLATE "C",
    status           TEXT COLLATE "C" NOT NULL,
    expires_at       BIGINT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    revoked_at       BIGINT,
    revoked_reason   TEXT COLLATE "C",
    PRIMARY KEY (zone_id, id),
    FOREIGN KEY (zone_id, application_id) REFERENCES applications (zone_id, id),
    FOREIGN KEY (zone_id, parent_id) REFERENCES authority_records (zone_id, id)
);
CREATE INDEX authority_records_page ON authority_records (zone_id, created_at, id);
CREATE INDEX authority_records_status ON authority_records (zone_id, status, created_at, id);
CREATE INDEX authority_records_parent ON authority_records (zone_id, parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX authority_records_subject ON authority_records (zone_id, subject_id, created_at, id);
CREATE INDEX authority_records_ended ON authority_records (zone_id, expires_at) WHERE status <> 'active';
CREATE INDEX authority_records_active ON authority_records (zone_id, expires_at) WHERE status = 'active';

CREATE TABLE sessions (
    zone_id                     TEXT COLLATE "C" NOT NULL REFERENCES zones (id),
    id                          TEXT COLLATE "C" NOT NULL,
    application_id              TEXT COLLATE "C" NOT NULL,
    parent_id                   TEXT COLLATE "C",
    subject_authority_record_id TEXT COLLATE "C" NOT NULL,
    status                      TEXT COLLATE "C" NOT NULL,
    lifecycle                   TEXT COLLATE "C" NOT NULL,
    ttl_seconds                 BIGINT,
    last_heartbeat_at           BIGINT,
    heartbeat_deadline_at       BIGINT,
    slot_ends_at                BIGINT  NOT NULL,
    depth                       BIGINT  NOT NULL,
    labels                      TEXT COLLATE "C" NOT NULL,
    max_children                BIGINT  NOT NULL,
    child_count                 BIGINT  NOT NULL,
    authority_root              BOOLEAN NOT NULL,
    metadata                    TEXT COLLATE "C" NOT NULL,
    lease_generation            BIGINT  NOT NULL,
    started_at                  BIGINT  NOT NULL,
    last_active_at              BIGINT  NOT NULL,
    terminated_at               BIGINT,
    termination_reason          TEXT COLLATE "C",
    updated_at                  BIGINT  NOT NULL,
    PRIMARY KEY (zone_id, id),
    FOREIGN KEY (zone_id, application_id) REFERENCES applications (zone_id, id),
    FOREIGN KEY (zone_id, parent_id) REFERENCES sessions (zone_id, id),
    FOREIGN KEY (zone_id, subject_authority_record_id) REFERENCES authority_records (zone_id, id)
);
CREATE INDEX sessions_page ON sessions (zone_id, started_at, id);
CREATE INDEX sessions_application ON sessions (zone_id, application_id, started_at, id);
CREATE INDEX sessions_status ON sessions (zone_id, status, started_at, id);
CREATE INDEX sessions_parent ON sessions (zone_id, parent_id, started_at, id) WHERE parent_id IS NOT NULL;
CREATE INDEX sessions_record ON sessions (zone_id, subject_authority_record_id);
CREATE INDEX sessions_slots ON sessions (zone_id, slot_ends_at) WHERE status IN ('active', 'suspended');
CREATE INDEX sessions_due ON sessions (slot_ends_at) WHERE status IN ('active', 'suspended');
CREATE INDEX sessions_ended ON sessions (zone_id, terminated_at) WHERE terminated_at IS NOT NULL;

CREATE TABLE session_labels (
    zone_id    TEXT COLLATE "C" NOT NULL,
    label      TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (zone_id, label, started_at, session_id),
    FOREIGN KEY (zone_id, session_id) REFERENCES sessions (zone_id, id) ON DELETE CASCADE
);
CREATE INDEX session_labels_session ON session_labels (zone_id, session_id);

-- How many sessions are active or suspended: an upper bound of the slots held, without a scan.
CREATE TABLE session_counters (
    zone_id        TEXT COLLATE "C" NOT NULL,
    application_id TEXT COLLATE "C" NOT NULL,
    live           BIGINT NOT NULL,
    PRIMARY KEY (zone_id, application_id)
);

CREATE TABLE delegations (
    zone_id                 TEXT COLLATE "C" NOT NULL REFERENCES zones (id),
    id                      TEXT COLLATE "C" NOT NULL,
    source_session_id       TEXT COLLATE "C" NOT NULL,
    target_session_id       TEXT COLLATE "C" NOT NULL,
    issuer_application_id   TEXT COLLATE "C" NOT NULL,
    receiver_application_id TEXT COLLATE "C" NOT NULL,
    parent_edge_id          TEXT COLLATE "C",
    resource_id             TEXT COLLATE "C",
    scopes                  TEXT COLLATE "C" NOT NULL,
    constraints_json        TEXT COLLATE "C" NOT NULL,
    mirrored                BOOLEAN NOT NULL,
    accepted                BOOLEAN NOT NULL,
    budget                  BIGINT,
    budget_used             BIGINT  NOT NULL,
    status                  TEXT COLLATE "C" NOT NULL,
    expires_at              BIGINT  NOT NULL,
    edge_version            BIGINT  NOT NULL,
    revoked_at              BIGINT,
    created_at              BIGINT  NOT NULL,
    updated_at              BIGINT  NOT NULL,
    PRIMARY KEY (zone_id, id),
    FOREIGN KEY (zone_id, source_session_id) REFERENCES sessions (zone_id, id),
    FOREIGN KEY (zone_id, target_session_id) REFERENCES sessions (zone_id, id),
    FOREIGN KEY (zone_id, parent_edge_id) REFERENCES delegations (zone_id, id)
);
CREATE INDEX delegations_page ON delegations (zone_id, created_at, id);
CREATE INDEX delegations_source ON delegations (zone_id, source_session_id, created_at, id);
CREATE INDEX delegations_target ON delegations (zone_id, target_session_id, created_at, id);
CREATE INDEX delegations_status ON delegations (zone_id, status, created_at, id);
CREATE INDEX delegations_parent ON delegations (zone_id, parent_edge_id) WHERE parent_edge_id IS NOT NULL;
CREATE INDEX delegations_due ON delegations (expires_at) WHERE status = 'active';
CREATE INDEX delegations_ended ON delegations (zone_id, updated_at) WHERE status <> 'active';

CREATE TABLE delegation_epochs (
    zone_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    epoch   BIGINT NOT NULL
);

CREATE TABLE signing_keys (
    zone_id    TEXT COLLATE "C" NOT NULL REFERENCES zones (id),
    id         TEXT COLLATE "C" NOT NULL,
    sealed     BYTEA  NOT NULL,
    x          TEXT COLLATE "C" NOT NULL,
    y          TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    signs_from BIGINT NOT NULL,
    retires_at BIGINT,
    PRIMARY KEY (zone_id, id)
);

CREATE TABLE admin_tokens (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name         TEXT COLLATE "C" NOT NULL,
    zone_id      TEXT COLLATE "C" REFERENCES zones (id),
    capability   TEXT COLLATE "C" NOT NULL,
    reveal       BOOLEAN NOT NULL,
    digest       TEXT COLLATE "C" NOT NULL,
    created_by   TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT  NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT
);
CREATE UNIQUE INDEX admin_tokens_digest ON admin_tokens (digest);
CREATE INDEX admin_tokens_page ON admin_tokens (created_at, id);

-- zone_id '' is the platform's own chain.
CREATE TABLE admin_audit_heads (
    zone_id      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seq          BIGINT NOT NULL,
    content_hash TEXT COLLATE "C" NOT NULL
);
CREATE TABLE admin_audit_events (
    zone_id      TEXT COLLATE "C" NOT NULL,
    seq          BIGINT NOT NULL,
    id           TEXT COLLATE "C" NOT NULL,
    request_id   TEXT COLLATE "C" NOT NULL,
    actor_id     TEXT COLLATE "C",
    actor_name   TEXT COLLATE "C",
    actor_scope  TEXT COLLATE "C",
    action       TEXT COLLATE "C" NOT NULL,
    method       TEXT COLLATE "C" NOT NULL,
    path         TEXT COLLATE "C" NOT NULL,
    entity_type  TEXT COLLATE "C",
    entity_id    TEXT COLLATE "C",
    status_code  BIGINT NOT NULL,
    payload      TEXT COLLATE "C",
    occurred_at  BIGINT NOT NULL,
    content_hash TEXT COLLATE "C" NOT NULL,
    prev_hash    TEXT COLLATE "C" NOT NULL,
    chain_hmac   TEXT COLLATE "C",
    PRIMARY KEY (zone_id, seq)
);
CREATE UNIQUE INDEX admin_audit_events_id ON admin_audit_events (zone_id, id);
CREATE INDEX admin_audit_events_page ON admin_audit_events (zone_id, occurred_at, id);
CREATE INDEX admin_audit_events_entity ON admin_audit_events (zone_id, entity_type, occurred_at, id);
CREATE INDEX admin_audit_events_object ON admin_audit_events (zone_id, entity_id, occurred_at, id);
CREATE INDEX admin_audit_events_actor ON admin_audit_events (zone_id, actor_id, occurred_at, id);
CREATE TRIGGER admin_audit_events_are_immutable BEFORE UPDATE ON admin_audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE idempotency_receipts (
    zone_id       TEXT COLLATE "C" NOT NULL,
    operation     TEXT COLLATE "C" NOT NULL,
    scope_id      TEXT COLLATE "C" NOT NULL,
    key_digest    TEXT COLLATE "C" NOT NULL,
    fingerprint   TEXT COLLATE "C" NOT NULL,
    resource_type TEXT COLLATE "C" NOT NULL,
    resource_id   TEXT COLLATE "C" NOT NULL,
    status_code   BIGINT NOT NULL,
    body          TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    PRIMARY KEY (zone_id, operation, scope_id, key_digest)
);
CREATE INDEX idempotency_receipts_due ON idempotency_receipts (expires_at);
CREATE INDEX idempotency_receipts_ended ON idempotency_receipts (zone_id, expires_at);
CREATE INDEX idempotency_receipts_scope ON idempotency_receipts (zone_id, operation, scope_id, expires_at);
CREATE TABLE idempotency_counters (
    zone_id   TEXT COLLATE "C" NOT NULL,
    operation TEXT COLLATE "C" NOT NULL,
    scope_id  TEXT COLLATE "C" NOT NULL,
    receipts  BIGINT NOT NULL,
    PRIMARY KEY (zone_id, operation, scope_id)
);

CREATE TABLE outbox (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    zone_id      TEXT COLLATE "C" NOT NULL,
    topic        TEXT COLLATE "C" NOT NULL,
    dedupe_key   TEXT COLLATE "C" NOT NULL,
    payload      TEXT COLLATE "C" NOT NULL,
    status       TEXT COLLATE "C" NOT NULL,
    attempts     BIGINT NOT NULL,
    available_at BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    published_at BIGINT,
    last_error   TEXT
);
CREATE UNIQUE INDEX outbox_dedupe ON outbox (zone_id, topic, dedupe_key);
CREATE INDEX outbox_pending ON outbox (available_at, id) WHERE status = 'pending';
CREATE INDEX outbox_dead ON outbox (created_at) WHERE status = 'dead';
CREATE INDEX outbox_published ON outbox (published_at) WHERE status = 'published';

CREATE TABLE platform_settings (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value      BIGINT NOT NULL,
    updated_by TEXT COLLATE "C",
    updated_at BIGINT NOT NULL
);

-- Whether any zone has the slug, asked from within one zone.
CREATE FUNCTION slug_is_taken(asked TEXT) RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = caracal, pg_temp AS $$
DECLARE
    mine  TEXT := current_setting('caracal.zone', true);
    taken BOOLEAN;
BEGIN
    PERFORM set_config('caracal.zone', '*', true);
    SELECT EXISTS (SELECT 1 FROM zones WHERE slug = asked) INTO taken;
    PERFORM set_config('caracal.zone', mine, true);
    RETURN taken;
END $$;
REVOKE EXECUTE ON FUNCTION slug_is_taken(TEXT) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION slug_is_taken(TEXT) TO caracalapi;

SELECT protect('zones', 'id');
SELECT protect(zoned) FROM unnest(ARRAY['zone_sequences', 'zone_changes', 'applications',
    'providers', 'resources', 'policies', 'policy_versions', 'policy_sets', 'policy_set_versions',
    'authority_records', 'sessions', 'session_labels', 'session_counters', 'delegations',
    'delegation_epochs', 'signing_keys', 'admin_tokens', 'admin_audit_heads', 'admin_audit_events',
    'idempotency_receipts', 'idempotency_counters', 'outbox']) AS zoned;

-- What is read over all zones: finding zones, finding the zone of an application, the barrier,
-- sweeps, figures, messages to publish.
CREATE POLICY platform ON zones FOR SELECT TO caracalapi, caracalcoordinator
    USING (current_setting('caracal.zone', true) = '*');
CREATE POLICY platform ON applications FOR SELECT TO caracalsts
    USING (current_setting('caracal.zone', true) = '*');
CREATE POLICY platform ON zone_sequences FOR SELECT
    TO caracalapi, caracalsts, caracalgateway, caracalcoordinator
    USING (current_setting('caracal.zone', true) = '*');
CREATE POLICY platform ON sessions FOR SELECT TO caracalcoordinator
    USING (current_setting('caracal.zone', true) = '*');
CREATE POLICY platform ON delegations FOR SELECT TO caracalcoordinator
    USING (current_setting('caracal.zone', true) = '*');
CREATE POLICY platform ON idempotency_receipts FOR SELECT TO caracalcoordinator
    USING (current_setting('caracal.zone', true) = '*');
CREATE POLICY platform ON idempotency_counters FOR SELECT TO caracalcoordinator
    USING (current_setting('caracal.zone', true) = '*');
CREATE POLICY platform ON outbox TO caracalapi, caracalcoordinator
    USING (current_setting('caracal.zone', true) = '*')
    WITH CHECK (current_setting('caracal.zone', true) = '*');
CREATE POLICY platform ON admin_tokens TO caracalapi
    USING (current_setting('caracal.zone', true) = '*')
    WITH CHECK (current_setting('caracal.zone', true) = '*');
-- The chain of what belongs to no zone.
CREATE POLICY platform ON admin_audit_heads TO caracalapi, caracalcoordinator
    USING (current_setting('caracal.zone', true) = '*' AND zone_id = '')
    WITH CHECK (current_setting('caracal.zone', true) = '*' AND zone_id = '');
CREATE POLICY platform ON admin_audit_events TO caracalapi, caracalcoordinator
    USING (current_setting('caracal.zone', true) = '*' AND zone_id = '')
    WITH CHECK (current_setting('caracal.zone', true) = '*' AND zone_id = '');

GRANT SELECT, INSERT, UPDATE ON zones TO caracalapi;
GRANT SELECT ON zones TO caracalsts, caracalgateway, caracalcoordinator;
GRANT SELECT, INSERT, UPDATE ON zone_sequences TO caracalapi, caracalsts, caracalcoordinator;
GRANT SELECT ON zone_sequences TO caracalgateway;
GRANT SELECT, INSERT, DELETE ON zone_changes TO caracalapi, caracalsts, caracalcoordinator;
GRANT SELECT ON zone_changes TO caracalgateway;
GRANT SELECT, INSERT, UPDATE ON applications TO caracalapi;
GRANT SELECT, INSERT, UPDATE ON providers TO caracalapi;
GRANT SELECT ON providers TO caracalsts;
GRANT SELECT, INSERT, UPDATE ON resources TO caracalapi;
GRANT SELECT ON resources TO caracalsts, caracalgateway, caracalcoordinator;
GRANT SELECT, INSERT, UPDATE ON policies, policy_sets TO caracalapi;
GRANT SELECT, INSERT ON policy_versions, policy_set_versions TO caracalapi;
GRANT SELECT ON policies, policy_sets, policy_versions, policy_set_versions TO caracalsts;
GRANT SELECT, INSERT, UPDATE ON authority_records TO caracalsts;
GRANT SELECT, UPDATE ON authority_records TO caracalapi;
GRANT SELECT, UPDATE, DELETE ON authority_records TO caracalcoordinator;
GRANT SELECT ON authority_records TO caracalgateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON sessions TO caracalcoordinator;
GRANT SELECT, UPDATE ON sessions TO caracalapi;
GRANT SELECT ON sessions TO caracalsts, caracalgateway;
GRANT UPDATE (authority_root) ON sessions TO caracalsts;
GRANT SELECT, INSERT ON session_labels TO caracalcoordinator;
GRANT SELECT ON session_labels TO caracalapi;
GRANT SELECT, INSERT, UPDATE ON session_counters TO caracalapi, caracalcoordinator;
GRANT SELECT, INSERT, UPDATE, DELETE ON delegations TO caracalcoordinator;
GRANT SELECT, UPDATE ON delegations TO caracalapi;
GRANT SELECT ON delegations TO caracalsts, caracalgateway;
GRANT UPDATE (accepted, budget_used, updated_at) ON delegations TO caracalsts;
GRANT SELECT, INSERT, UPDATE ON delegation_epochs TO caracalapi, caracalcoordinator;
GRANT SELECT ON delegation_epochs TO caracalsts, caracalgateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON signing_keys TO caracalsts;
GRANT SELECT, INSERT ON signing_keys TO caracalapi;
GRANT SELECT, INSERT, UPDATE ON admin_tokens TO caracalapi;
GRANT SELECT, INSERT, UPDATE ON admin_audit_heads TO caracalapi, caracalsts, caracalcoordinator;
GRANT SELECT, INSERT ON admin_audit_events TO caracalapi, caracalsts, caracalcoordinator;
GRANT SELECT, INSERT, DELETE ON idempotency_receipts TO caracalcoordinator;
GRANT SELECT, INSERT, UPDATE ON idempotency_counters TO caracalcoordinator;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox TO caracalapi, caracalcoordinator;
GRANT SELECT, INSERT, UPDATE ON platform_settings TO caracalapi;
GRANT SELECT ON platform_settings TO caracalsts, caracalgateway, caracalaudit, caracalcoordinator;

-- Roles that need a row but not the secrets in it read it through a view of the same name, which
-- their search path finds first. A view looks with its owner's eyes, so it repeats the zone.
CREATE SCHEMA caracal_sts;
GRANT USAGE ON SCHEMA caracal_sts TO caracalsts;
CREATE VIEW caracal_sts.applications AS
    SELECT zone_id, id, name, name_key, registration_method, traits, secret_hash,
        NULL::BYTEA AS sealed_secret, expires_at, created_by, created_via_operator, updated_by,
        updated_via_operator, created_at, updated_at, archived_at
    FROM applications;
GRANT SELECT ON caracal_sts.applications TO caracalsts;

CREATE SCHEMA caracal_plain;
GRANT USAGE ON SCHEMA caracal_plain TO caracalgateway, caracalcoordinator;
CREATE VIEW caracal_plain.applications AS
    SELECT zone_id, id, name, name_key, registration_method, traits,
        NULL::TEXT COLLATE "C" AS secret_hash, NULL::BYTEA AS sealed_secret, expires_at,
        created_by, created_via_operator, updated_by, updated_via_operator, created_at,
        updated_at, archived_at
    FROM applications WHERE zone_id = NULLIF(current_setting('caracal.zone', true), '');
CREATE VIEW caracal_plain.providers AS
    SELECT zone_id, id, name, identifier, kind, config, secret_config_keys,
        NULL::BYTEA AS sealed_config, connectivity_failed_at, created_by, created_via_operator,
        updated_by, updated_via_operator, created_at, updated_at, archived_at
    FROM providers WHERE zone_id = NULLIF(current_setting('caracal.zone', true), '');
CREATE VIEW caracal_plain.signing_keys AS
    SELECT zone_id, id, ''::BYTEA AS sealed, x, y, created_at, signs_from, retires_at
    FROM signing_keys WHERE zone_id = NULLIF(current_setting('caracal.zone', true), '');
GRANT SELECT ON caracal_plain.applications, caracal_plain.signing_keys
    TO caracalgateway, caracalcoordinator;
GRANT SELECT ON caracal_plain.providers TO caracalgateway;
