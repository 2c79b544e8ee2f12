//! Undoing a part of a unit.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use sea_orm::ConnectionTrait;

use super::ZoneUnit;
use crate::change::Change;
use crate::error::StoreError;

/// A moment of a unit: what had been recorded by then.
#[derive(Debug)]
pub(crate) struct Savepoint {
    changes: BTreeSet<Change>,
    enqueued: bool,
}

impl ZoneUnit {
    /// Marks this moment, which replaces the one marked before.
    pub(crate) async fn mark(
        &mut self,
        before: Option<Savepoint>,
    ) -> Result<Savepoint, StoreError> {
        let sql = match before {
            None => "SAVEPOINT job",
            Some(_) => "RELEASE SAVEPOINT job; SAVEPOINT job",
        };
        let marked = self.access.tx.execute_unprepared(sql);
        self.access.ask(&self.inner, "savepoint", marked).await?;
        Ok(Savepoint {
            changes: self.access.changes.clone(),
            enqueued: self.access.enqueued,
        })
    }

    /// Undoes everything since the mark: the rows, a failure, and what was recorded for the commit.
    /// The mark stays.
    pub(crate) async fn undo_to(&mut self, mark: &Savepoint) -> Result<(), StoreError> {
        self.access.failed.store(false, Ordering::Relaxed);
        let undone = self
            .access
            .tx
            .execute_unprepared("ROLLBACK TO SAVEPOINT job");
        self.access.ask(&self.inner, "savepoint", undone).await?;
        self.access.changes.clone_from(&mark.changes);
        self.access.enqueued = mark.enqueued;
        Ok(())
    }
}
