//! What happened, as clients saw it: every request with its begin, its end and its answer, and every
//! fault. The checker reads nothing else but this, the upstream's book and the exported evidence.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// What a request was for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub(crate) enum Action {
    /// A step towards a new chain: a lifecycle mandate, a Session, a delegation.
    Open { step: &'static str },
    /// A mandate over a chain.
    Mint { chain: u64 },
    /// A call with a mandate of a chain. `again` says that the mandate was sent before.
    Call {
        chain: u64,
        mandate: String,
        again: bool,
    },
    /// The end of a chain's authority.
    Revoke { chain: u64 },
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// An answer of the product.
    Answer {
        status: u16,
        /// The `error` of a JSON body.
        code: Option<String>,
        retry_after: bool,
        request: Option<String>,
        /// The id of the mandate that came with it.
        mandate: Option<String>,
    },
    /// The connection was refused or broke, or no answer came in time.
    None { why: String },
}

impl Outcome {
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Answer { status, .. } => Some(*status),
            Self::None { .. } => None,
        }
    }

    pub(crate) fn is_success(&self) -> bool {
        self.status().is_some_and(|s| (200..300).contains(&s))
    }

    /// 401 or 403: the product says that the authority is not there.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.status(), Some(401 | 403))
    }

    /// No answer, or one that says that something is missing at the moment.
    pub(crate) fn is_trouble(&self) -> bool {
        !self.is_success() && !self.is_refusal()
    }
}

/// One request.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub(crate) action: Action,
    /// Since the begin of the history.
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// What was done to the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fact {
    /// The fault begins.
    Fault,
    /// The cause is gone; the deployment may recover.
    Healed,
    /// Replay marks may be lost: mandates made before are no longer accepted.
    MarksLost,
    /// The load ends.
    Done,
}

/// A history under way; clones write the same one.
#[derive(Debug, Clone)]
pub(crate) struct History {
    began: Instant,
    inner: Arc<Mutex<Written>>,
}

/// A whole history.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Written {
    pub(crate) records: Vec<Record>,
    pub(crate) facts: Vec<(Duration, Fact)>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            inner: Arc::default(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn record(&self, action: Action, begin: Duration, outcome: Outcome) {
        let record = Record {
            action,
            begin,
            end: self.now(),
            outcome,
        };
        self.lock().records.push(record);
    }

    pub(crate) fn note(&self, fact: Fact) {
        let now = self.now();
        self.lock().facts.push((now, fact));
    }

    pub(crate) fn written(&self) -> Written {
        self.lock().clone()
    }

    /// When a request last ended in trouble.
    pub(crate) fn last_trouble(&self) -> Option<Duration> {
        let written = self.lock();
        let troubled = written.records.iter().filter(|r| r.outcome.is_trouble());
        troubled.map(|record| record.end).max()
    }

    /// Calls that succeeded since then.
    pub(crate) fn successes_since(&self, since: Duration) -> usize {
        let written = self.lock();
        let calls = written.records.iter().filter(|record| {
            record.begin > since
                && record.outcome.is_success()
                && matches!(record.action, Action::Call { .. })
        });
        calls.count()
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    /// Whether calls passed, and none that was sent once was refused before its chain was revoked.
    pub(crate) fn is_untroubled(&self) -> bool {
        let mut revoked = BTreeSet::new();
        for record in &self.records {
            if let Action::Revoke { chain } = &record.action {
                revoked.insert((*chain, record.begin));
            }
        }
        let ended = |chain: u64, at: Duration| revoked.iter().any(|(c, b)| *c == chain && *b < at);
        let mut passed = false;
        for record in &self.records {
            if record.outcome.is_trouble() {
                return false;
            }
            if let Action::Call { chain, again, .. } = &record.action {
                let refused = record.outcome.is_refusal();
                if refused && !again && !ended(*chain, record.end) {
                    return false;
                }
                passed |= record.outcome.is_success();
            }
        }
        passed
    }

    pub(crate) fn when(&self, fact: &Fact) -> Option<Duration> {
        self.facts
            .iter()
            .find(|(_, f)| f == fact)
            .map(|(at, _)| *at)
    }
}
