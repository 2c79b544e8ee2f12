//! How statements find their rows: by an index that knows them, whatever else a zone holds.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use caracal_core::SubjectType;
use caracal_store::entity::{RecordStatus, SessionStatus};
use caracal_store::{
    AdminAuditFilter, AuditWalk, AuthorityRecordFilter, Cursor, DelegationFilter, LifecycleKind,
    Page, RowStatus, SessionFilter,
};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::isolation::{everything, read_in_vain, write_in_vain};
use crate::world::{Backend, START, World, on};

/// The texts of all statements that the store runs on a zone.
#[derive(Clone, Default)]
pub(crate) struct Statements(Arc<Mutex<BTreeSet<String>>>);

/// Listens until dropped.
pub(crate) struct Listening {
    _subscriber: tracing::subscriber::DefaultGuard,
    _second: tracing::Dispatch,
}

impl Statements {
    /// Takes down what this thread's store says from now on.
    pub(crate) fn listen(&self) -> Listening {
        // Beside a second subscriber, all are asked whether an event is wanted; a single one is not
        // asked when another test's thread, which has none, comes first.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        let subscriber = tracing_subscriber::registry().with(self.clone());
        Listening {
            _subscriber: tracing::subscriber::set_default(subscriber),
            _second: second,
        }
    }

    /// What was taken down.
    pub(crate) fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl<S: tracing::Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "caracal_store::sql" {
            event.record(&mut &*self);
        }
    }
}

impl tracing::field::Visit for &Statements {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "sql" {
            self.0.lock().unwrap().insert(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn Debug) {}
}

/// Every list by every filter, from its beginning and from a cursor.
pub(crate) async fn list_everything(world: &World) {
    let me = world.store.read(&world.zone().await);
    let cursor = Cursor {
        at: START,
        id: "x".to_owned(),
    };
    for page in [Page::first(10), Page::after(10, cursor)] {
        let none = SessionFilter::default;
        for filter in [
            SessionFilter {
                status: Some(SessionStatus::Active),
                ..none()
            },
            SessionFilter {
                lifecycle: Some(LifecycleKind::Task),
                ..none()
            },
            SessionFilter {
                application_id: Some(world.id()),
                ..none()
            },
            SessionFilter {
                parent_id: Some(world.id()),
                ..none()
            },
            SessionFilter {
                label: Some("x".to_owned()),
                ..none()
            },
        ] {
            me.list_sessions(&filter, &page).await.unwrap();
        }
        let none = DelegationFilter::default;
        for filter in [
            DelegationFilter {
                source: Some(world.id()),
                ..none()
            },
            DelegationFilter {
                target: Some(world.id()),
                live_at: Some(START),
                ..none()
            },
            DelegationFilter {
                live_at: Some(START),
                ..none()
            },
            DelegationFilter {
                party: Some(world.id()),
                live_at: Some(START),
                ..none()
            },
        ] {
            me.list_delegations(&filter, &page).await.unwrap();
        }
        let none = AuthorityRecordFilter::default;
        for filter in [
            AuthorityRecordFilter {
                id: Some(world.id()),
                ..none()
            },
            AuthorityRecordFilter {
                status: Some(RecordStatus::Active),
                ..none()
            },
            AuthorityRecordFilter {
                subject_id: Some("x".to_owned()),
                ..none()
            },
            AuthorityRecordFilter {
                kind: Some(SubjectType::User),
                ..none()
            },
        ] {
            me.list_authority_records(&filter, &page).await.unwrap();
        }
        let none = AdminAuditFilter::default;
        for filter in [
            AdminAuditFilter {
                actor_id: Some("x".to_owned()),
                ..none()
            },
            AdminAuditFilter {
                entity_type: Some("x".to_owned()),
                ..none()
            },
            AdminAuditFilter {
                entity_id: Some("x".to_owned()),
                ..none()
            },
            AdminAuditFilter {
                since: Some(START),
                until: Some(START),
                ..none()
            },
        ] {
            me.list_admin_audit(&filter, &page).await.unwrap();
        }
        me.list_applications(RowStatus::Archived, &page)
            .await
            .unwrap();
        me.list_providers(RowStatus::Archived, &page).await.unwrap();
        me.list_audit_alerts(&page).await.unwrap();
    }
    me.latest_audit_checkpoint().await.unwrap();
    let walk = AuditWalk {
        since: Some(START),
        until: Some(START),
        limit: 1,
        ..Default::default()
    };
    me.walk_audit_events(&walk).await.unwrap();
    me.verify_admin_audit().await.unwrap();
}

async fn plan(db: &DatabaseConnection, sql: &str) -> Vec<String> {
    let explain = Statement::from_string(
        db.get_database_backend(),
        format!("EXPLAIN QUERY PLAN {sql}"),
    );
    let rows = db.query_all_raw(explain).await.unwrap();
    rows.iter()
        .map(|row| row.try_get_by("detail").unwrap())
        .collect()
}

/// Whether a step of a plan visits more rows than it must.
fn is_wasteful(sql: &str, step: &str) -> bool {
    // A page of a list, a few rows of a zone, a table with one row of each zone, or a count.
    const WHOLE_ZONE: &[&str] = &[
        "_page ",
        "signing_keys",
        "policy_sets",
        "session_counters",
        "audit_checkpoints",
        "delegation_epochs USING PRIMARY KEY",
        "audit_heads USING PRIMARY KEY",
        "resources_live",
    ];
    // What a recursive statement has found so far.
    const FOUND: &[&str] = &[
        "SCAN tree",
        "SCAN line",
        "SCAN lineage",
        "SCAN reached",
        "SCAN used",
    ];
    // Rows of a state may be what is asked for, but a walk through a tree knows its rows.
    let walks_a_state = step.contains("(zone_id=? AND status=?)") && sql.contains("RECURSIVE");
    let walks_a_zone = step.contains("SEARCH") && step.ends_with("(zone_id=?)");
    let walks_a_table = step.contains("SCAN") && !FOUND.contains(&step);
    (walks_a_zone || walks_a_state || walks_a_table)
        && !WHOLE_ZONE.iter().any(|name| step.contains(name))
}

#[test]
fn no_statement_walks_a_zone_for_rows_that_an_index_knows() {
    on(Backend::Sqlite, |world| async move {
        let statements = Statements::default();
        let listening = statements.listen();
        let theirs = everything(&world).await;
        read_in_vain(&world, &theirs).await;
        list_everything(&world).await;
        write_in_vain(&world, &theirs, &world.zone().await).await;
        drop(listening);

        let statements = statements.take();
        assert!(statements.len() > 100, "{}", statements.len());
        // Another connection than the store's: the figures must come with the file.
        let db = world.raw().await;
        let mut wasteful = Vec::new();
        for sql in &statements {
            let steps = plan(&db, sql).await;
            if steps.iter().any(|step| is_wasteful(sql, step)) {
                wasteful.push(format!("{sql}\n  {steps:?}"));
            }
        }
        db.close().await.unwrap();
        assert!(wasteful.is_empty(), "{}", wasteful.join("\n"));
    });
}
