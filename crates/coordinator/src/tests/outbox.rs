//! Dead messages.

use serde_json::json;

use super::world::{LIFECYCLE, World};

/// A dead message of zone `z1`; its id.
async fn dead_message(world: &World) -> String {
    world.start("app", json!({})).await;
    let id = world.messages().await.remove(0).id;
    let mut unit = world.store.begin_platform().await.unwrap();
    unit.mark_outbox_failed(&id, "refused", None).await.unwrap();
    unit.commit().await.unwrap();
    id.to_string()
}

#[tokio::test]
async fn the_operator_makes_a_dead_message_pending_again_and_leaves_a_row() {
    let world = World::new().await;
    let id = dead_message(&world).await;
    let path = format!("/outbox/{id}/requeue");
    let answer = world.operate("POST", &path).send().await.ok(200);
    assert_eq!(answer, json!({ "id": id, "status": "pending" }));
    let messages = world.messages().await;
    let message = messages.iter().find(|held| held.id.as_str() == id);
    assert_eq!(message.unwrap().attempts, 0);
    let rows = world.trail().await;
    let audit = &rows.last().unwrap().audit;
    assert_eq!(audit.entity_type.as_deref(), Some("outbox"));
    assert_eq!(audit.entity_id.as_deref(), Some(&*id));
    assert_eq!(audit.status_code, 200);
    // It is not dead any more.
    let again = world.operate("POST", &path).send().await;
    again.assert(404, "dead_outbox_not_found");
}

#[tokio::test]
async fn a_message_of_another_zone_or_of_no_id_is_not_there() {
    let world = World::new().await;
    let id = dead_message(&world).await;
    let path = format!("/zones/z2/outbox/{id}/requeue");
    let call = world.plain("POST", &path);
    let answer = call.bearer(super::world::OPERATOR).send().await;
    answer.assert(404, "dead_outbox_not_found");
    let answer = world.operate("POST", "/outbox/%20/requeue").send().await;
    answer.assert(400, "invalid_body");
}

#[tokio::test]
async fn only_an_admin_requeues() {
    let world = World::new().await;
    let id = dead_message(&world).await;
    for path in [
        format!("/outbox/{id}/requeue"),
        "/outbox/%20/requeue".to_owned(),
    ] {
        let answer = world.call("app", "POST", &path).send().await;
        answer.assert(403, "coordinator_admin_required");
    }
    let admin = world.token_with("app", &format!("{LIFECYCLE} coordinator.admin"));
    let call = world.plain("POST", &format!("/zones/z1/outbox/{id}/requeue"));
    call.bearer(&admin).send().await.ok(200);
}
