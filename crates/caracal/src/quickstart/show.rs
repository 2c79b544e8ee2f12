//! How the tour is told: one screen for people, one object for machines.

use serde_json::{Value, json};

use super::{Attempt, Tour};
use crate::tour::{READ, RESOURCE, World};

/// The tour as one screen.
pub(crate) fn screen(tour: &Tour) -> String {
    let mut out = String::from("Caracal: one governed call\n\n");
    out.push_str(&format!(
        "1  Set up: a zone, an application, an upstream key (sealed), {RESOURCE}, grants\n\
         \x20  zone {}\n   application {}\n",
        tour.zone, tour.application
    ));
    out.push_str(
        "2  A session that may read and write delegated only items:read to its child, for 10 minutes\n",
    );
    out.push_str(
        "3  The child traded that for a one-shot mandate and called GET /v1/items through the Gateway\n",
    );
    out.push_str(&line(
        tour.granted.holds(),
        &format!("answered {}", tour.granted.status),
    ));
    out.push_str(&line(
        tour.upstream_got_credential,
        "the upstream received the real X-Api-Key",
    ));
    out.push_str(&line(
        !tour.agent_saw_credential,
        "the agent never held it: only the mandate, now spent",
    ));
    out.push_str("4  What the agent cannot do\n");
    for denial in &tour.denials {
        out.push_str(&line(denial.holds(), &refusal(denial)));
    }
    out.push_str(&format!(
        "5  The evidence of the call, request {}\n",
        tour.request_id
    ));
    for event in &tour.trail {
        out.push_str(&format!(
            "   {:<26} {:<6} {:<11} {}\n",
            event["event_type"].as_str().unwrap_or("?"),
            event["decision"].as_str().unwrap_or("?"),
            event["evaluation_status"].as_str().unwrap_or("?"),
            policies(event),
        ));
    }
    out.push_str(&line(tour.chain.verified, &tour.chain.sentence()));
    out.push_str(if tour.holds() {
        "\n✓ everything held\n"
    } else {
        "\n✗ something did not hold\n"
    });
    out
}

fn line(ok: bool, text: &str) -> String {
    format!("   {} {text}\n", if ok { "✓" } else { "✗" })
}

fn refusal(denial: &Attempt) -> String {
    format!(
        "{}\n       → {} {}: {}",
        denial.what, denial.status, denial.code, denial.reason
    )
}

fn policies(event: &Value) -> String {
    let list = event["determining_policies_json"].as_array();
    let names = list
        .into_iter()
        .flatten()
        .filter_map(|entry| entry["policy"].as_str());
    names.collect::<Vec<_>>().join(" ")
}

/// The tour as one JSON object.
pub(crate) fn json(tour: &Tour) -> String {
    let attempt = |attempt: &Attempt| {
        json!({
            "what": attempt.what, "expected": attempt.expected, "status": attempt.status,
            "error": attempt.code, "error_description": attempt.reason, "ok": attempt.holds()
        })
    };
    let document = json!({
        "ok": tour.holds(),
        "zone_id": tour.zone,
        "application_id": tour.application,
        "granted": attempt(&tour.granted),
        "upstream_got_credential": tour.upstream_got_credential,
        "agent_saw_credential": tour.agent_saw_credential,
        "denials": tour.denials.iter().map(attempt).collect::<Vec<_>>(),
        "request_id": tour.request_id,
        "audit_trail": tour.trail,
        "chain": tour.chain,
    });
    format!("{document:#}\n")
}

/// The environment of a client that goes on with the kept zone.
pub(crate) fn how_to_go_on(world: &World) -> String {
    format!(
        "\nThe zone was kept. A client uses it with\n  CARACAL_ZONE_ID={}\n  CARACAL_APPLICATION_ID={}\n  \
         CARACAL_STS_URL={}\n  CARACAL_COORDINATOR_URL={}\n  CARACAL_GATEWAY_URL={}\nand a fresh client secret from \
         POST /v1/zones/{}/applications/{}/rotate-secret; scope {READ} on {RESOURCE}.\n",
        world.zone,
        world.application,
        world.endpoints.sts,
        world.endpoints.coordinator,
        world.endpoints.gateway,
        world.zone,
        world.application,
    )
}
