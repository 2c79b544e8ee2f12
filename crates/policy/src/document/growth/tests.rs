//! The bounds hold: whatever random documents compute, it is no larger than foretold.

use proptest::prelude::*;

use super::*;
use crate::document::{evaluate, syntax};

/// Expressions by the type of their value, as Rego text.
struct Typed {
    text: BoxedStrategy<String>,
    array: BoxedStrategy<String>,
    set: BoxedStrategy<String>,
    object: BoxedStrategy<String>,
}

impl Typed {
    fn any(&self) -> BoxedStrategy<String> {
        prop_oneof![
            self.text.clone(),
            self.array.clone(),
            self.set.clone(),
            self.object.clone()
        ]
        .boxed()
    }

    /// Literals, and the documents that earlier rules define.
    fn leaves(array: &'static str, object: &'static str) -> Self {
        Self {
            text: proptest::sample::select(&["\"\"", "\"a\"", "\"ab,a\"", "\"ÿß\""][..])
                .prop_map(str::to_owned)
                .boxed(),
            array: prop_oneof![
                Just("[]".to_owned()),
                Just("[\"a\", 7, [true]]".to_owned()),
                Just(array.to_owned()),
            ]
            .boxed(),
            set: prop_oneof![Just("set()".to_owned()), Just("{1, \"b\"}".to_owned())].boxed(),
            object: prop_oneof![
                Just("{}".to_owned()),
                Just("{\"a\": {\"b\": [1, 2]}, \"c\": \"long text\"}".to_owned()),
                Just(object.to_owned()),
            ]
            .boxed(),
        }
    }

    /// One level more of everything.
    fn deeper(&self) -> Self {
        let any = self.any();
        let (text, array) = (self.text.clone(), self.array.clone());
        let (set, object) = (self.set.clone(), self.object.clone());
        let texts = prop::collection::vec(text.clone(), 0..4)
            .prop_map(|texts| format!("[{}]", texts.join(", ")))
            .boxed();
        Self {
            text: prop_oneof![
                text.clone(),
                (text.clone(), texts).prop_map(|(by, all)| format!("concat({by}, {all})")),
                (text.clone(), any.clone())
                    .prop_map(|(s, v)| format!("sprintf(\"%s-%v%%\", [{s}, {v}])")),
                (text.clone(), text.clone())
                    .prop_map(|(s, by)| format!("replace({s}, \"a\", {by})")),
                text.clone().prop_map(|s| format!("upper(lower({s}))")),
                text.clone()
                    .prop_map(|s| format!("substring(strings.reverse({s}), 0, 2)")),
            ]
            .boxed(),
            array: prop_oneof![
                array.clone(),
                prop::collection::vec(any.clone(), 0..4)
                    .prop_map(|items| format!("[{}]", items.join(", "))),
                (array.clone(), array.clone()).prop_map(|(a, b)| format!("array.concat({a}, {b})")),
                text.clone().prop_map(|s| format!("split({s}, \"\")")),
                array
                    .clone()
                    .prop_map(|a| format!("[[x, x] | some x in {a}]")),
                (array.clone(), array.clone())
                    .prop_map(|(a, b)| format!("[[x, y, i] | some i, x in {a}; some y in {b}]")),
                any.clone()
                    .prop_map(|v| format!("[z | x := {v}; y := [x, x]; z := [y, y]]")),
                (any.clone(), any.clone())
                    .prop_map(|(v, w)| format!("[[p, q] | [p, q] = [{v}, {w}]]")),
                object
                    .clone()
                    .prop_map(|o| format!("[{{m: v}} | o := {o}; v := o[m]]")),
                array
                    .clone()
                    .prop_map(|a| format!("[x | a := {a}; x := a[_]]")),
                (array.clone(), array.clone())
                    .prop_map(|(a, b)| format!("[[a[n], b[n]] | a := {a}; b := {b}; a[n]]")),
                (array.clone(), array.clone()).prop_map(|(a, b)| {
                    format!(
                        "[[u, w] | a := {a}; b := {b}; some n; u := a[n]; w := [b[h] | b[h]; a[n]]]"
                    )
                }),
                array.clone().prop_map(|a| {
                    format!("[[b[n], c] | b := {a}; some n, _ in b; c := [b[n] | some _ in b]]")
                }),
            ]
            .boxed(),
            set: prop_oneof![
                set.clone(),
                any.clone().prop_map(|v| format!("{{{v}}}")),
                (set.clone(), set.clone()).prop_map(|(a, b)| format!("({a} | {b})")),
                (set.clone(), set.clone()).prop_map(|(a, b)| format!("({a} & {b})")),
                (set.clone(), set.clone()).prop_map(|(a, b)| format!("({a} - {b})")),
                array
                    .clone()
                    .prop_map(|a| format!("{{[x, i] | some i, x in {a}}}")),
                (set.clone(), set).prop_map(|(a, b)| format!("union({{{a}, {b}}})")),
                object.clone().prop_map(|o| format!("object.keys({o})")),
            ]
            .boxed(),
            object: prop_oneof![
                object.clone(),
                (any.clone(), any).prop_map(|(v, w)| format!("{{\"x\": {v}, \"y\": {w}}}")),
                (object.clone(), object.clone())
                    .prop_map(|(a, b)| format!("object.union({a}, {b})")),
                object
                    .clone()
                    .prop_map(|o| format!("{{k: [v, v] | some k, v in {o}}}")),
                array.prop_map(|a| format!("{{sprintf(\"k%v\", [i]): x | some i, x in {a}}}")),
                (object, text)
                    .prop_map(|(o, s)| format!("{{\"got\": object.get({o}, \"a\", {s})}}")),
            ]
            .boxed(),
        }
    }
}

