//! `caracal audit export` and `caracal audit verify`.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use caracal_core::Secret;
use caracal_evidence::note::VerifierKey;
use caracal_evidence::verify::{Trust, verify};
use http::Method;
use serde::Serialize;

use crate::CommandResult;
use crate::cli::AuditAction;
use crate::client::Client;
use crate::config::{Environment, Role};
use crate::home::{Home, RunFile};
use crate::tour::TourError;

/// Largest bundle that is read, bytes.
const MAX_BUNDLE: u64 = 4 * 1024 * 1024 * 1024;

/// Where evidence is read from: the Audit role and its admin token.
#[derive(Debug, Clone)]
pub(crate) struct EvidenceSource {
    audit: String,
    token: Secret<String>,
}

/// What an offline verification found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ChainReport {
    pub(crate) verified: bool,
    pub(crate) events: u64,
    pub(crate) removed: u64,
    pub(crate) key_trusted: bool,
    pub(crate) root: Option<String>,
    pub(crate) defect: Option<String>,
}

impl ChainReport {
    pub(crate) fn failed(defect: &str) -> Self {
        let defect = Some(defect.to_owned());
        Self {
            verified: false,
            events: 0,
            removed: 0,
            key_trusted: false,
            root: None,
            defect,
        }
    }

    pub(crate) fn sentence(&self) -> String {
        match (&self.root, &self.defect) {
            (Some(root), None) => format!(
                "the zone's chain verifies offline: {} events, nothing removed, root {}…",
                self.events,
                root.get(..16).unwrap_or(root)
            ),
            (_, defect) => format!(
                "the zone's chain: {}",
                defect.as_deref().unwrap_or("unknown")
            ),
        }
    }
}

impl EvidenceSource {
    /// Of the embedded stack that runs from `home`.
    pub(crate) fn of(
        home: &Home,
        run: &RunFile,
        environment: &Environment,
    ) -> Result<Self, TourError> {
        let port = run
            .address(Role::Audit)
            .map_or(Role::Audit.port(), |address| address.port());
        let token = match environment.get("AUDIT_ADMIN_TOKEN") {
            Some(token) => token.to_owned(),
            None => {
                let path = home.secret_path("auditAdminToken");
                std::fs::read_to_string(&path)
                    .map_err(|error| TourError::Unusable(format!("{}: {error}", path.display())))?
            }
        };
        Ok(Self {
            audit: format!("http://localhost:{port}"),
            token: Secret::new(token.trim_end().to_owned()),
        })
    }

    /// Of a stack given by its addresses.
    pub(crate) fn of_environment(environment: &Environment) -> Result<Self, TourError> {
        let audit = environment
            .get("CARACAL_AUDIT_URL")
            .unwrap_or("http://localhost:9090");
        let token = environment
            .get("AUDIT_ADMIN_TOKEN")
            .map(str::to_owned)
            .or_else(|| std::fs::read_to_string(environment.get("AUDIT_ADMIN_TOKEN_FILE")?).ok());
        let token = token.ok_or_else(|| {
            TourError::Unusable(
                "set AUDIT_ADMIN_TOKEN or AUDIT_ADMIN_TOKEN_FILE to read evidence".into(),
            )
        })?;
        Ok(Self {
            audit: audit.trim_end_matches('/').to_owned(),
            token: Secret::new(token.trim_end().to_owned()),
        })
    }

    async fn bundle(&self, zone: &str) -> Result<Bytes, TourError> {
        let client = Client::with_limit(Duration::from_secs(600), usize::MAX);
        let url = format!("{}/api/audit/export?zone_id={zone}", self.audit);
        let bearer = Secret::new(format!("Bearer {}", self.token.expose()));
        let headers = [("authorization", bearer.expose().as_str())];
        let answer = client
            .send(Method::GET, &url, &headers, Bytes::new())
            .await?;
        if answer.status.is_success() {
            Ok(answer.body)
        } else {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            Err(TourError::Refused {
                step: "read evidence",
                status: answer.status,
                body,
            })
        }
    }
}

/// Exports a zone's evidence and verifies it, without trusting the service that gave it.
pub(crate) async fn verify_zone(
    source: &EvidenceSource,
    zone: &str,
) -> Result<ChainReport, TourError> {
    Ok(verify_bundle(&source.bundle(zone).await?, None))
}

fn verify_bundle(bundle: &[u8], key: Option<&str>) -> ChainReport {
    let key = match key.map(VerifierKey::parse).transpose() {
        Ok(key) => key,
        Err(error) => return ChainReport::failed(&format!("the given key: {error}")),
    };
    match verify(
        bundle,
        &Trust {
            key,
            earlier: Vec::new(),
        },
    ) {
        Ok(verified) => ChainReport {
            verified: true,
            events: verified.size,
            removed: verified.removed,
            key_trusted: verified.key_trusted,
            root: Some(verified.root.to_string()),
            defect: None,
        },
        Err(defect) => ChainReport::failed(&defect.to_string()),
    }
}

pub(crate) async fn run(environment: &Environment, action: AuditAction) -> CommandResult {
    match action {
        AuditAction::Export { zone, out } => {
            let source = match Home::locate(environment)
                .ok()
                .and_then(|home| Some((home.running()?, home)))
            {
                Some((run, home)) => EvidenceSource::of(&home, &run, environment)?,
                None => EvidenceSource::of_environment(environment)?,
            };
            write_out(&out, &source.bundle(&zone).await?)?;
            Ok(ExitCode::SUCCESS)
        }
        AuditAction::Verify { bundle, key } => {
            let report = verify_bundle(&read_in(&bundle)?, key.as_deref());
            let mark = if report.verified { "✓" } else { "✗" };
            crate::say(&format!("{mark} {}\n", report.sentence()));
            Ok(if report.verified {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
    }
}

fn write_out(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if path == Path::new("-") {
        std::io::stdout().write_all(bytes)
    } else {
        std::fs::write(path, bytes)
    }
}

fn read_in(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().take(MAX_BUNDLE).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(path)?
            .take(MAX_BUNDLE)
            .read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
