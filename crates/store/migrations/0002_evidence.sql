-- What of a producer's log is stored behind its watermark: `12-20,31-40`.
ALTER TABLE audit_producers ADD COLUMN ahead TEXT NOT NULL DEFAULT '';
-- An operator has looked into an alert.
CREATE TABLE audit_acknowledgements (
    zone_id  TEXT   NOT NULL,
    alert_id TEXT   NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (zone_id, alert_id)
) WITHOUT ROWID;
CREATE INDEX audit_alerts_lost ON audit_alerts (raised_at, id) WHERE kind IN ('evidence_lost', 'log_gap');
-- What checkpoints are signed with, when no variable gives a key.
CREATE TABLE audit_keys (
    version    BIGINT NOT NULL PRIMARY KEY,
    sealed     BLOB   NOT NULL,
    public_key TEXT   NOT NULL,
    created_at BIGINT NOT NULL
) WITHOUT ROWID;
