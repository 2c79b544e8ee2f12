//! What the document reader accepts, what it refuses, and with which words.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use caracal_core::id::PolicyVersionId;
use caracal_policy::{DocumentError, PolicyDocument, ZonePolicy, templates};
use serde_json::json;

use crate::document;

fn code(text: &str) -> String {
    match PolicyDocument::parse(text) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.code(),
    }
}

#[track_caller]
fn check(body: &str, want: &str) {
    let shown: String = body.chars().take(200).collect();
    assert_eq!(code(&document(body)), want, "{shown}");
}

fn version(id: &str, body: &str) -> (PolicyVersionId, Arc<PolicyDocument>) {
    let document = PolicyDocument::parse(&document(body)).unwrap();
    (PolicyVersionId::parse(id).unwrap(), Arc::new(document))
}

#[test]
fn texts_that_are_no_data_documents_are_refused_with_the_first_defect() {
    let marked = |text: &str| format!("# caracal:data-document\n{text}");
    for (text, want) in [
        (String::new(), "empty_policy"),
        ("x".repeat(262_145), "content_too_large"),
        (
            marked("package caracal.authz\ngrants := \"a"),
            "unterminated_string",
        ),
        (
            marked("package caracal.authz\ngrants := \"a\n\""),
            "unterminated_string",
        ),
        (
            marked("package caracal.authz\ngrants := `a\n"),
            "unterminated_string",
        ),
        (
            marked("package caracal.authz\ngrants := {]"),
            "unbalanced_delimiters",
        ),
        (
            marked("package caracal.authz\ngrants := {"),
            "unbalanced_delimiters",
        ),
        (
            marked("package caracal.authz\ngrants := {}}"),
            "unbalanced_delimiters",
        ),
        (marked("grants := {}"), "missing_package_declaration"),
        (marked("package"), "missing_package_declaration"),
        (marked("package \"x\""), "invalid_package_name"),
        (marked("package caracal."), "invalid_package_name"),
        (
            marked("package caracal[\"authz\"]\ngrants := {}"),
            "invalid_package_name",
        ),
        (
            marked("package caracal.authz\ngrants := http.send({})"),
            "forbidden_builtin:http.send",
        ),
        (
            marked("package other\nx := time.now_ns()"),
            "forbidden_builtin:time.now_ns",
        ),
        (
            marked("package other\ngrants := {}"),
            "must_use_package_caracal_authz",
        ),
        (
            marked("package caracal.authz.x\ngrants := {}"),
            "must_use_package_caracal_authz",
        ),
        (
            "package other\ngrants := {}".to_owned(),
            "must_use_package_caracal_authz",
        ),
        (
            "package caracal.authz\ngrants := {}".to_owned(),
            "must_be_data_document",
        ),
        (
            "package caracal.authz\nx := 1".to_owned(),
            "must_be_data_document",
        ),
        (
            marked("package caracal.authz\nx := 1\nresult := 1"),
            "data_document_must_not_define_result",
        ),
        (
            marked("package caracal.authz"),
            "data_document_must_define_data",
        ),
        (
            marked("package caracal.authz\nimport rego.v1"),
            "data_document_must_define_data",
        ),
        (
            marked("package caracal.authz\nx := 1"),
            "data_document_rule_not_allowed:x",
        ),
    ] {
        assert_eq!(
            code(&text),
            want,
            "{}",
            text.chars().take(80).collect::<String>()
        );
    }
}

#[test]
fn the_marker_is_a_comment_line_anywhere() {
    for (marker, accepted) in [
        ("# caracal:data-document", true),
        ("#caracal:data-document", true),
        ("#   caracal:data-document with more words", true),
        ("# caracal:data-document-v2", true),
        ("# caracal:data-documentX", false),
        ("# caracal:data-document_", false),
        ("## caracal:data-document", false),
        ("# about caracal:data-document", false),
    ] {
        let text = format!("package caracal.authz\ngrants := {{}}\n{marker}\n");
        let want = if accepted {
            "accepted"
        } else {
            "must_be_data_document"
        };
        assert_eq!(code(&text), want, "{marker}");
    }
    let quoted = "package caracal.authz\nrestrict := [`\n# caracal:data-document\n`]";
    assert_eq!(code(quoted), "must_be_data_document");
    let behind = "package caracal.authz # caracal:data-document\ngrants := {}";
    assert_eq!(code(behind), "must_be_data_document");
}

