//! Sessions, leases, delegations, idempotency.
