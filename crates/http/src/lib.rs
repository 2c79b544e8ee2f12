//! Shared server pieces: errors, request ids, auth extractors, limits, metrics, health.
