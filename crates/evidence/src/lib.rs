//! Audit events, local write-ahead log, hash chain, Merkle checkpoints, offline verification.
