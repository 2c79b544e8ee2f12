//! The store: everything that must survive a restart, and the view of it that decisions are made on.
//!
//! - [`Store`] opens the database and hands out handles. A handle is bound to one zone
//!   ([`ZoneReader`], [`ZoneUnit`]) or to what belongs to no zone ([`PlatformReader`],
//!   [`PlatformUnit`]). A unit is one transaction: nothing of it shows before `commit`, and dropping
//!   it undoes it.
//! - Rows are the values in [`entity`]: parsed when read, trusted afterwards.
//! - A write that makes a fact wrong which may be cached goes into the zone's change log in the same
//!   commit ([`ChangeFeed`]); [`Authority`] turns that into cached reads that are provably no older
//!   than the moment they were asked for.
//!
//! One file for each aggregate; what differs between databases is in `dialect`.

mod admin_audit;
mod admin_tokens;
mod applications;
mod authority;
mod authority_records;
mod change;
mod copy;
mod delegations;
mod dialect;
pub mod entity;
mod error;
mod evidence;
mod group;
mod handle;
mod idempotency;
mod migrate;
mod outbox;
mod page;
mod policies;
mod providers;
mod recovery;
mod resources;
mod sealed;
mod sessions;
mod settings;
mod signing_keys;
mod sql;
mod store;
#[cfg(test)]
mod testing;
mod zones;

pub use admin_audit::{AdminAudit, AdminAuditFilter, AdminAuditRow, ChainFault, ChainVerdict};
pub use applications::{ApplicationCounts, RowStatus};
pub use authority::{Authority, AuthorityLimits, Unavailable, ZoneView};
pub use authority_records::AuthorityRecordFilter;
pub use change::{Change, ChangeFeed, ChangeKind, Changes, EmbeddedFeed};
pub use copy::{SchemaMigration, copy_sqlite};
pub use delegations::{BudgetOutcome, DelegationFilter};
pub use dialect::postgres::{
    AppliedMigration, PlannedMigration, PostgresFindings, PostgresOptions, ServiceRole, can_act_as,
    drop_schemas, give_login, inspect_postgres, migrate_postgres, plan_postgres,
};
pub use error::{OpenError, StoreError, UniqueConstraint};
pub use evidence::{
    AuditAlert, AuditBatch, AuditCheckpoint, AuditEntry, AuditHead, AuditKey, AuditMonth,
    AuditPart, AuditRecord, AuditSearch, AuditWalk, DecisionCounts, KnownAuditEvent, LostEvidence,
};
pub use group::UnitFuture;
pub use handle::{
    Access, InZone, OnPlatform, PlatformReader, PlatformUnit, Reading, Writing, ZoneReader,
    ZoneUnit,
};
pub use idempotency::{Receipt, ReceiptStats};
pub use outbox::{OutboxMessage, OutboxStats, OutboxStatus};
pub use page::{Cursor, MAX_PAGE, Page, Slice};
pub use policies::{NewPolicySetVersion, NewPolicyVersion, PolicySetCounts};
pub use resources::{ResourceCounts, ResourceFilter};
pub use sealed::{SEALED_COLUMNS, SealedColumn, SealedRow};
pub use sessions::{DueSession, EndSession, LifecycleKind, SessionFilter, SlotsOf, Through};
pub use settings::{Setting, SettingName};
pub use signing_keys::published;
pub use store::{PlatformLane, Store};
pub use zones::{EndedAuthority, EndedSession, LiveAuthority, ZoneFilter};
