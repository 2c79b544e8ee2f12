//! The enforcing reverse proxy.
