//! What differs between databases: opening them, their lock and their error texts. Everything else
//! is SQL that they agree on.

pub(crate) mod sqlite;
