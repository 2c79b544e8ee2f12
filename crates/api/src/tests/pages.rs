//! Pagination: nothing lost, nothing twice.

use std::collections::HashSet;

use serde_json::json;

use super::world::{User, World};

async fn drain(user: &User<'_>, list: &str, limit: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = user.get(&format!("{list}?limit={limit}{cursor}")).await;
        for item in page.items() {
            ids.push(item["id"].as_str().unwrap().to_owned());
        }
        assert!(page.items().len() <= limit);
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn rows_of_the_same_instant_are_not_lost_at_page_borders() {
    let world = World::new().await;
    let user = world.bootstrap();
    let list = format!("/v1/zones/{}/providers", world.zone("orchard").await);
    for n in 0..11 {
        if n == 6 {
            world.clock.advance_seconds(1);
        }
        let made = user
            .post(&list, json!({ "name": format!("p{n}"), "kind": "none" }))
            .await;
        assert_eq!(made.status, 201);
    }
    let whole = drain(&user, &list, 500).await;
    assert_eq!(whole.len(), 11);
    for limit in [1, 2, 3, 5, 11] {
        let ids = drain(&user, &list, limit).await;
        assert_eq!(ids, whole, "limit {limit}");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 11);
    }
}

#[tokio::test]
async fn bad_pages_are_refused_on_every_list() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = format!("/v1/zones/{}", world.zone("orchard").await);
    let mut lists = vec!["/v1/zones".to_owned(), "/v1/admin-tokens".to_owned()];
    for list in [
        "applications",
        "providers",
        "resources",
        "policies",
        "policy-sets",
        "audit",
        "admin-audit",
        "sessions",
        "authority-records",
    ] {
        lists.push(format!("{zone}/{list}"));
    }
    for list in &lists {
        for query in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "cursor=",
            &format!("cursor={}", "a".repeat(513)),
        ] {
            user.get(&format!("{list}?{query}"))
                .await
                .refused(400, "invalid_query");
        }
        user.get(&format!("{list}?cursor=!!"))
            .await
            .refused(400, "invalid_cursor");
        assert_eq!(
            user.get(&format!("{list}?unknown=1")).await.status,
            200,
            "{list}"
        );
    }
}
