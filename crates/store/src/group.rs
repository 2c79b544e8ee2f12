//! Group commit: writes of one zone that arrive together share one transaction and one commit.
//!
//! Writers of a zone come one after the other anyway. While one of them commits, others arrive; they
//! go together with the next commit, and nobody waits for company: who is alone begins at once. A
//! caller is answered after the commit that holds its work, and not before.
//!
//! Each job of a unit stands behind a savepoint. A job that fails or refuses leaves nothing of its
//! own: neither rows nor changes to tell nor messages to send. What the others did stays. When the
//! commit fails, or nobody knows whether it happened, everybody in it is told
//! [`StoreError::Unavailable`], those who were refused too: what they were refused for was seen in a
//! state that is not there now.
//!
//! A job whose caller has gone before its turn is not run. One that has been run is committed with the
//! others, as a commit finishes whether its caller waits or not.

mod job;
mod record;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use caracal_core::id::ZoneId;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::entity::AuthorityRecord;
use crate::error::StoreError;
use crate::handle::ZoneUnit;
use crate::store::Store;
use job::{Job, Kept, Typed};
use record::Record;

pub use job::UnitFuture;

/// Jobs of a zone that wait; more are refused at once.
const MAX_WAITING: usize = 1024;
/// Jobs of one unit.
const MAX_JOBS: usize = 32;
/// Authority records of one unit.
const MAX_RECORDS: usize = 128;
/// How long jobs are run in one unit; who is left goes with the next. So the first one's answer is not
/// held up by the last one's work. Tests must not depend on the speed of the machine.
const RUN_FOR: Duration = Duration::from_millis(if cfg!(test) { 60_000 } else { 10 });

/// The jobs that wait, zone by zone. A zone that is here has a task that runs them.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    zones: Mutex<HashMap<ZoneId, Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    records: VecDeque<Record>,
}

/// What one unit runs.
#[derive(Debug)]
struct Batch {
    jobs: VecDeque<Box<dyn Job>>,
    records: Vec<Record>,
}

impl Store {
    /// Runs `work` in a unit of the zone, which it may share with others, and answers after the
    /// commit. Work that answers an error is undone, and undoes nobody else's.
    ///
    /// Work must not wait for anything but its unit: others wait for it.
    ///
    /// # Errors
    /// What the work answers; [`StoreError::Unavailable`] when it could not be run or committed, or
    /// nobody knows whether it was.
    pub async fn in_group<T, E, F>(&self, zone: &ZoneId, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'a> FnOnce(&'a mut ZoneUnit) -> UnitFuture<'a, Result<T, E>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.join_group(zone, |queue| {
            queue.jobs.push_back(Box::new(Typed::new(work, reply)));
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped().into()))
    }

    /// Stores a new authority record, with others of its zone in one statement and one commit.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written; a record that is refused harms no other.
    pub async fn store_authority_record(&self, row: AuthorityRecord) -> Result<(), StoreError> {
        let zone = row.zone_id.clone();
        let (reply, answer) = oneshot::channel();
        self.join_group(&zone, |queue| {
            queue.records.push_back(Record { row, reply });
        })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Puts a job into the zone's queue, and has the queue run unless it is.
    fn join_group(&self, zone: &ZoneId, join: impl FnOnce(&mut Queue)) -> Result<(), StoreError> {
        let mut zones = self.inner.groups.zones.lock();
        if let Some(queue) = zones.get_mut(zone) {
            if queue.jobs.len() + queue.records.len() >= MAX_WAITING {
                return Err(StoreError::Unavailable(
                    "too many writes of the zone wait".to_owned(),
                ));
            }
            join(queue);
            return Ok(());
        }
        join(zones.entry(zone.clone()).or_default());
        drop(zones);
        let running = Running {
            store: self.clone(),
            zone: zone.clone(),
        };
        tokio::spawn(running.run());
        Ok(())
    }
}

/// What goes wrong with the unit says nothing about anybody's work.
fn unavailable(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(_) => error,
        other => StoreError::Unavailable(other.to_string()),
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the group commit has stopped".to_owned())
}

/// The task that runs a zone's jobs until none waits.
struct Running {
    store: Store,
    zone: ZoneId,
}

