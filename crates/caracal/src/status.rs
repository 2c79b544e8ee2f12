//! `caracal status [--ready] [--json]`: probes the five roles.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, ClientError};
use crate::config::Role;
use crate::home::Home;

/// Longest wait for one probe.
const PROBE: Duration = Duration::from_millis(1_500);

/// One probed role.
pub(crate) struct Probe {
    role: Role,
    port: u16,
    url: String,
    pub(crate) ok: bool,
    detail: String,
}

impl Probe {
    /// Which role, and what it answered.
    pub(crate) fn sentence(&self) -> String {
        format!("{} {}", self.role.name(), self.detail)
    }
}

/// Probes every role, where the running stack listens or at the usual ports.
pub(crate) async fn probe(home: Option<&Home>, ready: bool) -> Vec<Probe> {
    let client = Client::new(PROBE);
    let run = home.and_then(Home::running);
    let path = if ready { "ready" } else { "health" };
    let mut probes = Vec::new();
    for role in Role::ALL {
        let port = run
            .as_ref()
            .and_then(|run| run.address(role))
            .map_or(role.port(), |address| address.port());
        let url = format!("http://localhost:{port}/{path}");
        let (ok, detail) = match client.get(&url).await {
            Ok(answer) => {
                let detail = detail(answer.status.as_u16(), &answer.body);
                (answer.status.is_success(), detail)
            }
            Err(ClientError::Timeout(_)) => (false, "timeout".to_owned()),
            Err(_) => (false, "unreachable".to_owned()),
        };
        probes.push(Probe {
            role,
            port,
            url,
            ok,
            detail,
        });
    }
    probes
}

fn detail(status: u16, body: &[u8]) -> String {
    if (200..300).contains(&status) {
        return status.to_string();
    }
    let reason = match serde_json::from_slice::<Value>(body) {
        Ok(document) => ["reason", "error", "detail"]
            .into_iter()
            .find_map(|key| document[key].as_str().map(str::to_owned))
            .unwrap_or_default(),
        Err(_) => String::from_utf8_lossy(body).chars().take(120).collect(),
    };
    format!("{status} {reason}").trim_end().to_owned()
}

/// The probes as indented JSON.
pub(crate) fn json_report(probes: &[Probe], ready: bool) -> String {
    let services: Vec<Value> = probes
        .iter()
        .map(|probe| {
            json!({
                "name": probe.role.name(), "port": probe.port, "url": probe.url,
                "ok": probe.ok, "detail": probe.detail
            })
        })
        .collect();
    let mode = if ready { "ready" } else { "health" };
    format!("{:#}\n", json!({ "mode": mode, "services": services }))
}

/// The probes as a table.
pub(crate) fn table(probes: &[Probe], ready: bool) -> String {
    let mode = if ready { "ready" } else { "health" };
    let mut out = format!(
        "{:<13}{:<7}{:<8}{:<8}detail\n",
        "service", "port", "mode", "status"
    );
    for probe in probes {
        let status = if probe.ok { "✓ ok" } else { "✗ down" };
        let name = probe.role.name();
        out.push_str(&format!(
            "{name:<13}{:<7}{mode:<8}{status:<8}{}\n",
            probe.port, probe.detail
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::detail;

    #[test]
    fn the_reason_of_a_failing_role_is_shown() {
        assert_eq!(detail(200, b""), "200");
        assert_eq!(
            detail(503, br#"{"ready":false,"reason":"redis_unreachable"}"#),
            "503 redis_unreachable"
        );
        assert_eq!(
            detail(503, br#"{"error":"outbox_dead"}"#),
            "503 outbox_dead"
        );
        assert_eq!(detail(502, b"bad gateway"), "502 bad gateway");
    }
}
