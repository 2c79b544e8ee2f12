//! The syntax tree, and what its package and rule names must be.
//!
//! The tree's own types are used, not its JSON form: a kind of node that a later parser adds then
//! fails to compile here instead of passing unseen.

use std::num::{NonZeroU32, NonZeroUsize};

use regorus::PolicyLengthConfig;
use regorus::Source;
use regorus::unstable::{Expr, Module, Parser, Query, Ref, Rule, RuleBody, RuleHead, Span};

use super::{DocumentError, source};
use crate::tables::DocumentName;

/// The most rules in one document: the interpreter compares them pairwise.
const MAX_RULES: usize = 1_024;
/// How much of the parser's message is shown.
const MAX_MESSAGE: usize = 160;

/// The source's name in messages of parser and interpreter.
pub(super) const SOURCE_NAME: &str = "document";

/// The text is already bounded; a JSON document on one line is as good as any.
pub(super) const LENGTHS: PolicyLengthConfig = PolicyLengthConfig {
    max_col: NonZeroU32::MAX,
    max_file_bytes: NonZeroUsize::MAX,
    max_lines: NonZeroUsize::MAX,
};

/// A rule of one of the six documents.
pub(super) struct Head<'m> {
    pub(super) document: DocumentName,
    pub(super) line: u32,
    pub(super) form: Form<'m>,
}

/// How a rule defines its document.
pub(super) enum Form<'m> {
    /// `name := value`, with the bodies and `else` values that choose it.
    Complete {
        values: Vec<&'m Ref<Expr>>,
        bodies: &'m [RuleBody],
    },
    /// `default name := value`.
    Default { value: &'m Ref<Expr> },
    /// `name contains element`.
    Element {
        element: &'m Ref<Expr>,
        bodies: &'m [RuleBody],
    },
    /// `name[key] := value`, or deeper.
    Entry {
        target: &'m Ref<Expr>,
        values: Vec<&'m Ref<Expr>>,
        bodies: &'m [RuleBody],
    },
}

/// Parses the text with the Rego v1 grammar.
pub(super) fn parse(text: &str) -> Result<Module, DocumentError> {
    let read = || {
        let source = Source::from_contents_with_limits(
            SOURCE_NAME.to_owned(),
            text.to_owned(),
            LENGTHS.max_file_bytes,
            LENGTHS.max_lines,
        )?;
        let mut parser = Parser::new(&source)?;
        parser.set_max_col(LENGTHS.max_col);
        parser.enable_rego_v1()?;
        parser.parse()
    };
    // The error's type belongs to a crate that this one does not depend on, so its text is read.
    read().map_err(|error| syntax_error(&error.to_string()))
}

fn syntax_error(report: &str) -> DocumentError {
    let (line, message) = located(report);
    DocumentError::Syntax { line, message }
}

/// Splits a report of parser or interpreter into line and message.
pub(super) fn located(report: &str) -> (Option<u32>, String) {
    let line = report
        .split_once(&format!("--> {SOURCE_NAME}:"))
        .and_then(|(_, place)| place.split(':').next())
        .and_then(|line| line.parse().ok());
    let said = report
        .rsplit_once("error: ")
        .map_or(report, |(_, said)| said);
    let said = said.lines().next().unwrap_or(said).trim();
    (line, said.chars().take(MAX_MESSAGE).collect())
}

/// The package is `caracal.authz`.
pub(super) fn check_package(module: &Module) -> Result<(), DocumentError> {
    let mut name = Vec::new();
    let mut at = module.package.refr.as_ref();
    loop {
        match at {
            Expr::RefDot { refr, field, .. } => {
                name.push(field.0.text());
                at = refr.as_ref();
            }
            Expr::Var { span, .. } => {
                name.push(span.text());
                name.reverse();
                break;
            }
            _ => return Err(DocumentError::InvalidPackageName),
        }
    }
    if source::is_own_package(&name) {
        Ok(())
    } else {
        Err(DocumentError::WrongPackage)
    }
}

/// The rules, all of the six documents and each document in one form.
pub(super) fn heads(module: &Module) -> Result<Vec<Head<'_>>, DocumentError> {
    let named: Vec<(&str, u32, &Rule)> = module.policy.iter().map(|rule| named(rule)).collect();
    if named.iter().any(|(name, ..)| *name == "result") {
        return Err(DocumentError::DefinesResult);
    }
    if module.target.is_some() {
        return Err(DocumentError::RuleNotAllowed {
            name: "__target__".to_owned(),
            line: 1,
        });
    }
    if named.is_empty() {
        return Err(DocumentError::DefinesNothing);
    }
    if named.len() > MAX_RULES {
        return Err(DocumentError::limit(format!("at most {MAX_RULES} rules")));
    }
    let heads: Vec<Head<'_>> = named
        .into_iter()
        .map(|(name, line, rule)| {
            let document =
                DocumentName::parse(name).ok_or_else(|| DocumentError::RuleNotAllowed {
                    name: name.to_owned(),
                    line,
                })?;
            Ok(Head {
                document,
                line,
                form: form(document, rule)?,
            })
        })
        .collect::<Result<_, DocumentError>>()?;
    check_one_form(&heads)?;
    Ok(heads)
}

fn named(rule: &Rule) -> (&str, u32, &Rule) {
    let target = match rule {
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. }
            | RuleHead::Set { refr, .. }
            | RuleHead::Func { refr, .. } => refr,
        },
        Rule::Default { refr, .. } => refr,
    };
    let root = root(target).span();
    (root.text(), root.line, rule)
}

