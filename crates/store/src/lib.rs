//! Entities, repositories, migrations, the change log and the freshness barrier.
pub mod entity;
