//! Hostile texts end in an answer, soon, without a panic and without an overflow of the stack.

use std::time::{Duration, Instant};

use caracal_policy::{DocumentError, PolicyDocument, fuzz_document};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::document;

/// Far above what any document takes in an unoptimised build on a busy machine, far below for ever.
const SOON: Duration = Duration::from_secs(20);

/// Reads the text; the answer comes soon and is not a panic that was caught.
fn read(text: &str) -> Result<PolicyDocument, DocumentError> {
    let started = Instant::now();
    let answer = PolicyDocument::parse(text);
    let shown: String = text.chars().take(200).collect();
    assert!(started.elapsed() < SOON, "{:?}: {shown}", started.elapsed());
    if let Err(error) = &answer {
        assert!(!error.to_string().contains("gave up"), "{shown}");
    }
    answer
}

#[track_caller]
fn limited(body: &str) {
    let answer = read(&document(body));
    let shown: String = body.chars().take(200).collect();
    assert!(
        matches!(answer, Err(DocumentError::LimitExceeded { .. })),
        "{answer:?}\n{shown}"
    );
}

#[test]
fn brackets_of_any_kind_nest_up_to_a_limit() {
    for (open, close) in [
        ("[", "]"),
        ("{", "}"),
        ("{\"a\":", "}"),
        ("(", ")"),
        ("count(", ")"),
        ("{1|", "}"),
    ] {
        for depth in [2, 8, 16, 17, 19, 20] {
            let _ = read(&document(&format!(
                "restrict := {}1{}",
                open.repeat(depth),
                close.repeat(depth)
            )));
        }
        for depth in [21, 1_000, 30_000] {
            limited(&format!(
                "restrict := {}1{}",
                open.repeat(depth),
                close.repeat(depth)
            ));
        }
    }
}

#[test]
fn a_document_may_nest_sixteen_deep() {
    let nested = |depth: usize| {
        let (open, close) = ("{\"a\":".repeat(depth), "}".repeat(depth));
        read(&document(&format!("restrict := [7, {open}1{close}]"))).map(drop)
    };
    assert_eq!(nested(15), Ok(()));
    assert!(matches!(
        nested(16),
        Err(DocumentError::LimitExceeded { .. })
    ));
}

#[test]
fn expressions_that_nest_without_brackets_are_bounded() {
    for link in [
        "- ", "not ", "1 | ", "1 & ", "1 + ", "1 - ", "1 -", "1 == ", "1 in ", "x.y + ", "1 * -",
    ] {
        for count in [10, 500, 1_020] {
            let _ = read(&document(&format!("restrict := [{}1]", link.repeat(count))));
            let _ = read(&document(&format!(
                "restrict := [1] if {}1",
                link.repeat(count)
            )));
        }
        limited(&format!("restrict := [{}1]", link.repeat(30_000)));
    }
    for step in [".a", "[0]", "[\"a\"]", "[_]"] {
        let _ = read(&document(&format!(
            "restrict := grants{}",
            step.repeat(1_000)
        )));
        limited(&format!("restrict := grants{}", step.repeat(30_000)));
    }
}

#[test]
fn values_that_double_are_refused_before_they_are_computed() {
    let chain = |first: &str, link: &dyn Fn(usize) -> String| {
        let links: Vec<String> = (1..30).map(link).collect();
        format!("restrict := [x29 | x0 := {first}; {}]", links.join("; "))
    };
    for (first, link) in [
        ("\"a\"", "[x{}, x{}]"),
        ("\"a\"", "{x{}: x{}}"),
        ("[\"a\"]", "array.concat(x{}, x{})"),
        ("\"aa\"", "concat(x{}, [x{}, \"b\"])"),
        ("\"aa\"", "replace(x{}, \"a\", x{})"),
        ("\"aa\"", "sprintf(\"%s%s\", [x{}, x{}])"),
        ("99999999999", "x{} * x{}"),
        ("[\"a\"]", "[[y, z] | some y in x{}; some z in x{}]"),
    ] {
        let link = |at: usize| format!("x{at} := {}", link.replace("{}", &(at - 1).to_string()));
        limited(&chain(first, &link));
        let backwards: Vec<String> = (1..30).rev().map(link).collect();
        limited(&format!(
            "restrict := [x29 | {}; x0 := {first}]",
            backwards.join("; ")
        ));
    }
    limited("restrict := [x | x = [y]; y = [x]]");
    limited(
        "app_ids := {\"a\": \"b\", \"c\": \"d\", \"e\": \"f\"}
         grants := [[a, b, c, d, e, f, g, h, i, j, k, l, m] |
             some a in app_ids; some b in app_ids; some c in app_ids; some d in app_ids
             some e in app_ids; some f in app_ids; some g in app_ids; some h in app_ids
             some i in app_ids; some j in app_ids; some k in app_ids; some l in app_ids
             some m in app_ids
         ]",
    );
    let many = vec!["app_ids"; 2_000].join(", ");
    let again = vec!["grants"; 2_000].join(", ");
    limited(&format!(
        "app_ids := [1, 2]\ngrants := [{many}]\nrestrict := [{again}]"
    ));
}

#[test]
fn functions_whose_result_has_no_bound_are_refused() {
    for call in [
        "numbers.range(1, 1000000000000)",
        "bits.lsh(1, 1000000000000)",
        "product([2])",
        "json.marshal({})",
        "to_number(\"1e999999999\")",
    ] {
        limited(&format!("restrict := [{call}]"));
    }
    for call in [
        "sprintf(\"%999999999d\", [1])",
        "sprintf(\"%\u{b2}d\", [1])",
        "sprintf(x, [1])",
    ] {
        let answer = read(&document(&format!("restrict := [{call} | x := \"%9d\"]")));
        assert!(
            matches!(answer, Err(DocumentError::InvalidShape { .. })),
            "{call}: {answer:?}"
        );
    }
}