fn root(reference: &Ref<Expr>) -> &Expr {
    let mut at = reference.as_ref();
    while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = at {
        at = refr.as_ref();
    }
    at
}

fn form(document: DocumentName, rule: &Rule) -> Result<Form<'_>, DocumentError> {
    match rule {
        Rule::Default {
            refr,
            args,
            value,
            span,
            ..
        } => {
            if !args.is_empty() || !matches!(refr.as_ref(), Expr::Var { .. }) {
                return Err(refused(
                    document,
                    "a default is one value for the document",
                    span,
                ));
            }
            Ok(Form::Default { value })
        }
        Rule::Spec { head, bodies, .. } => match head {
            RuleHead::Func { span, .. } => Err(refused(
                document,
                "a document is data, not a function",
                span,
            )),
            RuleHead::Set {
                refr,
                key: Some(element),
                span,
            } => {
                if !matches!(refr.as_ref(), Expr::Var { .. }) || !says_contains(refr, element) {
                    return Err(refused(
                        document,
                        "elements are added with `contains`",
                        span,
                    ));
                }
                Ok(Form::Element { element, bodies })
            }
            RuleHead::Set {
                key: None, span, ..
            } => Err(refused(document, "a rule needs a value", span)),
            RuleHead::Compr { refr, assign, .. } => {
                let values = assign
                    .iter()
                    .chain(bodies.iter().filter_map(|body| body.assign.as_ref()))
                    .map(|assign| &assign.value)
                    .collect();
                match refr.as_ref() {
                    Expr::Var { .. } => Ok(Form::Complete { values, bodies }),
                    _ => Ok(Form::Entry {
                        target: refr,
                        values,
                        bodies,
                    }),
                }
            }
        },
    }
}

/// The old form `name[element]` reads as a set or as an object by what follows it; only the word
/// says which.
fn says_contains(name: &Ref<Expr>, element: &Ref<Expr>) -> bool {
    let (from, until) = (name.span().end, element.span().start);
    let text = name.span().source.get_contents();
    let between = usize::try_from(from)
        .ok()
        .zip(usize::try_from(until).ok())
        .and_then(|(from, until)| text.get(from..until));
    between.is_some_and(|between| between.trim_start().starts_with("contains"))
}

fn check_one_form(heads: &[Head<'_>]) -> Result<(), DocumentError> {
    for (at, head) in heads.iter().enumerate() {
        for earlier in heads
            .iter()
            .take(at)
            .filter(|earlier| earlier.document == head.document)
        {
            let fits = match (&earlier.form, &head.form) {
                (Form::Default { .. }, Form::Default { .. }) => false,
                (Form::Complete { .. } | Form::Default { .. }, Form::Complete { .. })
                | (Form::Complete { .. }, Form::Default { .. })
                | (Form::Element { .. }, Form::Element { .. })
                | (Form::Entry { .. }, Form::Entry { .. }) => true,
                _ => false,
            };
            if !fits {
                return Err(DocumentError::InvalidShape {
                    path: head.document.to_string(),
                    reason: format!(
                        "is already defined in another form on line {}",
                        earlier.line
                    ),
                    line: Some(head.line),
                });
            }
        }
    }
    Ok(())
}

fn refused(document: DocumentName, reason: &str, span: &Span) -> DocumentError {
    DocumentError::InvalidShape {
        path: document.to_string(),
        reason: reason.to_owned(),
        line: Some(span.line),
    }
}

/// The expressions directly under one, in the order of the text.
pub(super) fn children(expression: &Expr) -> Vec<&Ref<Expr>> {
    match expression {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. }
        | Expr::Var { .. } => Vec::new(),
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().collect(),
        Expr::Object { fields, .. } => fields
            .iter()
            .flat_map(|(_, key, value)| [key, value])
            .collect(),
        Expr::ArrayCompr { term, .. } | Expr::SetCompr { term, .. } => vec![term],
        Expr::ObjectCompr { key, value, .. } => vec![key, value],
        Expr::Call { params, .. } => params.iter().collect(),
        Expr::UnaryExpr { expr, .. } => vec![expr],
        Expr::RefDot { refr, .. } => vec![refr],
        Expr::RefBrack { refr, index, .. } => vec![refr, index],
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => vec![lhs, rhs],
        Expr::Membership {
            key,
            value,
            collection,
            ..
        } => key.iter().chain([value, collection]).collect(),
    }
}

/// The query of a comprehension.
pub(super) fn query(expression: &Expr) -> Option<&Query> {
    match expression {
        Expr::ArrayCompr { query, .. }
        | Expr::SetCompr { query, .. }
        | Expr::ObjectCompr { query, .. } => Some(query.as_ref()),
        _ => None,
    }
}

/// A reference's words from its root on, as far as they are written out: `data.a["b"][x]` gives
/// `data`, `a`, `b`.
pub(super) fn words(reference: &Expr) -> Vec<&str> {
    let mut words = Vec::new();
    let mut at = reference;
    loop {
        match at {
            Expr::RefDot { refr, field, .. } => {
                words.push(Some(field.0.text()));
                at = refr.as_ref();
            }
            Expr::RefBrack { refr, index, .. } => {
                words.push(match index.as_ref() {
                    Expr::String { span, .. } => Some(span.text()),
                    _ => None,
                });
                at = refr.as_ref();
            }
            Expr::Var { span, .. } => {
                words.push(Some(span.text()));
                break;
            }
            _ => {
                words.push(None);
                break;
            }
        }
    }
    words.into_iter().rev().map_while(|word| word).collect()
}
