//! The security token service: decides and mints.
