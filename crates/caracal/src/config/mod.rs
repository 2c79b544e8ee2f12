//! Configuration.
//!
//! Every variable that operators may set is one row of [`variables::VARIABLES`]: its name, the roles
//! that read it, what a value must look like, its default. Loading checks all rows of the chosen
//! roles at once and reports every defect with the variable's name; nothing falls back from a value
//! that is wrong. `NAME_FILE` gives the value of a file variable; `NAME` wins when both are set.

mod load;
mod print;
mod variables;

pub(crate) use load::{ConfigError, Environment, Settings};
pub(crate) use print::{print, print_schema};
pub(crate) use variables::Role;