#[test]
fn computing_ends_in_time() {
    let list = vec!["1"; 100].join(",");
    limited(&format!(
        "restrict := [a |
            list := [{list}]
            some a in list
            count([b | some b in list; some c in list; some d in list; b + c + d == 9]) == 7
        ]"
    ));
}

#[test]
fn many_rules_and_statements_are_refused() {
    let rules: Vec<String> = (0..1_025)
        .map(|at| format!("restrict contains {at}"))
        .collect();
    limited(&rules.join("\n"));
    let statements = vec!["1 == 1"; 33].join("; ");
    limited(&format!("restrict := [1] if {{ {statements} }}"));
    limited(&format!("risk := [{{\"scope\": {}}}]", "9".repeat(41)));
}

#[test]
fn the_largest_texts_of_one_kind_are_answered_soon() {
    let prefix = document("");
    let room = 262_144 - prefix.len();
    for unit in [
        "[",
        "]",
        "{",
        "(",
        "-",
        "- ",
        "\"",
        "\"\"",
        "`",
        "``",
        "#",
        "# x\n",
        "a",
        "a ",
        ".",
        "a.",
        "\n",
        "\t",
        " ",
        "\\",
        "1",
        "1 ",
        "é",
        "😀",
        ",",
        ":=",
        ":",
        "grants := {}\n",
        "x := [\n",
        "restrict contains 1\n",
        "import data.x\n",
        "package x\n",
        "else ",
        "default x := 1\n",
        "[1,",
        "{\"a\":1,",
        "not ",
        "some x ",
        "with input as ",
        "if ",
        "|",
        "1|",
        "1 in ",
        "a[",
        "a(",
        "\r",
        "\u{a0}",
        "\u{2028}",
        "set(",
        "set()",
        "[x|",
        "{x|",
        "{x:y|",
    ] {
        let units = unit.encode_utf16().count();
        let _ = read(&format!("{prefix}{}", unit.repeat(room / units)));
        let _ = read(&format!(
            "{prefix}restrict := [{}]",
            unit.repeat(room / units - 16)
        ));
    }
    let long = format!("restrict := [\"{}\"]", "x".repeat(50_000));
    assert!(read(&document(&long)).is_ok());
    limited(&format!("restrict := [\"{}\"]", "x".repeat(room - 32)));
    let lines = format!("restrict := [\n{}]", "1,\n".repeat(80_000));
    assert!(read(&document(&lines)).is_ok());
}

#[test]
fn a_result_larger_than_a_mebibyte_is_refused() {
    let text = "x".repeat(1_000);
    limited(&format!(
        "restrict := [x | x := \"{text}\"; some _ in [{}]]",
        vec!["1"; 1_100].join(",")
    ));
}

/// Words and marks that documents are made of, and some that they must not be.
const PIECES: [&str; 62] = [
    "app_ids",
    "grants",
    "confinement",
    "restrict",
    "risk",
    "approval_tiers",
    "result",
    "x",
    "y",
    "_",
    "input",
    "data",
    "data.caracal.authz.grants",
    "\"books\"",
    "\"resource://a\"",
    "\"\"",
    "`raw`",
    "0",
    "7",
    "60.5",
    "true",
    "false",
    "null",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "set(",
    ":=",
    "=",
    "==",
    ":",
    ",",
    ";",
    ".",
    "|",
    "&",
    "-",
    "+",
    "*",
    "if",
    "else",
    "contains",
    "some",
    "in",
    "every",
    "not",
    "default",
    "with",
    "as",
    "import",
    "package",
    "count(",
    "object.union(",
    "\n",
    "\n",
    "\n",
    " ",
    " ",
    "# note\n",
];

fn sample() -> String {
    document(
        r#"app_ids := {"books": "app-7", "desk": "app-8"}
grants := {"resource://ledger": {"application": "books", "roles": {"closer": ["read", "write"], "viewer": {"read"}}}}
confinement := [{"label_prefix": "tenant:", "scopes": [scope | some scope in ["read"]]}]
restrict contains entry if some entry in []
risk := [{"scope": "write", "tier": "high"}]
approval_tiers := [{"tier": lower("HIGH"), "approver": "subject", "ttl_seconds": 60 * 15}]
"#,
    )
}

#[test]
fn the_sample_that_is_damaged_below_is_valid() {
    assert!(read(&sample()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn heaps_of_words_are_answered(pieces in vec(select(&PIECES[..]), 0..60)) {
        let _ = read(&document(&pieces.join(" ")));
        let _ = read(&document(&format!("restrict := [{}]", pieces.concat())));
    }

    #[test]
    fn damaged_documents_are_answered(
        damage in vec((any::<Index>(), any::<Index>(), select(&PIECES[..])), 1..6),
    ) {
        let mut text: Vec<char> = sample().chars().collect();
        for (from, length, piece) in damage {
            let from = from.index(text.len());
            let until = (from + length.index(12)).min(text.len());
            text.splice(from..until, piece.chars());
        }
        let text: String = text.into_iter().collect();
        let _ = read(&text);
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200), behind in any::<bool>()) {
        let mut text = if behind { sample().into_bytes() } else { Vec::new() };
        text.extend(bytes);
        fuzz_document(&text);
        fuzz_document(&[&text[..], b"\"]})"].concat());
    }
}
