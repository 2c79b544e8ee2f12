//! What a decision is asked about. Everything is borrowed: the caller holds it already.

use caracal_core::{ResourceIdentifier, Scope};

/// One request, as the contract sees it.
#[derive(Debug, Clone, Copy)]
pub struct DecisionRequest<'a> {
    /// Who asks.
    pub principal: Principal<'a>,
    /// The resource's identifier, compared byte for byte.
    pub resource: &'a str,
    /// What for.
    pub action: Action,
    /// The scopes asked for, in any order, duplicates harmless; none when a mandate is used.
    pub requested_scopes: &'a [Scope],
    /// Whether a governed Session acts.
    pub agent_session: bool,
    /// The delegation that was proved.
    pub delegation: Option<Delegation<'a>>,
    /// The claims of the mandate that was presented.
    pub subject: Option<SubjectClaims<'a>>,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Principal<'a> {
    /// Application or workload.
    pub kind: PrincipalKind,
    /// The application's or workload's id.
    pub id: &'a str,
    /// The Session's labels.
    pub labels: &'a [String],
}

/// The kind of a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A client of the STS.
    Application,
    /// A workload that is launched with a stored credential.
    Workload,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A token exchange.
    TokenExchange,
    /// A launch credential.
    CredentialInjection,
}

/// A delegation edge.
#[derive(Debug, Clone, Copy)]
pub struct Delegation<'a> {
    /// Its id; an edge without one mints nothing.
    pub id: Option<&'a str>,
    /// The scopes that it hands on.
    pub scopes: &'a [Scope],
}

/// The claims of a presented mandate that the contract reads.
#[derive(Debug, Clone, Copy)]
pub struct SubjectClaims<'a> {
    /// `delegation_edge_id`; empty when the mandate is not a delegated one.
    pub delegation_edge_id: &'a str,
    /// `target`: the resources that the mandate is good for.
    pub target: &'a [ResourceIdentifier],
    /// `scope` as it stands in the mandate.
    pub scope: &'a str,
}
