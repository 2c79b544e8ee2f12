//! What a document refers to: calls, references, and the literals that the preview shows.

use std::collections::{BTreeSet, HashSet};

use regorus::unstable::{Expr, Literal, Module, Query, Ref, Rule, RuleBody, RuleHead};

use super::builtins::{self, Builtin};
use super::syntax::{children, query, words};
use super::{DocumentError, PACKAGE};
use crate::tables::DocumentName;

/// Everything that the tree mentions, in the order of the text.
#[derive(Debug, Default)]
pub(super) struct Facts {
    calls: Vec<Mention>,
    outside: Vec<Mention>,
    /// Own documents named by their full path.
    pub(super) data: BTreeSet<String>,
    /// What literal `"decision": "…"` pairs say.
    pub(super) decisions: BTreeSet<String>,
    /// Keys written twice in one literal object.
    doubled: Vec<Mention>,
}

#[derive(Debug)]
struct Mention {
    name: String,
    line: u32,
}

/// Walks the tree.
pub(super) fn collect(module: &Module) -> Facts {
    let mut facts = Facts::default();
    for import in &module.imports {
        let path = words(import.refr.as_ref());
        let keywords = matches!(path.as_slice(), ["rego", "v1"] | ["future", "keywords", ..]);
        if !keywords {
            facts.outside.push(Mention {
                name: path.join("."),
                line: import.span.line,
            });
        }
    }
    for rule in &module.policy {
        facts.rule(rule);
    }
    facts
}

impl Facts {
    /// No forbidden built-in is called.
    pub(super) fn check_forbidden(&self) -> Result<(), DocumentError> {
        let forbidden = |call: &&Mention| builtins::lookup(&call.name) == Builtin::Forbidden;
        self.calls.iter().find(forbidden).map_or(Ok(()), |call| {
            Err(DocumentError::ForbiddenBuiltin {
                name: call.name.clone(),
                line: call.line,
            })
        })
    }

    /// Nothing outside the document is read, and only functions with a bounded result are called.
    pub(super) fn check_closed(&self) -> Result<(), DocumentError> {
        let foreign = |call: &&Mention| builtins::lookup(&call.name) == Builtin::Foreign;
        let outside = self.outside.iter().chain(self.calls.iter().filter(foreign));
        if let Some(read) = outside.min_by_key(|read| read.line) {
            return Err(DocumentError::NotClosed {
                name: read.name.clone(),
                line: read.line,
            });
        }
        let unbounded = |call: &&Mention| builtins::lookup(&call.name) == Builtin::Unbounded;
        self.calls.iter().find(unbounded).map_or(Ok(()), |call| {
            Err(DocumentError::limit(format!(
                "{} can return a value of any size",
                call.name
            )))
        })
    }

    /// No literal object has a key twice: the interpreter would keep the last one only.
    pub(super) fn check_keys(&self) -> Result<(), DocumentError> {
        self.doubled.first().map_or(Ok(()), |key| {
            Err(DocumentError::InvalidShape {
                path: key.name.clone(),
                reason: "is written twice in one object".to_owned(),
                line: Some(key.line),
            })
        })
    }

    fn rule(&mut self, rule: &Rule) {
        match rule {
            Rule::Default { value, .. } => self.expression(value),
            Rule::Spec { head, bodies, .. } => {
                match head {
                    RuleHead::Compr { refr, assign, .. } => {
                        self.target(refr);
                        if let Some(assign) = assign {
                            self.expression(&assign.value);
                        }
                    }
                    RuleHead::Set { refr, key, .. } => {
                        self.target(refr);
                        if let Some(key) = key {
                            self.expression(key);
                        }
                    }
                    RuleHead::Func { args, assign, .. } => {
                        for argument in args {
                            self.expression(argument);
                        }
                        if let Some(assign) = assign {
                            self.expression(&assign.value);
                        }
                    }
                }
                for body in bodies {
                    self.body(body);
                }
            }
        }
    }

    /// A rule's head names the document; its indexes are expressions.
    fn target(&mut self, target: &Ref<Expr>) {
        match target.as_ref() {
            Expr::RefDot { refr, .. } => self.target(refr),
            Expr::RefBrack { refr, index, .. } => {
                self.target(refr);
                self.expression(index);
            }
            _ => {}
        }
    }

    fn body(&mut self, body: &RuleBody) {
        if let Some(assign) = &body.assign {
            self.expression(&assign.value);
        }
        self.query(body.query.as_ref());
    }

    fn query(&mut self, query: &Query) {
        for statement in &query.stmts {
            match &statement.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn {
                    key,
                    value,
                    collection,
                    ..
                } => {
                    for expression in key.iter().chain([value, collection]) {
                        self.expression(expression);
                    }
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => {
                    self.expression(expr);
                }
                Literal::Every { domain, query, .. } => {
                    self.expression(domain);
                    self.query(query.as_ref());
                }
            }
            for with in &statement.with_mods {
                self.outside.push(Mention {
                    name: "with".to_owned(),
                    line: with.span.line,
                });
            }
        }
    }

    fn expression(&mut self, expression: &Ref<Expr>) {
        match expression.as_ref() {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                self.reference(expression);
                return;
            }
            Expr::Call { fcn, span, .. } => {
                self.calls.push(Mention {
                    name: words(fcn.as_ref()).join("."),
                    line: span.line,
                });
            }
            Expr::Object { fields, .. } => {
                let mut seen = HashSet::new();
                for (_, key, value) in fields {
                    self.field(key, value, &mut seen);
                }
            }
            _ => {}
        }
        for child in children(expression.as_ref()) {
            self.expression(child);
        }
        if let Some(query) = query(expression.as_ref()) {
            self.query(query);
        }
    }

    fn field<'e>(&mut self, key: &'e Ref<Expr>, value: &Ref<Expr>, seen: &mut HashSet<&'e str>) {
        let Expr::String {
            span, value: name, ..
        } = key.as_ref()
        else {
            return;
        };
        let Ok(name) = name.as_string() else {
            return;
        };
        if !seen.insert(name.as_ref()) {
            self.doubled.push(Mention {
                name: name.as_ref().to_owned(),
                line: span.line,
            });
        }
        if let (Expr::String { span, .. }, "decision") = (value.as_ref(), name.as_ref())
            && matches!(span.text(), "allow" | "deny")
        {
            self.decisions.insert(span.text().to_owned());
        }
    }

    fn reference(&mut self, reference: &Ref<Expr>) {
        let path = words(reference.as_ref());
        let line = reference.span().line;
        match path.as_slice() {
            ["input", ..] => self.outside.push(Mention {
                name: "input".to_owned(),
                line,
            }),
            ["data", caracal, authz, document, ..]
                if [*caracal, *authz] == PACKAGE && DocumentName::parse(document).is_some() =>
            {
                self.data.insert(path.join("."));
            }
            ["data", ..] => self.outside.push(Mention {
                name: path.join("."),
                line,
            }),
            _ => {}
        }
        let mut at = reference;
        loop {
            match at.as_ref() {
                Expr::RefDot { refr, .. } => at = refr,
                Expr::RefBrack { refr, index, .. } => {
                    self.expression(index);
                    at = refr;
                }
                Expr::Var { .. } => return,
                _ => break,
            }
        }
        self.expression(at);
    }
}