impl Running {
    async fn run(self) {
        while self.has_more() {
            // Whoever comes while this waits for its turn goes along.
            match self.store.begin(&self.zone).await {
                Ok(unit) => {
                    let batch = self.take(MAX_JOBS, MAX_RECORDS);
                    self.carry_out(unit, batch).await;
                }
                Err(error) => self.take(usize::MAX, usize::MAX).end(&Err(error)),
            }
        }
    }

    /// Whether somebody waits. If not, the zone has no task any more.
    fn has_more(&self) -> bool {
        let mut zones = self.store.inner.groups.zones.lock();
        let more = zones.get_mut(&self.zone).is_some_and(|queue| {
            queue.jobs.retain(|job| job.is_wanted());
            queue.records.retain(Record::is_wanted);
            !queue.jobs.is_empty() || !queue.records.is_empty()
        });
        if !more {
            zones.remove(&self.zone);
        }
        more
    }

    fn take(&self, jobs: usize, records: usize) -> Batch {
        let mut zones = self.store.inner.groups.zones.lock();
        let queue = zones.entry(self.zone.clone()).or_default();
        queue.jobs.retain(|job| job.is_wanted());
        queue.records.retain(Record::is_wanted);
        let (jobs, records) = (jobs.min(queue.jobs.len()), records.min(queue.records.len()));
        Batch {
            jobs: queue.jobs.drain(..jobs).collect(),
            records: queue.records.drain(..records).collect(),
        }
    }

    /// Those who were not run come first the next time.
    fn put_back(&self, jobs: VecDeque<Box<dyn Job>>) {
        let mut zones = self.store.inner.groups.zones.lock();
        let queue = zones.entry(self.zone.clone()).or_default();
        for job in jobs.into_iter().rev() {
            queue.jobs.push_front(job);
        }
    }

    async fn carry_out(&self, mut unit: ZoneUnit, mut batch: Batch) {
        let ran = batch.run(&mut unit).await;
        self.put_back(std::mem::take(&mut batch.jobs));
        let committed = match &ran.result {
            Ok(Kept::Something) => unit.commit().await.map_err(unavailable),
            Ok(Kept::Nothing) => {
                drop(unit);
                Ok(())
            }
            Err(error) => {
                drop(unit);
                Err(unavailable(error.clone()))
            }
        };
        let count = ran.jobs.len() + batch.records.len();
        metrics::counter!("caracal_group_commits_total").increment(1);
        metrics::histogram!("caracal_group_commit_size")
            .record(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        for job in ran.jobs {
            job.end(committed.clone());
        }
        batch.end(&committed);
    }
}

/// A task that ends early leaves nobody waiting.
impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.store.inner.groups.zones.lock().remove(&self.zone);
        }
    }
}

/// What a batch has done to its unit.
struct Ran {
    jobs: Vec<Box<dyn Job>>,
    /// An error when the unit can't be used any more.
    result: Result<Kept, StoreError>,
}

impl Batch {
    /// Runs records and jobs, these for as long as there is time. Who was not run stays.
    async fn run(&mut self, unit: &mut ZoneUnit) -> Ran {
        let mut ran = Ran {
            jobs: Vec::new(),
            result: Ok(Kept::Nothing),
        };
        ran.result = self.run_into(unit, &mut ran.jobs).await;
        ran
    }

    async fn run_into(
        &mut self,
        unit: &mut ZoneUnit,
        done: &mut Vec<Box<dyn Job>>,
    ) -> Result<Kept, StoreError> {
        let began = Instant::now();
        // Who is alone needs no savepoint: what fails is undone with the unit.
        let is_alone = self.records.len() + self.jobs.len() == 1;
        let mut kept = if is_alone {
            record::insert_alone(unit, &mut self.records).await
        } else {
            record::insert(unit, &mut self.records).await?
        };
        let mut mark = None;
        while let Some(mut job) = self.jobs.pop_front() {
            if !is_alone {
                mark = Some(unit.mark(mark).await?);
            }
            let did = job.run(unit).await;
            done.push(job);
            kept = kept.or(did);
            if let (Kept::Nothing, Some(mark)) = (did, &mark) {
                unit.undo_to(mark).await?;
            }
            if began.elapsed() >= RUN_FOR {
                break;
            }
        }
        Ok(kept)
    }

    /// Tells those who are left how it ended.
    fn end(self, committed: &Result<(), StoreError>) {
        for job in self.jobs {
            job.end(committed.clone());
        }
        for record in self.records {
            record.end(committed.clone());
        }
    }
}
