//! Why a document is refused.

use std::fmt;

/// The first defect of a policy document.
///
/// [`DocumentError::code`] is the text on the wire (`error_description` of `invalid_rego`);
/// [`fmt::Display`] adds what the code leaves out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// No text.
    Empty,
    /// Longer than 262144 UTF-16 units.
    TooLarge,
    /// A string is not closed.
    UnterminatedString {
        /// The line on which it opens.
        line: u32,
    },
    /// Brackets do not nest.
    UnbalancedDelimiters {
        /// The line of the bracket that has no partner.
        line: u32,
    },
    /// The text does not begin with a package declaration.
    MissingPackage,
    /// The package name is not a list of words joined by dots.
    InvalidPackageName,
    /// The text is not Rego.
    Syntax {
        /// Where.
        line: Option<u32>,
        /// What the parser expected.
        message: String,
    },
    /// A built-in that reaches outside is called.
    ForbiddenBuiltin {
        /// Its name.
        name: String,
        /// The line of the call.
        line: u32,
    },
    /// The package is another one.
    WrongPackage,
    /// The marker comment `# caracal:data-document` is missing.
    NotDataDocument,
    /// The document defines `result`, the platform's own rule.
    DefinesResult,
    /// The document defines nothing.
    DefinesNothing,
    /// A rule has none of the six names.
    RuleNotAllowed {
        /// The rule's name.
        name: String,
        /// Where it is defined.
        line: u32,
    },
    /// The document reads something outside itself.
    NotClosed {
        /// What it reads.
        name: String,
        /// Where.
        line: u32,
    },
    /// The document is too deep, too large or too slow.
    LimitExceeded {
        /// Which limit.
        limit: String,
    },
    /// A value has another shape than its document must have.
    InvalidShape {
        /// Document and path.
        path: String,
        /// What is wrong.
        reason: String,
        /// Where, when the value is written out in the text.
        line: Option<u32>,
    },
}

impl DocumentError {
    /// The code and its detail as they go on the wire.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Self::Empty => "empty_policy".to_owned(),
            Self::TooLarge => "content_too_large".to_owned(),
            Self::UnterminatedString { .. } => "unterminated_string".to_owned(),
            Self::UnbalancedDelimiters { .. } => "unbalanced_delimiters".to_owned(),
            Self::MissingPackage => "missing_package_declaration".to_owned(),
            Self::InvalidPackageName => "invalid_package_name".to_owned(),
            Self::Syntax {
                line: Some(line),
                message,
            } => {
                format!("invalid_syntax:line {line}: {message}")
            }
            Self::Syntax {
                line: None,
                message,
            } => format!("invalid_syntax:{message}"),
            Self::ForbiddenBuiltin { name, .. } => format!("forbidden_builtin:{name}"),
            Self::WrongPackage => "must_use_package_caracal_authz".to_owned(),
            Self::NotDataDocument => "must_be_data_document".to_owned(),
            Self::DefinesResult => "data_document_must_not_define_result".to_owned(),
            Self::DefinesNothing => "data_document_must_define_data".to_owned(),
            Self::RuleNotAllowed { name, .. } => format!("data_document_rule_not_allowed:{name}"),
            Self::NotClosed { name, .. } => format!("data_document_not_closed:{name}"),
            Self::LimitExceeded { .. } => "data_document_limit_exceeded".to_owned(),
            Self::InvalidShape {
                path,
                reason,
                line: Some(line),
            } => {
                format!("data_document_invalid_shape:{path}: {reason} (line {line})")
            }
            Self::InvalidShape {
                path,
                reason,
                line: None,
            } => {
                format!("data_document_invalid_shape:{path}: {reason}")
            }
        }
    }

    /// The line at fault, counted from 1, where one is known.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        match self {
            Self::UnterminatedString { line }
            | Self::UnbalancedDelimiters { line }
            | Self::ForbiddenBuiltin { line, .. }
            | Self::RuleNotAllowed { line, .. }
            | Self::NotClosed { line, .. } => Some(*line),
            Self::Syntax { line, .. } | Self::InvalidShape { line, .. } => *line,
            _ => None,
        }
    }

    /// The same error with its line counted by `count`.
    pub(super) fn map_line(mut self, count: impl Fn(u32) -> u32) -> Self {
        match &mut self {
            Self::UnterminatedString { line }
            | Self::UnbalancedDelimiters { line }
            | Self::ForbiddenBuiltin { line, .. }
            | Self::RuleNotAllowed { line, .. }
            | Self::NotClosed { line, .. } => *line = count(*line),
            Self::Syntax { line, .. } | Self::InvalidShape { line, .. } => {
                *line = line.map(count);
            }
            _ => {}
        }
        self
    }

    pub(super) fn limit(limit: impl Into<String>) -> Self {
        Self::LimitExceeded {
            limit: limit.into(),
        }
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code())?;
        match self {
            Self::LimitExceeded { limit } => write!(f, " ({limit})"),
            Self::Syntax { .. } | Self::InvalidShape { .. } => Ok(()),
            _ => self
                .line()
                .map_or(Ok(()), |line| write!(f, " (line {line})")),
        }
    }
}
