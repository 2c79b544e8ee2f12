//! Where a value stands in a document: `grants["resource://ledger"].roles.closer[1]`.

use std::fmt;

use crate::tables::DocumentName;

/// One step down from a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// An object's key.
    Key(String),
    /// An array's index, or an element's place in a set.
    Index(usize),
}

/// A document and the steps into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    document: DocumentName,
    steps: Vec<Step>,
}

impl Path {
    pub(crate) fn new(document: DocumentName) -> Self {
        Self {
            document,
            steps: Vec::new(),
        }
    }

    pub(crate) fn document(&self) -> DocumentName {
        self.document
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(crate) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    pub(crate) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step);
        Self {
            document: self.document,
            steps,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.document.as_str())?;
        for step in &self.steps {
            match step {
                Step::Key(key) if is_word(key) => write!(f, ".{key}")?,
                Step::Key(key) => write!(f, "[{key:?}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

fn is_word(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
