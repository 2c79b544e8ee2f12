//! How large a document's values can get, before anything is computed.
//!
//! A document may compute over its own data. The interpreter's timer is looked at between steps
//! only, and a single step (comparing two values that share their parts, joining texts, adding one
//! array to another) can take for ever or exhaust memory when values double a few dozen times. So
//! the tree is walked with upper bounds in place of values: every value that could exceed
//! [`MAX_GROWN`] is refused here, and each step that remains is short.
//!
//! Bounds are kept by shape (how many elements, how large the largest) and never underestimate:
//! a variable's bound is raised until a round changes nothing, whatever order the interpreter picks,
//! and a variable that is bound in a way not modelled here is refused.

mod bound;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Ref, RuleBody};

use super::DocumentError;
use super::builtins::{self, Builtin, Growth};
use super::syntax::{Form, Head, query, words};
use crate::tables::DocumentName;
use bound::{Bound, SCALAR_TEXT, result_of};

/// The largest value, in nodes plus bytes of text, that may appear on the way to a result.
const MAX_GROWN: u64 = 4_000_000;
/// The most statements in one rule body or comprehension.
const MAX_STATEMENTS: usize = 32;
/// The most rounds until the bounds of a query's variables must be settled.
const MAX_ROUNDS: usize = MAX_STATEMENTS + 8;
/// The most expressions that may be looked at, rounds included.
const MAX_VISITS: u32 = 2_000_000;
/// The most digits of a computed number.
const MAX_DIGITS: u64 = 400;

type Bounded<T> = Result<T, DocumentError>;

enum Progress {
    Running,
    Done(Bound),
}

/// The variables of one query.
#[derive(Default)]
struct Scope<'m> {
    /// None while a variable is declared and not bound yet.
    bounds: HashMap<&'m str, Option<Bound>>,
    /// The variables that the query itself bound in this round.
    met: HashSet<&'m str>,
    /// A bound was raised in this round.
    raised: bool,
    /// A variable that had no bound when it was used in this round.
    unknown: Option<(&'m str, u32)>,
    /// The most results of the query.
    results: u64,
}

struct Walk<'m> {
    heads: &'m [Head<'m>],
    documents: HashMap<DocumentName, Progress>,
    scopes: Vec<Scope<'m>>,
    document: DocumentName,
    visits: u32,
}

