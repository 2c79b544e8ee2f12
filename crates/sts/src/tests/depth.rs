//! Trees and lines that are deeper than any that can be made.

use caracal_store::entity::Session;

use crate::testing::{APP, World, rows};

/// A Session under so many parents, with a Delegation of its own.
async fn under_parents(world: &World, parents: usize) {
    world.delegate(|_, _, _| {}).await;
    let mut above: Option<Session> = None;
    for number in 0..=parents {
        let mut session = rows::session(&format!("up-{number}"), APP);
        session.parent_id = above.map(|parent| parent.id);
        world.insert_session(&session).await;
        above = Some(session);
    }
    let (source, target) = (rows::session("as-1", APP), above.unwrap());
    let edge = rows::delegation("de-up", &source, &target, "ledger:read");
    let mut unit = world.unit().await;
    unit.insert_delegation(&edge).await.unwrap();
    unit.commit().await.unwrap();
}

#[tokio::test]
async fn a_session_under_endless_parents_mints_nothing() {
    for (parents, status) in [(15, 200), (16, 403)] {
        let world = World::new().await;
        under_parents(&world, parents).await;
        let session = format!("up-{parents}");
        let fields = [
            ("agent_session_id", session.as_str()),
            ("delegation_edge_id", "de-up"),
        ];
        let answer = world.gateway(&fields).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    }
}

/// Mirrored edges from Session to Session, each below the one before.
async fn line_of(world: &World, edges: usize) {
    let record = rows::record("rec-7", APP);
    let mut unit = world.unit().await;
    unit.insert_authority_record(&record).await.unwrap();
    let mut source = rows::session("as-0", APP);
    unit.insert_session(&source).await.unwrap();
    let mut above = None;
    for number in 1..=edges {
        let target = rows::session(&format!("as-{number}"), APP);
        unit.insert_session(&target).await.unwrap();
        let id = format!("de-{number}");
        let mut edge = rows::delegation(&id, &source, &target, "ledger:read");
        edge.parent_edge_id = above;
        edge.mirrored = true;
        unit.insert_delegation(&edge).await.unwrap();
        above = Some(edge.id);
        source = target;
    }
    unit.commit().await.unwrap();
}

#[tokio::test]
async fn a_delegation_below_endless_others_mints_nothing() {
    // A mandate that names 64 edges would be too large, but its line has been judged and stands.
    for (edges, verdict) in [
        (64, "deny/exchange_denied"),
        (65, "deny/delegation_invalid"),
    ] {
        let world = World::new().await;
        line_of(&world, edges).await;
        let (session, edge) = (format!("as-{edges}"), format!("de-{edges}"));
        let fields = [
            ("agent_session_id", session.as_str()),
            ("delegation_edge_id", edge.as_str()),
        ];
        world.gateway(&fields).await;
        assert_eq!(world.verdicts().await, [verdict]);
    }
}
