//! The walk that seals again.

use caracal_core::Random;
use caracal_core::id::ZoneId;
use caracal_crypto::KeyRing;
use caracal_crypto::client_secret::Peppers;
use caracal_store::{SEALED_COLUMNS, SealedColumn, SealedRow, Store, StoreError};

use super::judge::{Keys, Need};
use super::report::{Left, Report};

pub(super) struct Walk<'a> {
    pub(super) store: &'a Store,
    pub(super) ring: KeyRing,
    pub(super) peppers: Peppers,
    pub(super) random: &'a dyn Random,
    pub(super) batch: u16,
    pub(super) dry_run: bool,
}

/// A row and what goes into its place.
struct Fresh {
    row: SealedRow,
    sealed: Vec<u8>,
    hash: Option<String>,
    rehashed: bool,
}

impl Walk<'_> {
    pub(super) async fn run(&self) -> Result<Report, StoreError> {
        let mut report = Report::default();
        for zone in self.store.platform().zone_ids().await? {
            for of in SEALED_COLUMNS {
                self.column(&zone, of, &mut report).await?;
            }
        }
        Ok(report)
    }

    async fn column(
        &self,
        zone: &ZoneId,
        of: &SealedColumn,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let reader = self.store.read(zone);
        let mut after = String::new();
        loop {
            let rows = reader.sealed_rows(of, &after, self.batch.into()).await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after.clone_from(&last.id);
            let fresh = self.judge(zone, of, rows, report);
            if !fresh.is_empty() && !self.dry_run {
                self.replace(zone, of, &fresh, report).await?;
            }
        }
    }

    fn judge(
        &self,
        zone: &ZoneId,
        of: &SealedColumn,
        rows: Vec<SealedRow>,
        report: &mut Report,
    ) -> Vec<Fresh> {
        let keys = Keys {
            ring: &self.ring,
            peppers: &self.peppers,
        };
        let mut fresh = Vec::new();
        for row in rows {
            match keys.need(zone, of, &row, self.random) {
                Need::Nothing => report.current += 1,
                Need::Stuck(why) => report.left.push(Left::new(zone, of, &row, why)),
                Need::Replace {
                    sealed,
                    hash,
                    rehashed,
                } => {
                    report.found += 1;
                    fresh.push(Fresh {
                        row,
                        sealed,
                        hash,
                        rehashed,
                    });
                }
            }
        }
        fresh
    }

    /// One transaction, so that writers of the zone wait for one batch at most.
    async fn replace(
        &self,
        zone: &ZoneId,
        of: &SealedColumn,
        fresh: &[Fresh],
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let mut unit = self.store.begin(zone).await?;
        let (mut resealed, mut rehashed, mut raced) = (0, 0, 0);
        for Fresh {
            row,
            sealed,
            hash,
            rehashed: hashed,
        } in fresh
        {
            if unit
                .replace_sealed(of, row, sealed, hash.as_deref())
                .await?
            {
                resealed += 1;
                rehashed += u64::from(*hashed);
            } else {
                raced += 1;
            }
        }
        unit.commit().await?;
        report.resealed += resealed;
        report.rehashed += rehashed;
        report.raced += raced;
        crate::say_error(&format!(
            "ℹ zone {zone}: {}.{}: {resealed} sealed again",
            of.table, of.column
        ));
        Ok(())
    }
}
