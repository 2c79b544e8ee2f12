//! One policy version's text into typed tables.
//!
//! The steps, each in a file named after it; the first failure is the answer:
//!
//! [`source`] bounds the text before any parser sees it, [`syntax`] parses it and judges package,
//! marker and rule names, [`facts`] and [`growth`] show that the document is closed and cannot grow,
//! [`evaluate`] computes its values once, [`shape`] turns them into tables and refuses every other
//! form. [`sandbox`] is the thread all of this runs on.

mod builtins;
mod error;
mod evaluate;
mod facts;
mod growth;
mod lines;
mod locate;
mod path;
mod preview;
mod sandbox;
mod shape;
mod source;
mod syntax;

use std::collections::BTreeMap;

use regorus::Value;

pub use error::DocumentError;
pub(crate) use path::Path;
pub use preview::Preview;

use crate::tables::{DocumentName, Tables};
use lines::Lines;

/// The package of every policy document.
const PACKAGE: [&str; 2] = ["caracal", "authz"];

/// One policy version, read and checked.
#[derive(Debug, Clone)]
pub struct PolicyDocument {
    tables: Tables,
    values: BTreeMap<DocumentName, Value>,
    preview: Preview,
}

impl PolicyDocument {
    /// Reads one version's Rego text.
    ///
    /// Bounds: 262144 UTF-16 units of source, 1 MiB of values, 16 levels of nesting, one second.
    /// The work happens on a thread of its own; call it where blocking is allowed.
    ///
    /// # Errors
    /// [`DocumentError`] for the first defect; nothing is half read.
    pub fn parse(source: &str) -> Result<Self, DocumentError> {
        let scan = source::scan(source)?;
        scan.check_package()?;
        scan.check_bounds()?;
        let lines = Lines::new(source, &scan)?;
        let read = sandbox::run(|| read(lines.text(), &scan));
        read.map_err(|error| scan.explain(error.map_line(|line| lines.original(line))))
    }

    /// What the document declares, for people who are about to save it.
    #[must_use]
    pub fn preview(&self) -> &Preview {
        &self.preview
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The values as evaluated: what decides whether two documents say the same.
    pub(crate) fn values(&self) -> &BTreeMap<DocumentName, Value> {
        &self.values
    }
}

fn read(source: &str, scan: &source::Scan<'_>) -> Result<PolicyDocument, DocumentError> {
    let module = syntax::parse(source)?;
    let facts = facts::collect(&module);
    facts.check_forbidden()?;
    syntax::check_package(&module)?;
    scan.check_marker()?;
    let heads = syntax::heads(&module)?;
    facts.check_closed()?;
    facts.check_keys()?;
    growth::check(&heads)?;
    let values = evaluate::values(source, &heads)?;
    let tables = shape::tables(&values).map_err(|defect| defect.into_error(&module))?;
    let preview = Preview::new(&heads, &facts);
    Ok(PolicyDocument {
        tables,
        values,
        preview,
    })
}
