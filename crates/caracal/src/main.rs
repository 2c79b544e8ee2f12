//! The `caracal` command.
fn main() {}
