-- Times are microseconds since the Unix epoch; JSON is TEXT; every row of a zone carries its zone.

CREATE TABLE zones (
    id                      TEXT    NOT NULL PRIMARY KEY,
    name                    TEXT    NOT NULL,
    slug                    TEXT    NOT NULL,
    dcr_enabled             BOOLEAN NOT NULL,
    operator_coauthor_badge BOOLEAN NOT NULL,
    operator_governed       BOOLEAN NOT NULL,
    owner_account_id        TEXT,
    reserved                BOOLEAN NOT NULL,
    created_by              TEXT,
    created_via_operator    BOOLEAN NOT NULL,
    updated_by              TEXT,
    updated_via_operator    BOOLEAN NOT NULL,
    created_at              BIGINT  NOT NULL,
    updated_at              BIGINT  NOT NULL,
    archived_at             BIGINT
);
CREATE UNIQUE INDEX zones_slug ON zones (slug);
CREATE INDEX zones_page ON zones (created_at, id) WHERE archived_at IS NULL;

-- The change log: what made a fact about a zone wrong, in commit order.
CREATE TABLE zone_sequences (
    zone_id TEXT   NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE zone_changes (
    zone_id TEXT   NOT NULL,
    seq     BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (zone_id, seq)
) WITHOUT ROWID;

CREATE TABLE applications (
    zone_id              TEXT    NOT NULL REFERENCES zones (id),
    id                   TEXT    NOT NULL,
    name                 TEXT    NOT NULL,
    name_key             TEXT    NOT NULL,
    registration_method  TEXT    NOT NULL,
    traits               TEXT    NOT NULL,
    secret_hash          TEXT,
    sealed_secret        BLOB,
    expires_at           BIGINT,
    created_by           TEXT,
    created_via_operator BOOLEAN NOT NULL,
    updated_by           TEXT,
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
    zone_id                TEXT    NOT NULL REFERENCES zones (id),
    id                     TEXT    NOT NULL,
    name                   TEXT    NOT NULL,
    identifier             TEXT    NOT NULL,
    kind                   TEXT    NOT NULL,
    config                 TEXT    NOT NULL,
    secret_config_keys     TEXT    NOT NULL,
    sealed_config          BLOB,
    connectivity_failed_at BIGINT,
    created_by             TEXT,
    created_via_operator   BOOLEAN NOT NULL,
    updated_by             TEXT,
    updated_via_operator   BOOLEAN NOT NULL,
    created_at             BIGINT  NOT NULL,
    updated_at             BIGINT  NOT NULL,
    archived_at            BIGINT,
    PRIMARY KEY (zone_id, id)
);
CREATE UNIQUE INDEX providers_identifier ON providers (zone_id, identifier) WHERE archived_at IS NULL;
CREATE INDEX providers_page ON providers (zone_id, created_at, id);

CREATE TABLE resources (
    zone_id                TEXT    NOT NULL REFERENCES zones (id),
    id                     TEXT    NOT NULL,
    name                   TEXT    NOT NULL,
    identifier             TEXT    NOT NULL,
    upstream_url           TEXT,
    scopes                 TEXT    NOT NULL,
    credential_provider_id TEXT,
    operations             TEXT    NOT NULL,
    operation_enforcement  TEXT    NOT NULL,
    created_by             TEXT,
    created_via_operator   BOOLEAN NOT NULL,
    updated_by             TEXT,
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
    zone_id              TEXT    NOT NULL REFERENCES zones (id),
    id                   TEXT    NOT NULL,
    name                 TEXT    NOT NULL,
    description          TEXT,
    created_by           TEXT,
    created_via_operator BOOLEAN NOT NULL,
    updated_by           TEXT,
    updated_via_operator BOOLEAN NOT NULL,
    created_at           BIGINT  NOT NULL,
    updated_at           BIGINT  NOT NULL,
    archived_at          BIGINT,
    PRIMARY KEY (zone_id, id)
);
CREATE UNIQUE INDEX policies_name ON policies (zone_id, name) WHERE archived_at IS NULL;
CREATE INDEX policies_page ON policies (zone_id, created_at, id);

CREATE TABLE policy_versions (
    zone_id              TEXT    NOT NULL,
    id                   TEXT    NOT NULL,
    policy_id            TEXT    NOT NULL,
    version              BIGINT  NOT NULL,
    content              TEXT    NOT NULL,
    content_sha256       TEXT    NOT NULL,
    schema_version       TEXT    NOT NULL,
    created_by           TEXT,
    created_via_operator BOOLEAN NOT NULL,
    created_at           BIGINT  NOT NULL,
    PRIMARY KEY (zone_id, id),
    FOREIGN KEY (zone_id, policy_id) REFERENCES policies (zone_id, id)
);
CREATE UNIQUE INDEX policy_versions_number ON policy_versions (zone_id, policy_id, version);
CREATE TRIGGER policy_versions_are_immutable BEFORE UPDATE ON policy_versions
BEGIN SELECT RAISE(ABORT, 'policy versions are immutable'); END;
CREATE TRIGGER policy_versions_stay BEFORE DELETE ON policy_versions
BEGIN SELECT RAISE(ABORT, 'policy versions are immutable'); END;

CREATE TABLE policy_sets (
    zone_id              TEXT    NOT NULL REFERENCES zones (id),
    id                   TEXT    NOT NULL,
    name                 TEXT    NOT NULL,
    description          TEXT,
    active_version_id    TEXT,
    created_by           TEXT,
    created_via_operator BOOLEAN NOT NULL,
    updated_by           TEXT,
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
    zone_id              TEXT    NOT NULL,
    id                   TEXT    NOT NULL,
    policy_set_id        TEXT    NOT NULL,
    version              BIGINT  NOT NULL,
    manifest             TEXT    NOT NULL,
    manifest_sha256      TEXT    NOT NULL,
    schema_version       TEXT    NOT NULL,
    created_by           TEXT,
    created_via_operator BOOLEAN NOT NULL,
    created_at           BIGINT  NOT NULL,
    PRIMARY KEY (zone_id, id),
    FOREIGN KEY (zone_id, policy_set_id) REFERENCES policy_sets (zone_id, id)
);
CREATE UNIQUE INDEX policy_set_versions_number ON policy_set_versions (zone_id, policy_set_id, version);
CREATE INDEX policy_set_versions_page ON policy_set_versions (zone_id, policy_set_id, created_at, id);
CREATE TRIGGER policy_set_versions_are_immutable BEFORE UPDATE ON policy_set_versions
BEGIN SELECT RAISE(ABORT, 'policy set versions are immutable'); END;
CREATE TRIGGER policy_set_versions_stay BEFORE DELETE ON policy_set_versions
BEGIN SELECT RAISE(ABORT, 'policy set versions are immutable'); END;

CREATE TABLE authority_records (
    zone_id          TEXT   NOT NULL REFERENCES zones (id),
    id               TEXT   NOT NULL,
    kind             TEXT   NOT NULL,
    subject_id       TEXT   NOT NULL,
    issuer           TEXT,
    application_id   TEXT   NOT NULL,
    parent_id        TEXT,
    status           TEXT   NOT NULL,
    expires_at       BIGINT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    revoked_at       BIGINT,
    revoked_reason   TEXT,
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
    zone_id                     TEXT    NOT NULL REFERENCES zones (id),
    id                          TEXT    NOT NULL,
    application_id              TEXT    NOT NULL,
    parent_id                   TEXT,
    subject_authority_record_id TEXT    NOT NULL,
    status                      TEXT    NOT NULL,
    lifecycle                   TEXT    NOT NULL,
    ttl_seconds                 BIGINT,
    last_heartbeat_at           BIGINT,
    heartbeat_deadline_at       BIGINT,
    slot_ends_at                BIGINT  NOT NULL,
    depth                       BIGINT  NOT NULL,
    labels                      TEXT    NOT NULL,
    max_children                BIGINT  NOT NULL,
    child_count                 BIGINT  NOT NULL,
    authority_root              BOOLEAN NOT NULL,
    metadata                    TEXT    NOT NULL,
    lease_generation            BIGINT  NOT NULL,
    started_at                  BIGINT  NOT NULL,
    last_active_at              BIGINT  NOT NULL,
    terminated_at               BIGINT,
    termination_reason          TEXT,
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
    zone_id    TEXT   NOT NULL,
    label      TEXT   NOT NULL,
    started_at BIGINT NOT NULL,
    session_id TEXT   NOT NULL,
    PRIMARY KEY (zone_id, label, started_at, session_id),
    FOREIGN KEY (zone_id, session_id) REFERENCES sessions (zone_id, id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX session_labels_session ON session_labels (zone_id, session_id);

-- How many sessions are active or suspended: an upper bound of the slots held, without a scan.
CREATE TABLE session_counters (
    zone_id        TEXT   NOT NULL,
    application_id TEXT   NOT NULL,
    live           BIGINT NOT NULL,
    PRIMARY KEY (zone_id, application_id)
) WITHOUT ROWID;

CREATE TABLE delegations (
    zone_id                 TEXT    NOT NULL REFERENCES zones (id),
    id                      TEXT    NOT NULL,
    source_session_id       TEXT    NOT NULL,
    target_session_id       TEXT    NOT NULL,
    issuer_application_id   TEXT    NOT NULL,
    receiver_application_id TEXT    NOT NULL,
    parent_edge_id          TEXT,
    resource_id             TEXT,
    scopes                  TEXT    NOT NULL,
    constraints_json        TEXT    NOT NULL,
    mirrored                BOOLEAN NOT NULL,
    accepted                BOOLEAN NOT NULL,
    budget                  BIGINT,
    budget_used             BIGINT  NOT NULL,
    status                  TEXT    NOT NULL,
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
    zone_id TEXT   NOT NULL PRIMARY KEY,
    epoch   BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE signing_keys (
    zone_id    TEXT   NOT NULL REFERENCES zones (id),
    id         TEXT   NOT NULL,
    sealed     BLOB   NOT NULL,
    x          TEXT   NOT NULL,
    y          TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    signs_from BIGINT NOT NULL,
    retires_at BIGINT,
    PRIMARY KEY (zone_id, id)
);

CREATE TABLE admin_tokens (
    id           TEXT    NOT NULL PRIMARY KEY,
    name         TEXT    NOT NULL,
    zone_id      TEXT    REFERENCES zones (id),
    capability   TEXT    NOT NULL,
    reveal       BOOLEAN NOT NULL,
    digest       TEXT    NOT NULL,
    created_by   TEXT    NOT NULL,
    created_at   BIGINT  NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT
);
CREATE UNIQUE INDEX admin_tokens_digest ON admin_tokens (digest);
CREATE INDEX admin_tokens_page ON admin_tokens (created_at, id);

-- zone_id '' is the platform's own chain.
CREATE TABLE admin_audit_heads (
    zone_id      TEXT   NOT NULL PRIMARY KEY,
    seq          BIGINT NOT NULL,
    content_hash TEXT   NOT NULL
) WITHOUT ROWID;
CREATE TABLE admin_audit_events (
    zone_id      TEXT   NOT NULL,
    seq          BIGINT NOT NULL,
    id           TEXT   NOT NULL,
    request_id   TEXT   NOT NULL,
    actor_id     TEXT,
    actor_name   TEXT,
    actor_scope  TEXT,
    action       TEXT   NOT NULL,
    method       TEXT   NOT NULL,
    path         TEXT   NOT NULL,
    entity_type  TEXT,
    entity_id    TEXT,
    status_code  BIGINT NOT NULL,
    payload      TEXT,
    occurred_at  BIGINT NOT NULL,
    content_hash TEXT   NOT NULL,
    prev_hash    TEXT   NOT NULL,
    chain_hmac   TEXT,
    PRIMARY KEY (zone_id, seq)
);
CREATE UNIQUE INDEX admin_audit_events_id ON admin_audit_events (zone_id, id);
CREATE INDEX admin_audit_events_page ON admin_audit_events (zone_id, occurred_at, id);
CREATE INDEX admin_audit_events_entity ON admin_audit_events (zone_id, entity_type, occurred_at, id);
CREATE INDEX admin_audit_events_object ON admin_audit_events (zone_id, entity_id, occurred_at, id);
CREATE INDEX admin_audit_events_actor ON admin_audit_events (zone_id, actor_id, occurred_at, id);
CREATE TRIGGER admin_audit_events_are_immutable BEFORE UPDATE ON admin_audit_events
BEGIN SELECT RAISE(ABORT, 'admin audit events are append-only'); END;

CREATE TABLE idempotency_receipts (
    zone_id       TEXT   NOT NULL,
    operation     TEXT   NOT NULL,
    scope_id      TEXT   NOT NULL,
    key_digest    TEXT   NOT NULL,
    fingerprint   TEXT   NOT NULL,
    resource_type TEXT   NOT NULL,
    resource_id   TEXT   NOT NULL,
    status_code   BIGINT NOT NULL,
    body          TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    PRIMARY KEY (zone_id, operation, scope_id, key_digest)
);
CREATE INDEX idempotency_receipts_due ON idempotency_receipts (expires_at);
CREATE INDEX idempotency_receipts_ended ON idempotency_receipts (zone_id, expires_at);
CREATE INDEX idempotency_receipts_scope ON idempotency_receipts (zone_id, operation, scope_id, expires_at);
CREATE TABLE idempotency_counters (
    zone_id   TEXT   NOT NULL,
    operation TEXT   NOT NULL,
    scope_id  TEXT   NOT NULL,
    receipts  BIGINT NOT NULL,
    PRIMARY KEY (zone_id, operation, scope_id)
) WITHOUT ROWID;

CREATE TABLE outbox (
    id           TEXT   NOT NULL PRIMARY KEY,
    zone_id      TEXT   NOT NULL,
    topic        TEXT   NOT NULL,
    dedupe_key   TEXT   NOT NULL,
    payload      TEXT   NOT NULL,
    status       TEXT   NOT NULL,
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
    name       TEXT   NOT NULL PRIMARY KEY,
    value      BIGINT NOT NULL,
    updated_by TEXT,
    updated_at BIGINT NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit_heads (
    zone_id     TEXT   NOT NULL PRIMARY KEY,
    seq         BIGINT NOT NULL,
    chain_hash  BLOB   NOT NULL,
    frontier    BLOB   NOT NULL,
    signed_size BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX audit_heads_unsigned ON audit_heads (updated_at) WHERE seq > signed_size;

CREATE TABLE audit_events (
    zone_id             TEXT   NOT NULL,
    seq                 BIGINT NOT NULL,
    event_id            TEXT   NOT NULL,
    occurred_at         BIGINT NOT NULL,
    ingested_at         BIGINT NOT NULL,
    event_type          TEXT   NOT NULL,
    decision            TEXT   NOT NULL,
    evaluation_status   TEXT   NOT NULL,
    request_id          TEXT   NOT NULL,
    application_id      TEXT,
    agent_session_id    TEXT,
    authority_record_id TEXT,
    data                TEXT,
    signature           BLOB,
    leaf_hash           BLOB   NOT NULL,
    chain_hash          BLOB   NOT NULL,
    PRIMARY KEY (zone_id, seq)
);
CREATE UNIQUE INDEX audit_events_id ON audit_events (zone_id, event_id);
-- Each index ends in the order of a search, so that a page of a rare value is found without sorting
-- or passing over the others.
CREATE INDEX audit_events_page ON audit_events (zone_id, occurred_at, event_id) WHERE data IS NOT NULL;
CREATE INDEX audit_events_request ON audit_events (zone_id, request_id, occurred_at, event_id);
CREATE INDEX audit_events_application ON audit_events (zone_id, application_id, occurred_at, event_id)
    WHERE application_id IS NOT NULL;
CREATE INDEX audit_events_session ON audit_events (zone_id, agent_session_id, occurred_at, event_id)
    WHERE agent_session_id IS NOT NULL;
CREATE INDEX audit_events_record ON audit_events (zone_id, authority_record_id, occurred_at, event_id)
    WHERE authority_record_id IS NOT NULL;
CREATE INDEX audit_events_refused ON audit_events (zone_id, decision, occurred_at, event_id)
    WHERE decision <> 'allow';
CREATE INDEX audit_events_rare ON audit_events (zone_id, event_type, occurred_at, event_id)
    WHERE event_type NOT IN ('token_exchange', 'gateway_request_started', 'gateway_resource_request');
-- Retention takes an event's text away; its place and hashes stay.
CREATE TRIGGER audit_events_are_immutable BEFORE UPDATE ON audit_events
WHEN NEW.data IS NOT NULL OR NEW.zone_id <> OLD.zone_id OR NEW.seq <> OLD.seq
    OR NEW.event_id <> OLD.event_id OR NEW.occurred_at <> OLD.occurred_at
    OR NEW.leaf_hash <> OLD.leaf_hash OR NEW.chain_hash <> OLD.chain_hash
BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END;

CREATE TABLE audit_event_labels (
    zone_id     TEXT   NOT NULL,
    label       TEXT   NOT NULL,
    occurred_at BIGINT NOT NULL,
    event_id    TEXT   NOT NULL,
    PRIMARY KEY (zone_id, label, occurred_at, event_id)
) WITHOUT ROWID;
-- Decisions per hour since the epoch, for overviews.
CREATE TABLE audit_hours (
    zone_id  TEXT   NOT NULL,
    hour     BIGINT NOT NULL,
    decision TEXT   NOT NULL,
    events   BIGINT NOT NULL,
    PRIMARY KEY (zone_id, hour, decision)
) WITHOUT ROWID;
CREATE TABLE audit_checkpoints (
    zone_id TEXT   NOT NULL,
    size    BIGINT NOT NULL,
    note    TEXT   NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (zone_id, size)
);
CREATE TABLE audit_alerts (
    zone_id   TEXT   NOT NULL,
    id        TEXT   NOT NULL,
    kind      TEXT   NOT NULL,
    event_id  TEXT,
    detail    TEXT   NOT NULL,
    raised_at BIGINT NOT NULL,
    PRIMARY KEY (zone_id, id)
);
CREATE INDEX audit_alerts_page ON audit_alerts (zone_id, raised_at, id);
CREATE TABLE audit_producers (
    producer   TEXT   NOT NULL PRIMARY KEY,
    watermark  BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) WITHOUT ROWID;