/// Three documents, each able to use the ones before it.
fn body() -> BoxedStrategy<String> {
    let first = Typed::leaves("[1]", "{\"z\": 1}").deeper().deeper();
    let second = Typed::leaves("risk", "{\"z\": risk}").deeper();
    let third = Typed::leaves("risk", "app_ids").deeper();
    (
        first.array,
        second.object,
        third.any(),
        third.text,
        third.array,
    )
        .prop_map(|(risk, app_ids, grants, text, array)| {
            format!(
                "risk := {risk}\napp_ids := {app_ids}\ngrants := {grants}\n\
                 restrict contains [{text}, x] if some x in {array}\n\
                 approval_tiers[t][k] := [x, x] if {{\n t := {text}\n some k, x in {array}\n}}\n"
            )
        })
        .boxed()
}

fn size(value: &regorus::Value) -> u64 {
    match value {
        regorus::Value::String(text) => 1 + length(text),
        regorus::Value::Array(items) => 1 + items.iter().map(size).sum::<u64>(),
        regorus::Value::Set(items) => 1 + items.iter().map(size).sum::<u64>(),
        regorus::Value::Object(fields) => {
            1 + fields
                .iter()
                .map(|(key, value)| size(key) + size(value))
                .sum::<u64>()
        }
        _ => 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, max_global_rejects: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn no_value_outgrows_its_bound(body in body()) {
        let source = format!("package caracal.authz\nimport rego.v1\n{body}");
        let refused = |error: DocumentError| TestCaseError::reject(error.to_string());
        let module = syntax::parse(&source).map_err(refused)?;
        let heads = syntax::heads(&module).map_err(refused)?;
        let mut walk = Walk {
            heads: &heads,
            documents: HashMap::new(),
            scopes: Vec::new(),
            document: DocumentName::Grants,
            visits: 0,
        };
        for head in &heads {
            walk.document(head.document).map_err(refused)?;
        }
        let values = evaluate::values(&source, &heads).map_err(refused)?;
        for head in &heads {
            let (name, bound) = (head.document, walk.document(head.document).map_err(refused)?.total);
            let grown = values.get(&name).map_or(0, size);
            prop_assert!(grown <= bound, "{} is {} > {}\n{}", name, grown, bound, source);
        }
    }
}
