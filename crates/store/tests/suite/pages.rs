//! Pages: every row exactly once, whatever shares an instant.

use std::collections::BTreeSet;

use caracal_store::{MAX_PAGE, Page, RowStatus};

use crate::world::{Backend, START, application, on, on_every_backend};

on_every_backend![
    no_row_is_lost_or_repeated_when_many_share_an_instant,
    a_page_ends_the_list_exactly_when_nothing_is_behind_it,
];

fn no_row_is_lost_or_repeated_when_many_share_an_instant(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        let mut expected = BTreeSet::new();
        for n in 0..53_i64 {
            let mut row = application(&zone, world.id(), &format!("app-{n}"));
            // Two thirds of the rows share one microsecond; the others differ by one.
            row.created_at = caracal_core::Timestamp::from_micros(START.micros() + (n % 3) / 2);
            unit.insert_application(&row).await.unwrap();
            expected.insert(row.id);
        }
        for limit in [1, 7, 52, 53, 54] {
            let mut page = Page::first(limit);
            let mut seen = Vec::new();
            loop {
                let slice = unit
                    .list_applications(RowStatus::Live, &page)
                    .await
                    .unwrap();
                assert!(slice.items.len() <= limit);
                seen.extend(slice.items.into_iter().map(|row| (row.created_at, row.id)));
                let Some(next) = slice.next else { break };
                page = Page::after(limit, next);
            }
            assert!(
                seen.windows(2).all(|pair| pair[0] > pair[1]),
                "newest first"
            );
            let ids: BTreeSet<_> = seen.iter().map(|(_, id)| id.clone()).collect();
            assert_eq!((ids, seen.len()), (expected.clone(), expected.len()));
        }
    });
}

fn a_page_ends_the_list_exactly_when_nothing_is_behind_it(backend: Backend) {
    on(backend, |world| async move {
        let zone = world.zone().await;
        let mut unit = world.unit(&zone).await;
        for n in 0..4 {
            let row = application(&zone, world.id(), &format!("app-{n}"));
            unit.insert_application(&row).await.unwrap();
        }
        let page = unit
            .list_applications(RowStatus::Live, &Page::first(4))
            .await
            .unwrap();
        assert!(page.next.is_none());
        let page = unit
            .list_applications(RowStatus::Live, &Page::first(3))
            .await
            .unwrap();
        assert!(page.next.is_some());
        let huge = unit
            .list_applications(RowStatus::Live, &Page::first(usize::MAX))
            .await
            .unwrap();
        assert!(huge.items.len() <= MAX_PAGE);
    });
}