#[test]
fn both_assignments_and_all_rule_forms_of_the_six_names_are_read() {
    for body in [
        "grants = {}",
        "grants := {}",
        "restrict contains \"a\"",
        "restrict := {\"a\"} if 1 == 1",
        "restrict := {\"a\"} if 1 == 2",
        "default restrict := []\nrestrict := [1] if 1 == 2",
        "app_ids[\"books\"] := \"app-7\"\napp_ids[\"desk\"] := \"app-8\"",
        "app_ids.books := \"app-7\"",
        "app_ids[key] := \"app-7\" if some key in [\"books\", \"desk\"]",
    ] {
        check(body, "accepted");
    }
}

#[test]
fn names_outside_the_six_are_refused_in_every_form() {
    for (body, want) in [
        ("result := 1", "data_document_must_not_define_result"),
        ("result[\"x\"] := 1", "data_document_must_not_define_result"),
        (
            "default result := {}",
            "data_document_must_not_define_result",
        ),
        ("result", "data_document_must_not_define_result"),
        (
            "grants := {}\nfoo[\"x\"] := 1",
            "data_document_rule_not_allowed:foo",
        ),
        ("foo.grants := 1", "data_document_rule_not_allowed:foo"),
        ("foo contains 1", "data_document_rule_not_allowed:foo"),
        ("foo(x) := x", "data_document_rule_not_allowed:foo"),
        (
            "principal_owns_resource",
            "data_document_rule_not_allowed:principal_owns_resource",
        ),
        (
            "__target__ := \"x\"\ngrants := {}",
            "data_document_rule_not_allowed:__target__",
        ),
    ] {
        check(body, want);
    }
}

#[test]
fn broken_syntax_is_told_with_its_line() {
    for body in [
        "grants := {}; result := {}",
        "grants := {,}",
        "package caracal.authz",
        "grants",
        "restrict[\"x\"] { true }",
        "grants := {}\u{0}",
        "grants := {} # \u{0}\nrestrict := [1]",
        "grants := `\u{1}`",
        "grants := \u{feff}{}",
    ] {
        let got = code(&document(body));
        assert!(got.starts_with("invalid_syntax:line "), "{body:?}: {got}");
    }
    let error = PolicyDocument::parse(&document("grants := {\n\n  \"a\" 1\n}")).unwrap_err();
    assert_eq!(error.line(), Some(6), "{error}");
}

#[test]
fn a_document_reads_nothing_but_itself() {
    for (body, want) in [
        ("restrict := [input.x]", "input"),
        ("restrict := [1] if input", "input"),
        ("restrict := {input[\"x\"]}", "input"),
        ("restrict := [data.other.x]", "data.other.x"),
        ("restrict := [data.caracal.authz]", "data.caracal.authz"),
        ("restrict := [data[x]] if x := \"caracal\"", "data"),
        (
            "restrict := [data.caracal.authz.result]",
            "data.caracal.authz.result",
        ),
        ("import data.other\nrestrict := [other]", "data.other"),
        ("import input.user\nrestrict := [user]", "input.user"),
        ("restrict := [uuid.rfc4122(\"x\")]", "uuid.rfc4122"),
        ("restrict := [print(\"x\")]", "print"),
        ("restrict := [trace(\"x\")]", "trace"),
        ("restrict := [nobody_knows(1)]", "nobody_knows"),
        ("restrict := [1] if 1 == 1 with input as {}", "with"),
    ] {
        let text = match body.starts_with("import") {
            true => format!("# caracal:data-document\npackage caracal.authz\n{body}\n"),
            false => document(body),
        };
        assert_eq!(
            code(&text),
            format!("data_document_not_closed:{want}"),
            "{body}"
        );
    }
}

