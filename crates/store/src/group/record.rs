//! Authority records: many of them in one statement.

use tokio::sync::oneshot;

use super::job::Kept;
use crate::entity::AuthorityRecord;
use crate::error::StoreError;
use crate::handle::ZoneUnit;

/// Records of one statement. SQLite finds a parameter by walking a list, so more would not be faster.
const PER_STATEMENT: usize = 32;

/// A record that waits to be stored.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) row: AuthorityRecord,
    pub(super) reply: oneshot::Sender<Result<(), StoreError>>,
}

impl Record {
    pub(super) fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    pub(super) fn end(self, result: Result<(), StoreError>) {
        // Who has gone does not hear it.
        let _ = self.reply.send(result);
    }
}

/// Inserts the records, those that can't be stored apart from the others: they are answered and taken
/// out.
pub(super) async fn insert(
    unit: &mut ZoneUnit,
    records: &mut Vec<Record>,
) -> Result<Kept, StoreError> {
    let mut stored = Vec::with_capacity(records.len());
    let mut mark = None;
    let mut waiting = std::mem::take(records).into_iter().peekable();
    while waiting.peek().is_some() {
        let some: Vec<Record> = waiting.by_ref().take(PER_STATEMENT).collect();
        let at = unit.mark(mark).await?;
        if unit
            .insert_authority_records(some.iter().map(|r| &r.row))
            .await
            .is_ok()
        {
            stored.extend(some);
            mark = Some(at);
            continue;
        }
        unit.undo_to(&at).await?;
        let mut at = at;
        for record in some {
            at = unit.mark(Some(at)).await?;
            match unit.insert_authority_record(&record.row).await {
                Ok(()) => stored.push(record),
                Err(error) => {
                    unit.undo_to(&at).await?;
                    record.end(Err(error));
                }
            }
        }
        mark = Some(at);
    }
    *records = stored;
    Ok(kept(records))
}

/// Inserts a record that is alone in its unit, if there is one.
pub(super) async fn insert_alone(unit: &mut ZoneUnit, records: &mut Vec<Record>) -> Kept {
    if let Some(record) = records.pop() {
        match unit.insert_authority_record(&record.row).await {
            Ok(()) => records.push(record),
            Err(error) => record.end(Err(error)),
        }
    }
    kept(records)
}

fn kept(records: &[Record]) -> Kept {
    if records.is_empty() {
        Kept::Nothing
    } else {
        Kept::Something
    }
}
