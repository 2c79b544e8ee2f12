//! Entities, repositories, migrations, the change log and the freshness barrier.
mod admin_tokens;
mod applications;
mod authority_records;
mod change;
mod delegations;
mod dialect;
pub mod entity;
mod error;
mod handle;
mod idempotency;
mod migrate;
mod outbox;
mod page;
mod policies;
mod providers;
mod resources;
mod sessions;
mod settings;
mod signing_keys;
mod sql;
mod store;
mod zones;

pub use applications::{ApplicationCounts, RowStatus};
pub use authority_records::AuthorityRecordFilter;
pub use change::{Change, ChangeFeed, ChangeKind, Changes, EmbeddedFeed};
pub use delegations::{BudgetOutcome, DelegationFilter};
pub use error::{OpenError, StoreError, UniqueConstraint};
pub use handle::{
    Access, InZone, OnPlatform, PlatformReader, PlatformUnit, Reading, Writing, ZoneReader,
    ZoneUnit,
};
pub use idempotency::{Receipt, ReceiptStats};
pub use outbox::{OutboxMessage, OutboxStats, OutboxStatus};
pub use page::{Cursor, MAX_PAGE, Page, Slice};
pub use policies::{NewPolicySetVersion, NewPolicyVersion, PolicySetCounts};
pub use resources::{ResourceCounts, ResourceFilter};
pub use sessions::{DueSession, EndSession, LifecycleKind, SessionFilter, SlotsOf, Through};
pub use settings::{Setting, SettingName};
pub use signing_keys::published;
pub use store::Store;
pub use zones::{EndedAuthority, EndedSession, LiveAuthority, ZoneFilter};