/// No value of the document can outgrow the limit.
pub(super) fn check(heads: &[Head<'_>]) -> Bounded<()> {
    let mut walk = Walk {
        heads,
        documents: HashMap::new(),
        scopes: Vec::new(),
        document: DocumentName::Grants,
        visits: 0,
    };
    for head in heads {
        walk.document(head.document)?;
    }
    Ok(())
}

impl<'m> Walk<'m> {
    fn document(&mut self, name: DocumentName) -> Bounded<Bound> {
        match self.documents.get(&name) {
            Some(Progress::Done(bound)) => return Ok(bound.clone()),
            Some(Progress::Running) => return Err(self.refuse(name, "refers to itself", None)),
            None => {}
        }
        self.documents.insert(name, Progress::Running);
        let caller = std::mem::replace(&mut self.document, name);
        let scopes = std::mem::take(&mut self.scopes);
        let mut bound = Bound::default();
        let heads = self.heads;
        for head in heads.iter().filter(|head| head.document == name) {
            bound = match &head.form {
                Form::Complete { .. } | Form::Default { .. } => bound.or(self.head(&head.form)?),
                Form::Element { .. } | Form::Entry { .. } => bound.and(self.head(&head.form)?),
            };
            within(&bound)?;
        }
        self.scopes = scopes;
        self.document = caller;
        self.documents.insert(name, Progress::Done(bound.clone()));
        Ok(bound)
    }

    fn head(&mut self, form: &'m Form<'m>) -> Bounded<Bound> {
        match form {
            Form::Default { value } => self.settle(|walk| walk.expression(value)).map(first),
            Form::Complete { values, bodies } => self
                .settle(|walk| {
                    walk.bodies(bodies)?;
                    walk.any_of(values)
                })
                .map(first),
            Form::Element { element, bodies } => {
                let (element, results) = self.settle(|walk| {
                    walk.bodies(bodies)?;
                    walk.expression(element)
                })?;
                Ok(Bound::repeated(results, element))
            }
            Form::Entry {
                target,
                values,
                bodies,
            } => {
                let ((keys, value), results) = self.settle(|walk| {
                    walk.bodies(bodies)?;
                    Ok((walk.keys(target)?, walk.any_of(values)?))
                })?;
                let entries = results.saturating_mul(2);
                Ok(keys
                    .into_iter()
                    .fold(value, |value, key| Bound::repeated(entries, key.or(value))))
            }
        }
    }

    fn any_of(&mut self, values: &[&'m Ref<Expr>]) -> Bounded<Bound> {
        let mut bound = Bound::scalar(SCALAR_TEXT);
        for value in values {
            bound = bound.or(self.expression(value)?);
        }
        Ok(bound)
    }

    /// The keys of a rule head's target, innermost first.
    fn keys(&mut self, target: &'m Ref<Expr>) -> Bounded<Vec<Bound>> {
        let mut keys = Vec::new();
        let mut at = target;
        loop {
            at = match at.as_ref() {
                Expr::RefDot { refr, field, .. } => {
                    keys.push(Bound::scalar(length(field.0.text())));
                    refr
                }
                Expr::RefBrack { refr, index, .. } => {
                    keys.push(self.expression(index)?);
                    refr
                }
                _ => return Ok(keys),
            };
        }
    }

    /// Bodies share one scope; what one of them met, the others did not.
    fn bodies(&mut self, bodies: &'m [RuleBody]) -> Bounded<()> {
        for body in bodies {
            self.scope()?.met.clear();
            self.statements(body.query.as_ref())?;
        }
        if bodies.len() > 1 {
            self.scope()?.met.clear();
        }
        Ok(())
    }

    /// Runs `round` in a scope of its own until it raises no bound any more; gives its last answer
    /// and the most results of the query.
    fn settle<T>(&mut self, mut round: impl FnMut(&mut Self) -> Bounded<T>) -> Bounded<(T, u64)> {
        self.scopes.push(Scope::default());
        for _ in 0..MAX_ROUNDS {
            self.scope()?.start_round();
            let answer = round(self)?;
            if !self.scope()?.raised {
                let done = self.scopes.pop().unwrap_or_default();
                self.pass_on(done.unknown)?;
                return Ok((answer, done.results));
            }
        }
        Err(DocumentError::limit("variables that grow with one another"))
    }

    /// A variable without a bound may belong to the query around; at the outermost it has no value.
    fn pass_on(&mut self, unknown: Option<(&'m str, u32)>) -> Bounded<()> {
        match (unknown, self.scopes.last_mut()) {
            (None, _) => Ok(()),
            (Some(unknown), Some(around)) => {
                around.unknown.get_or_insert(unknown);
                Ok(())
            }
            (Some((name, line)), None) => {
                Err(self.refuse(self.document, &format!("`{name}` has no value"), Some(line)))
            }
        }
    }

    fn scope(&mut self) -> Bounded<&mut Scope<'m>> {
        self.scopes
            .last_mut()
            .ok_or_else(|| DocumentError::limit("scopes"))
    }

    fn statements(&mut self, query: &'m Query) -> Bounded<()> {
        if query.stmts.len() > MAX_STATEMENTS {
            return Err(DocumentError::limit(format!(
                "at most {MAX_STATEMENTS} statements in a body"
            )));
        }
        for statement in &query.stmts {
            self.declare_in(statement)?;
        }
        query
            .stmts
            .iter()
            .try_for_each(|statement| self.statement(statement))
    }

    fn declare_in(&mut self, statement: &'m LiteralStmt) -> Bounded<()> {
        match &statement.literal {
            Literal::SomeVars { vars, .. } => vars
                .iter()
                .try_for_each(|name| self.declare_name(name.text())),
            Literal::SomeIn { key, value, .. } => key
                .iter()
                .chain([value])
                .try_for_each(|pattern| self.declare(pattern)),
            Literal::Expr { expr, .. } => match expr.as_ref() {
                Expr::AssignExpr {
                    lhs,
                    op: AssignOp::ColEq,
                    ..
                } => self.declare(lhs),
                _ => Ok(()),
            },
            Literal::NotExpr { .. } | Literal::Every { .. } => Ok(()),
        }
    }

    fn statement(&mut self, statement: &'m LiteralStmt) -> Bounded<()> {
        match &statement.literal {
            Literal::SomeVars { .. } => Ok(()),
            Literal::SomeIn {
                key,
                value,
                collection,
                ..
            } => {
                let collection = self.expression(collection)?;
                self.multiply(collection.len)?;
                if let Some(key) = key {
                    self.bind_pattern(key, &collection.key())?;
                }
                self.bind_pattern(value, &collection.element())
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => {
                self.expression(expr).map(drop)
            }
            Literal::Every {
                key,
                value,
                domain,
                query,
                ..
            } => {
                let domain = self.expression(domain)?;
                self.settle(|walk| {
                    for name in key.iter().chain([value]) {
                        walk.declare_name(name.text())?;
                        walk.bind(name.text(), &domain.key())?;
                    }
                    walk.statements(query.as_ref())
                })
                .map(drop)
            }
        }
    }

    fn multiply(&mut self, by: u64) -> Bounded<()> {
        let scope = self.scope()?;
        scope.results = scope.results.saturating_mul(by.max(1));
        Ok(())
    }

    fn expression(&mut self, expression: &'m Ref<Expr>) -> Bounded<Bound> {
        self.visits += 1;
        if self.visits > MAX_VISITS {
            return Err(DocumentError::limit("too many computed values"));
        }
        let bound = self.bound(expression.as_ref())?;
        within(&bound)?;
        Ok(bound)
    }

    fn bound(&mut self, expression: &'m Expr) -> Bounded<Bound> {
        Ok(match expression {
            Expr::String { span, .. } | Expr::RawString { span, .. } => {
                Bound::scalar(length(span.text()))
            }
            Expr::Number { span, .. } => Bound::number(span.text()),
            Expr::Bool { .. } | Expr::Null { .. } => Bound::scalar(SCALAR_TEXT),
            Expr::Var { span, .. } => return self.variable(span.text(), span.line),
            Expr::Array { items, .. } | Expr::Set { items, .. } => self.elements(items.iter())?,
            Expr::Object { fields, .. } => {
                self.elements(fields.iter().flat_map(|(_, key, value)| [key, value]))?
            }
            Expr::ArrayCompr { term, .. } | Expr::SetCompr { term, .. } => {
                let (term, results) = self.comprehension(expression, [term, term])?;
                Bound::repeated(results, term)
            }
            Expr::ObjectCompr { key, value, .. } => {
                let (item, results) = self.comprehension(expression, [key, value])?;
                Bound::repeated(results.saturating_mul(2), item)
            }
            Expr::Call { fcn, params, .. } => return self.call(fcn, params),
            Expr::UnaryExpr { expr, .. } => {
                Bound::scalar(self.expression(expr)?.text.saturating_add(1))
            }
            Expr::RefDot { refr, .. } => match own_document(expression) {
                Some(document) => return self.document(document),
                None => self.expression(refr)?.element(),
            },
            Expr::RefBrack { refr, index, .. } => match own_document(expression) {
                Some(document) => return self.document(document),
                None => return self.indexed(refr, index),
            },
            Expr::BinExpr { lhs, rhs, .. } => self.expression(lhs)?.and(self.expression(rhs)?),
            Expr::BoolExpr { lhs, rhs, .. } => {
                self.expression(lhs)?;
                self.expression(rhs)?;
                Bound::scalar(SCALAR_TEXT)
            }
            Expr::ArithExpr { lhs, rhs, .. } => return self.arithmetic(lhs, rhs),
            Expr::AssignExpr { lhs, rhs, op, .. } => {
                let value = self.expression(rhs)?;
                self.bind_pattern(lhs, &value)?;
                if matches!(op, AssignOp::Eq) {
                    let value = self.expression(lhs)?;
                    self.bind_pattern(rhs, &value)?;
                }
                Bound::scalar(SCALAR_TEXT)
            }
            Expr::Membership {
                key,
                value,
                collection,
                ..
            } => {
                for part in key.iter().chain([value, collection]) {
                    self.expression(part)?;
                }
                Bound::scalar(SCALAR_TEXT)
            }
        })
    }

    fn elements(&mut self, items: impl Iterator<Item = &'m Ref<Expr>>) -> Bounded<Bound> {
        let items: Vec<Bound> = items
            .map(|item| self.expression(item))
            .collect::<Bounded<_>>()?;
        Ok(Bound::of_elements(items))
    }

    fn comprehension(
        &mut self,
        expression: &'m Expr,
        terms: [&'m Ref<Expr>; 2],
    ) -> Bounded<(Bound, u64)> {
        self.settle(|walk| {
            if let Some(query) = query(expression) {
                walk.statements(query)?;
            }
            let [one, other] = terms;
            Ok(walk.expression(one)?.or(walk.expression(other)?))
        })
    }

    fn indexed(&mut self, refr: &'m Ref<Expr>, index: &'m Ref<Expr>) -> Bounded<Bound> {
        let base = self.expression(refr)?;
        let element = base.element();
        if self.iterates(index) {
            self.multiply(base.len)?;
        }
        self.bind_pattern(index, &base.key())?;
        Ok(element)
    }

    /// Whether an index runs through all keys. A variable that was met before has one value for
    /// each result counted so far; whichever use the interpreter takes first, the number of
    /// results is the same.
    fn iterates(&self, index: &Ref<Expr>) -> bool {
        match index.as_ref() {
            Expr::Var { span, .. } => {
                let name = span.text();
                let holder = self
                    .scopes
                    .iter()
                    .rev()
                    .find(|scope| scope.bounds.contains_key(name));
                !holder.is_some_and(|scope| scope.met.contains(name))
            }
            Expr::Array { .. } | Expr::Set { .. } | Expr::Object { .. } => true,
            _ => false,
        }
    }

    fn arithmetic(&mut self, lhs: &'m Ref<Expr>, rhs: &'m Ref<Expr>) -> Bounded<Bound> {
        let (lhs, rhs) = (self.expression(lhs)?, self.expression(rhs)?);
        let digits = lhs.text.saturating_add(rhs.text).saturating_add(2);
        if digits > MAX_DIGITS {
            return Err(DocumentError::limit(format!(
                "numbers have at most {MAX_DIGITS} digits"
            )));
        }
        Ok(lhs.or(Bound::scalar(digits)))
    }

    fn variable(&mut self, name: &'m str, line: u32) -> Bounded<Bound> {
        let mut holders = self
            .scopes
            .iter()
            .rev()
            .filter_map(|scope| scope.bounds.get(name));
        let innermost = holders.next().cloned();
        // While the innermost is not bound yet, the same name further out may be meant.
        let unbound = matches!(innermost, Some(None));
        let local = innermost
            .flatten()
            .or_else(|| holders.find_map(Option::clone));
        if unbound {
            self.scope()?.unknown.get_or_insert((name, line));
        }
        // A variable may be named like a document; which of the two is meant depends on scoping
        // rules that are the interpreter's, so the bound covers both.
        match (local, DocumentName::parse(name)) {
            (Some(local), Some(document)) => Ok(local.or(self.document(document)?)),
            (Some(local), None) => Ok(local),
            (None, Some(document)) => self.document(document),
            (None, None) => {
                if name != "_" {
                    self.scope()?.unknown.get_or_insert((name, line));
                }
                Ok(Bound::default())
            }
        }
    }

    fn bind_pattern(&mut self, pattern: &'m Ref<Expr>, value: &Bound) -> Bounded<()> {
        match pattern.as_ref() {
            Expr::Var { span, .. } => self.bind(span.text(), value),
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                let element = value.element();
                items
                    .iter()
                    .try_for_each(|item| self.bind_pattern(item, &element))
            }
            Expr::Object { fields, .. } => {
                let element = value.element();
                fields.iter().try_for_each(|(_, key, item)| {
                    self.bind_pattern(key, &element)?;
                    self.bind_pattern(item, &element)
                })
            }
            _ => self.expression(pattern).map(drop),
        }
    }

    fn bind(&mut self, name: &'m str, value: &Bound) -> Bounded<()> {
        if name == "_" {
            return Ok(());
        }
        let holder = self
            .scopes
            .iter()
            .rposition(|scope| scope.bounds.contains_key(name))
            .unwrap_or(self.scopes.len().saturating_sub(1));
        let Some(scope) = self.scopes.get_mut(holder) else {
            return Err(DocumentError::limit("scopes"));
        };
        let known = scope.bounds.get(name).cloned().flatten();
        let raised = known.clone().unwrap_or_default().or(value.clone());
        within(&raised)?;
        if known.as_ref() != Some(&raised) {
            scope.raised = true;
            scope.bounds.insert(name, Some(raised));
        }
        if holder + 1 == self.scopes.len() {
            self.scope()?.met.insert(name);
        }
        Ok(())
    }

    /// Declares the variables of a pattern in the innermost scope, where they hide others of their
    /// names.
    fn declare(&mut self, pattern: &'m Ref<Expr>) -> Bounded<()> {
        match pattern.as_ref() {
            Expr::Var { span, .. } => self.declare_name(span.text()),
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                items.iter().try_for_each(|item| self.declare(item))
            }
            Expr::Object { fields, .. } => fields
                .iter()
                .try_for_each(|(_, _, item)| self.declare(item)),
            _ => Ok(()),
        }
    }

    fn declare_name(&mut self, name: &'m str) -> Bounded<()> {
        self.scope()?.bounds.entry(name).or_default();
        Ok(())
    }

    fn call(&mut self, function: &'m Ref<Expr>, params: &'m [Ref<Expr>]) -> Bounded<Bound> {
        let name = words(function.as_ref()).join(".");
        let Builtin::Pure { arity, growth } = builtins::lookup(&name) else {
            return Err(DocumentError::NotClosed {
                name,
                line: function.span().line,
            });
        };
        if params.len() != arity {
            let reason = format!("{name} takes {arity} arguments");
            return Err(self.refuse(self.document, &reason, Some(function.span().line)));
        }
        let given = params
            .iter()
            .map(|p| self.expression(p))
            .collect::<Bounded<Vec<_>>>()?;
        if growth == Growth::Format && !has_plain_verbs(params.first()) {
            let reason = "sprintf takes a literal format with %s, %d, %v and %% only";
            return Err(self.refuse(self.document, reason, Some(function.span().line)));
        }
        if name == "object.get" && given.get(1).is_some_and(|key| key.len > 0) {
            let reason = "object.get takes one key";
            return Err(self.refuse(self.document, reason, Some(function.span().line)));
        }
        let mut given = given.into_iter();
        let mut next = || given.next().unwrap_or_default();
        Ok(result_of(growth, [next(), next(), next()]))
    }

    fn refuse(&self, document: DocumentName, reason: &str, line: Option<u32>) -> DocumentError {
        DocumentError::InvalidShape {
            path: document.to_string(),
            reason: reason.to_owned(),
            line: line.or_else(|| {
                self.heads
                    .iter()
                    .find(|head| head.document == document)
                    .map(|head| head.line)
            }),
        }
    }
}

impl Scope<'_> {
    fn start_round(&mut self) {
        self.raised = false;
        self.met.clear();
        self.unknown = None;
        self.results = 1;
    }
}

fn first(settled: (Bound, u64)) -> Bound {
    settled.0
}

fn within(bound: &Bound) -> Bounded<()> {
    if bound.total > MAX_GROWN {
        return Err(DocumentError::limit(
            "a value could outgrow the document by far",
        ));
    }
    Ok(())
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

/// The document that a full path `data.caracal.authz.NAME` names.
fn own_document(reference: &Expr) -> Option<DocumentName> {
    match words(reference).as_slice() {
        ["data", _, _, name] => DocumentName::parse(name),
        _ => None,
    }
}

/// Widths would let a short format print a text of any length.
fn has_plain_verbs(format: Option<&Ref<Expr>>) -> bool {
    let Some(Expr::String { span, .. } | Expr::RawString { span, .. }) = format.map(AsRef::as_ref)
    else {
        return false;
    };
    let mut characters = span.text().chars();
    while let Some(character) = characters.next() {
        if character == '%' && !matches!(characters.next(), Some('s' | 'd' | 'v' | '%')) {
            return false;
        }
    }
    true
}