#[test]
fn a_document_may_compute_over_its_own_data() {
    for body in [
        r#"grants := {resource: {"application": "books", "roles": {"closer": scopes}} |
               some resource in ["resource://a", "resource://b"]
               scopes := ["read", "write"]
           }"#,
        r#"app_ids := object.union({"a": "app-1"}, {"b": "app-2"})"#,
        r#"app_ids := {key: id | some key in ["a", "b"]; id := concat("-", ["app", key])}"#,
        r#"app_ids := {key: id | some key in ["a", "b"]; id := sprintf("app-%s", [key])}"#,
        r#"confinement := [{"label_prefix": lower(label), "scopes": {"read"} | {"write"}} |
               some label in split("A:,B:", ",")
           ]"#,
        r#"restrict := {"x" | some key, _ in data.caracal.authz.app_ids; startswith(key, "frozen-")}
           app_ids := {"a": "app-1"}"#,
        r#"approval_tiers := [{"tier": "high", "ttl_seconds": 24 * 60 * 60}]"#,
        r#"risk := array.concat([{"scope": "a", "tier": "low"}], [{"scope": "b", "tier": "low"}])"#,
        r#"restrict := [] if { every id in app_ids { id != "" } }
           app_ids := {"a": "app-1"}"#,
    ] {
        check(body, "accepted");
    }
    let resources: Vec<String> = (0..400).map(|at| format!("\"resource://r{at}\"")).collect();
    check(
        &format!(
            "grants := {{resource: {{\"application\": \"books\", \"roles\": roles}} |
                 some resource in [{}]
                 roles := {{\"closer\": [\"read\", \"write\"], \"viewer\": [\"read\"]}}
             }}
             confinement := [{{\"label_prefix\": prefix, \"scopes\": scopes}} |
                 some resource, _ in grants
                 prefix := concat(\":\", [\"of\", trim_prefix(resource, \"resource://\")])
                 scopes := {{scope | some role in grants[resource].roles; some scope in role}}
             ]",
            resources.join(", ")
        ),
        "accepted",
    );
    let computed = r#"app_ids := {"books": id | id := lower("APP-7")}"#;
    let written = r#"app_ids := {"books": "app-7"}"#;
    let versions = [version("a", computed), version("b", written)];
    assert!(
        ZonePolicy::compile(&versions).is_ok(),
        "equal values are one document"
    );
}

#[test]
fn shapes_are_exact_and_defects_are_told_with_path_and_line() {
    let shape = |body: &str| {
        let got = code(&document(body));
        let told = got.strip_prefix("data_document_invalid_shape:");
        told.unwrap_or_else(|| panic!("{body}: {got}")).to_owned()
    };
    for (body, want) in [
        (
            "app_ids := []",
            "app_ids: must be an object of binding keys and application ids (line 4)",
        ),
        (
            "app_ids := {\"a\": 7}",
            "app_ids.a: must be an application id, a string (line 4)",
        ),
        (
            "app_ids := {\"a\": \"\"}",
            "app_ids.a: must be an application id, not empty (line 4)",
        ),
        (
            "app_ids := {\"\": \"x\"}",
            "app_ids: has an empty key (line 4)",
        ),
        (
            "app_ids := {7: \"x\"}",
            "app_ids: has a key that is not a string (line 4)",
        ),
        (
            "app_ids := \"x\"",
            "app_ids: must be an object of binding keys and application ids (line 4)",
        ),
        (
            "grants := []",
            "grants: must be an object of resource identifiers and their grants (line 4)",
        ),
        (
            "grants := \"x\"",
            "grants: must be an object of resource identifiers and their grants (line 4)",
        ),
        (
            "grants := {\n\"resource://a\": []}",
            "grants[\"resource://a\"]: must be an object (line 5)",
        ),
        (
            "grants := {\"r\": {\"application\": \"books\"}}",
            "grants.r: lacks `roles` (line 4)",
        ),
        (
            "grants := {\"r\": {\"roles\": {}}}",
            "grants.r: lacks `application` (line 4)",
        ),
        (
            "grants := {\"r\": {\"application\": \"books\", \"roles\": {},\n\n\"x\": 1}}",
            "grants.r.x: is not a known key (line 6)",
        ),
        (
            "grants := {\"r\": {\"application\": \"\", \"roles\": {}}}",
            "grants.r.application: must be a binding key, not empty (line 4)",
        ),
        (
            "grants := {\"r\": {\"application\": \"books\", \"roles\": {\"closer\": \"read\"}}}",
            "grants.r.roles.closer: must be an array, a set or an object of scopes (line 4)",
        ),
        (
            "grants := {\"r\": {\"application\": \"books\", \"roles\": {\"closer\": [\n\"a\",\n7]}}}",
            "grants.r.roles.closer[1]: must be a scope, a string (line 6)",
        ),
        (
            "grants := {\"r\": {\"application\": \"books\", \"roles\": []}}",
            "grants.r.roles: must be an object of labels and their scopes (line 4)",
        ),
        (
            "confinement := {}",
            "confinement: must be an array of caps (line 4)",
        ),
        (
            "confinement := {{\"label_prefix\": \"\", \"scopes\": []}}",
            "confinement: must be an array of caps (line 4)",
        ),
        (
            "confinement := [7]",
            "confinement[0]: must be an object (line 4)",
        ),
        (
            "confinement := [{\"scopes\": []}]",
            "confinement[0]: lacks `label_prefix` (line 4)",
        ),
        (
            "confinement := [{\"label_prefix\": 7, \"scopes\": []}]",
            "confinement[0].label_prefix: must be a label prefix, a string (line 4)",
        ),
        (
            "confinement := [{\"label_prefix\": \"\", \"scopes\": {}}]",
            "confinement[0].scopes: must be an array or a set of scopes (line 4)",
        ),
        (
            "confinement := [{\"label_prefix\": \"\"}]",
            "confinement[0]: lacks `scopes` (line 4)",
        ),
        (
            "restrict := true",
            "restrict: must be an array, a set or an object (line 4)",
        ),
        (
            "restrict := null",
            "restrict: must be an array, a set or an object (line 4)",
        ),
        (
            "restrict if 1 == 1",
            "restrict: must be an array, a set or an object",
        ),
        (
            "restrict := [{\"from\": \"tomorrow\"}]",
            "restrict[0].from: must be an RFC 3339 time with an offset (line 4)",
        ),
        (
            "restrict := [{\"until\": \"2026-01-01T00:00:00\"}]",
            "restrict[0].until: must be an RFC 3339 time with an offset (line 4)",
        ),
        (
            "restrict := [{\"until\": null}]",
            "restrict[0].until: must be an RFC 3339 time, a string (line 4)",
        ),
        (
            "restrict := {\"a\": {\"from\": \"2026-01-01T01:00:00+01:00\", \"until\": \"2026-01-01T00:00:00Z\"}}",
            "restrict.a: `from` must be before `until` (line 4)",
        ),
        (
            "risk := {\"a\"}",
            "risk: must be an array of scopes and their tiers (line 4)",
        ),
        (
            "risk := [{\"scope\": \"a\"}]",
            "risk[0]: lacks `tier` (line 4)",
        ),
        (
            "risk := [{\"scope\": \"\", \"tier\": \"low\"}]",
            "risk[0].scope: must be a scope, not empty (line 4)",
        ),
        ("risk := [[]]", "risk[0]: must be an object (line 4)"),
        (
            "approval_tiers := {}",
            "approval_tiers: must be an array of approval tiers (line 4)",
        ),
        (
            "approval_tiers := [{}]",
            "approval_tiers[0]: lacks `tier` (line 4)",
        ),
        (
            "approval_tiers := [\"high\"]",
            "approval_tiers[0]: must be an object (line 4)",
        ),
        (
            "approval_tiers := [{\"tier\": \"high\", \"approver\": null}]",
            "approval_tiers[0].approver: must be one of the known words, a string (line 4)",
        ),
        (
            "approval_tiers := [{\"tier\": \"high\", \"approver\": \"boss\"}]",
            "approval_tiers[0].approver: must be one of operator, subject, any (line 4)",
        ),
        (
            "approval_tiers := [{\"tier\": \"high\", \"privacy\": \"none\"}]",
            "approval_tiers[0].privacy: must be one of identified, pseudonymous, anonymous (line 4)",
        ),
    ] {
        assert_eq!(shape(body), want, "{body}");
    }
    for ttl in ["60.5", "0", "-1", "\"60\"", "null", "1e300", "[60]"] {
        let body = format!("approval_tiers := [{{\"tier\": \"high\", \"ttl_seconds\": {ttl}}}]");
        let want =
            "approval_tiers[0].ttl_seconds: must be a positive whole number of seconds (line 4)";
        assert_eq!(shape(&body), want);
    }
}

#[test]
fn every_documented_form_of_a_document_is_accepted() {
    for body in [
        "app_ids := {}",
        "grants := {}",
        r#"grants := {"r": {"application": "books", "roles": {}}}"#,
        r#"grants := {"r": {"application": "books", "roles": {"a": [], "b": set(), "c": {}}}}"#,
        r#"grants := {"r": {"application": "books", "roles": {"a": {"x": "read"}}}}"#,
        "confinement := []",
        r#"confinement := [{"label_prefix": "", "scopes": set()}]"#,
        "restrict := [null, false, 7, {}, [], {\"from\": \"2026-01-01T00:00:00Z\", \"note\": {}}]",
        r#"risk := [{"scope": "a", "tier": "low", "why": [1, {"x": null}]}]"#,
        r#"approval_tiers := [{"tier": "high"}, {"tier": "high", "ttl_seconds": 60.0}]"#,
        r#"approval_tiers := [{"tier": "high", "approver": "any", "privacy": "anonymous"}]"#,
    ] {
        check(body, "accepted");
    }
}

#[test]
fn one_document_is_defined_in_one_form_and_without_doubled_keys() {
    for body in [
        "restrict := [1]\nrestrict contains 1",
        "default restrict := []\ndefault restrict := [1]",
        "app_ids := {}\napp_ids[\"a\"] := \"b\"",
        "default restrict := []\nrestrict contains 1",
        "app_ids := {\"a\": \"x\", \"a\": \"y\"}",
        "grants(x) := x",
        "restrict := {1}\nrestrict := {2}",
        "app_ids[\"a\"] := \"x\"\napp_ids[\"a\"] := \"y\"",
        "app_ids := {\"a\": v | some v in [\"x\", \"y\"]}",
        "restrict := [x]",
        "restrict := grants\ngrants := {\"a\": restrict}",
        "restrict := [count(1)]",
        "restrict := [count([], 1)]",
        "restrict[\"a\"]\ngrants := {}",
    ] {
        let got = code(&document(body));
        assert!(
            got.starts_with("data_document_invalid_shape:"),
            "{body}: {got}"
        );
    }
}

#[test]
fn the_documents_that_reconcilers_write_are_read_byte_for_byte() {
    let text = |app_ids: &str, grants: &str| {
        format!(
            "# caracal:data-document\npackage caracal.authz\nimport rego.v1\n\
             app_ids := {app_ids}\ngrants := {grants}\n"
        )
    };
    let ledger = |app: &str, role: &str, scopes: &str| {
        text(
            &format!("{{\"{app}\":\"{app}\"}}"),
            &format!(
                "{{\"resource://ledger\":{{\"application\":\"{app}\",\"roles\":{{\"{role}\":[{scopes}]}}}}}}"
            ),
        )
    };
    for (text, length, sha256) in [
        (
            ledger("app-7", "closer", "\"ledger:read\",\"ledger:write\""),
            196,
            "2ce54376975c40e64e4cb9749946eb75a2e389eb3b21cc35132ae2e401322591",
        ),
        (
            ledger("app-ledger-bot", "app-ledger-bot", "\"ledger:read\""),
            216,
            "33e16311192e05a8690c76baf07ab974ce6200d42078dba62d91d0465e666079",
        ),
        (
            text("{}", "{}"),
            88,
            "76673b82ca2011cf265750fe015f9441c3c6f311a84ab5f45d8c4e58218366c2",
        ),
    ] {
        assert_eq!(
            hex::encode(digest(&SHA256, text.as_bytes())),
            sha256,
            "{text}"
        );
        assert_eq!(text.len(), length);
        assert_eq!(code(&text), "accepted");
    }
}

#[test]
fn a_large_document_on_one_line_is_read() {
    let grants: Vec<String> = (0..2_500)
        .map(|at| {
            format!(
                "\"resource://r{at}\":{{\"application\":\"books\",\"roles\":{{\"closer\":[\"a\",\"b\"]}}}}"
            )
        })
        .collect();
    let body = format!("grants := {{{}}}", grants.join(","));
    assert!(body.len() > 170_000, "{}", body.len());
    check(&body, "accepted");
    check(
        &format!("{body} x"),
        "invalid_syntax:line 4: rule must have a body or assignment",
    );
    let late = format!("app_ids := {{\n\"a\": \"x\"}}\n{body}\nrisk :=\n[7]\nrestrict := []");
    check(
        &late,
        "data_document_invalid_shape:risk[0]: must be an object (line 8)",
    );
}

#[test]
fn the_preview_lists_what_the_document_declares() {
    let body = r#"
restrict := [x | some x in data.caracal.authz.app_ids; x == "never"]
app_ids := {"books": "app-7"}
risk := [{"scope": "a", "tier": "low", "note": {"decision": "deny"}}]
"#;
    let document = PolicyDocument::parse(&document(body)).unwrap();
    assert_eq!(
        serde_json::to_value(document.preview()).unwrap(),
        json!({
            "package": "caracal.authz",
            "rules": ["app_ids", "restrict", "risk"],
            "default_result": false,
            "decisions": ["deny"],
            "inputs_referenced": [],
            "data_referenced": ["data.caracal.authz.app_ids"],
        })
    );
}

#[test]
fn every_template_validates_and_the_known_ids_are_there() {
    let ids: Vec<&str> = templates().iter().map(|template| template.id).collect();
    for known in [
        "application-bindings",
        "resource-grants",
        "label-confinement",
        "zone-restriction",
    ] {
        assert!(ids.contains(&known), "{known}");
    }
    let versions: Vec<_> = templates()
        .iter()
        .map(|template| {
            let document = PolicyDocument::parse(template.content);
            let document = document.unwrap_or_else(|error| panic!("{}: {error}", template.id));
            (
                PolicyVersionId::parse(template.id).unwrap(),
                Arc::new(document),
            )
        })
        .collect();
    assert!(
        ZonePolicy::compile(&versions).is_ok(),
        "the templates fit together"
    );
    let listed = serde_json::to_value(templates()).unwrap();
    let first = listed[0].as_object().unwrap();
    assert_eq!(
        first.keys().collect::<Vec<_>>(),
        ["content", "description", "id", "name"]
    );
}

#[test]
fn versions_that_contradict_each_other_conflict_by_name_and_path() {
    let grant = |role: &str| {
        format!(
            "grants := {{\"r\": {{\"application\": \"books\", \"roles\": {{\"closer\": [\"{role}\"]}}}}}}"
        )
    };
    for (one, other, path) in [
        (grant("read"), grant("write"), "grants.r.roles.closer[0]"),
        (
            "app_ids := {\"a\": \"x\"}".to_owned(),
            "app_ids := {\"b\": \"x\"}".to_owned(),
            "app_ids.a",
        ),
        (
            "app_ids := {}".to_owned(),
            "app_ids := {\"b\": \"x\"}".to_owned(),
            "app_ids.b",
        ),
        (
            "restrict := [1]".to_owned(),
            "restrict := {1}".to_owned(),
            "restrict",
        ),
        (
            "restrict := [1]".to_owned(),
            "restrict := [1, 2]".to_owned(),
            "restrict[1]",
        ),
        (
            "restrict := {\"a\": 1}".to_owned(),
            "restrict := {2}".to_owned(),
            "restrict",
        ),
        (
            "confinement := []".to_owned(),
            "confinement := [{\"label_prefix\": \"\", \"scopes\": []}]".to_owned(),
            "confinement[0]",
        ),
    ] {
        let versions = [version("first", &one), version("second", &other)];
        let conflict = ZonePolicy::compile(&versions).unwrap_err();
        assert_eq!(conflict.path, path, "{one} / {other}");
        assert_eq!(conflict.first.as_str(), "first");
        assert_eq!(conflict.second.as_str(), "second");
    }
}

#[test]
fn one_scope_has_one_tier_within_a_document_too() {
    let twice = r#"risk := [{"scope": "a", "tier": "low"}, {"scope": "a", "tier": "low"}]"#;
    assert!(ZonePolicy::compile(&[version("v", twice)]).is_ok());
    let torn = r#"risk := [{"scope": "a", "tier": "low"}, {"scope": "a", "tier": "high"}]"#;
    let conflict = ZonePolicy::compile(&[version("v", torn)]).unwrap_err();
    assert_eq!(conflict.path, "risk[1]");
    assert_eq!(
        (conflict.first.as_str(), conflict.second.as_str()),
        ("v", "v")
    );
}

#[test]
fn equal_documents_are_one_and_sets_of_restrict_unite() {
    for (one, other) in [
        ("app_ids := {\"a\": \"x\"}", "app_ids := {\"a\": \"x\"}"),
        ("restrict := [1]", "restrict := [1.0]"),
        ("restrict := {1}", "restrict contains 2"),
        ("restrict contains \"a\"", "restrict contains \"a\""),
        ("restrict := {\"a\": 1}", "restrict := {\"a\": 1}"),
    ] {
        let versions = [version("first", one), version("second", other)];
        assert!(ZonePolicy::compile(&versions).is_ok(), "{one} / {other}");
    }
}

#[test]
fn a_limit_says_which_one_beside_its_code() {
    let body = format!("restrict := {}{}", "[".repeat(17), "]".repeat(17));
    let error = PolicyDocument::parse(&document(&body)).unwrap_err();
    assert!(matches!(error, DocumentError::LimitExceeded { .. }));
    assert_eq!(error.code(), "data_document_limit_exceeded");
    assert_eq!(
        error.to_string(),
        "data_document_limit_exceeded (values nest at most 16 deep)"
    );
}
