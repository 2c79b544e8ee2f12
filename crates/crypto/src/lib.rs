//! Zone keys, mandates, request signatures, sealed values.
