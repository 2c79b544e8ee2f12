//! What differs between databases: opening them, their locks, their error texts and a few
//! statements. Everything else is SQL that they agree on.

pub(crate) mod postgres;
pub(crate) mod sqlite;

use sea_orm::DbBackend;

/// Which database a store stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    pub(crate) fn backend(self) -> DbBackend {
        match self {
            Self::Sqlite => DbBackend::Sqlite,
            Self::Postgres => DbBackend::Postgres,
        }
    }

    /// Locks the rows of a `SELECT` and leaves out those that another transaction has locked. In a
    /// file there is one writer, so none are.
    pub(crate) fn passing_over_locked(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "FOR UPDATE SKIP LOCKED",
        }
    }

    /// How many zones, of all, have the slug `$2`; the handle's zone is `$1`.
    pub(crate) fn slug_count(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT COUNT(*) AS n FROM zones WHERE slug = $2 AND $1 = $1",
            Self::Postgres => {
                "SELECT CASE WHEN slug_is_taken($2) THEN CAST(1 AS BIGINT) ELSE 0 END AS n
                 WHERE $1 = $1"
            }
        }
    }

    /// Moves the zone `$1` on by `$2` positions, and answers the last one as `seq`.
    pub(crate) fn advance_sequence(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "INSERT INTO zone_sequences (zone_id, seq) VALUES ($1, $2)
                 ON CONFLICT (zone_id) DO UPDATE SET seq = zone_sequences.seq + excluded.seq
                 RETURNING seq"
            }
            Self::Postgres => {
                "INSERT INTO zone_sequences (zone_id, seq) VALUES ($1, $2)
                 ON CONFLICT (zone_id) DO UPDATE SET seq = zone_sequences.seq + excluded.seq
                 RETURNING seq, pg_notify('caracal_changes', $1)"
            }
        }
    }

    /// The table of all events' places and hashes.
    pub(crate) fn audit_places(self) -> &'static str {
        match self {
            Self::Sqlite => "audit_events",
            Self::Postgres => "audit_chain",
        }
    }

    /// Stores a checkpoint. Nobody may change one on a server.
    pub(crate) fn insert_audit_checkpoint(self) -> &'static str {
        match self {
            Self::Sqlite => {
                "INSERT INTO audit_checkpoints (zone_id, size, note, at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (zone_id, size) DO UPDATE SET note = excluded.note, at = excluded.at"
            }
            Self::Postgres => {
                "INSERT INTO audit_checkpoints (zone_id, size, note, at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT DO NOTHING"
            }
        }
    }
}
