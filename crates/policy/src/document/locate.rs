//! The line on which a value is written, where it is written out.

use regorus::unstable::{Expr, Module, Ref, Rule, RuleHead};

use super::path::{Path, Step};

/// The line of the value at `path`, or of the closest value around it that is written out; `None`
/// when several rules define the document and none of them can be told to be the one.
pub(super) fn line(module: &Module, path: &Path) -> Option<u32> {
    let mut rules = module.policy.iter().filter(|rule| defines(rule, path));
    let rule = rules.next()?;
    if rules.next().is_some() {
        return None;
    }
    let mut at = value(rule)?;
    for step in path.steps() {
        match below(at, step) {
            Some(next) => at = next,
            None => break,
        }
    }
    Some(at.span().line)
}

fn defines(rule: &Rule, path: &Path) -> bool {
    let target = match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. }
            | RuleHead::Set { refr, .. }
            | RuleHead::Func { refr, .. } => refr,
        },
    };
    target.span().text() == path.document().as_str()
}

fn value(rule: &Rule) -> Option<&Ref<Expr>> {
    match rule {
        Rule::Default { value, .. } => Some(value),
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { assign, .. } => assign.as_ref().map(|assign| &assign.value),
            RuleHead::Set { key, .. } => key.as_ref(),
            RuleHead::Func { .. } => None,
        },
    }
}

fn below<'e>(value: &'e Ref<Expr>, step: &Step) -> Option<&'e Ref<Expr>> {
    match (value.as_ref(), step) {
        (Expr::Array { items, .. }, Step::Index(index)) => items.get(*index),
        (Expr::Object { fields, .. }, Step::Key(wanted)) => fields
            .iter()
            .find(|(_, key, _)| match key.as_ref() {
                Expr::String { value, .. } => {
                    value.as_string().is_ok_and(|key| key.as_ref() == wanted)
                }
                _ => false,
            })
            .map(|(_, _, value)| value),
        _ => None,
    }
}
