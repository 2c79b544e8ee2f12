//! Ingests evidence, chains it, serves search.
