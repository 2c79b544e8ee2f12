use super::*;
use http::HeaderValue;
use proptest::prelude::*;

fn headers() -> HeaderMap {
    HeaderMap::from_iter([(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    )])
}

const GRANT: &str =
    "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&application_id=app-7";

fn parse(fields: &str) -> Result<TokenForm, FormRefused> {
    TokenForm::parse(&headers(), format!("{GRANT}&{fields}").as_bytes())
}

fn malformed(fields: &str) -> MalformedForm {
    match parse(fields) {
        Err(FormRefused::Malformed(malformed)) => malformed,
        other => panic!("{fields}: {other:?}"),
    }
}

#[test]
fn every_field_finds_its_place() {
    let form = parse(
        "zone_id=+z-demo+&client_secret=cs_x&resource=resource%3A%2F%2Fb&resource=+resource://a\
         &scope=ledger:post+ledger%3Aread&agent_session_id=as-3&delegation_edge_id=de-4\
         &session_id=rec-1&ttl_seconds=900&approval_id=ap-1&unknown=x",
    )
    .unwrap();
    assert_eq!(form.zone_id.as_deref(), Some("z-demo"));
    assert_eq!(form.application_id, "app-7");
    assert_eq!(form.client_secret.expose(), "cs_x");
    assert_eq!(form.resources, ["resource://a", "resource://b"]);
    assert_eq!(
        form.scope.to_claim().as_deref(),
        Some("ledger:post ledger:read")
    );
    assert_eq!(form.session_id.unwrap().as_str(), "as-3");
    assert_eq!(form.delegation_id.unwrap().as_str(), "de-4");
    assert_eq!(form.authority_record_id.unwrap().as_str(), "rec-1");
    assert_eq!(form.ttl_seconds, Some(900));
    assert_eq!(form.approval_id.as_deref(), Some("ap-1"));
    assert!(form.subject.is_none());
}

#[test]
fn empty_fields_are_absent_fields() {
    let form = parse("zone_id=++&scope=+&agent_session_id=&ttl_seconds=&subject_token=").unwrap();
    assert_eq!(form.zone_id, None);
    assert_eq!(form.scope.to_claim(), None);
    assert_eq!(form.session_id, None);
    assert_eq!(form.ttl_seconds, None);
    assert!(form.subject.is_none());
}

#[test]
fn the_scope_claim_keeps_order_and_repetition() {
    let form = parse("scope=b+a++b").unwrap();
    assert_eq!(form.scope.to_claim().as_deref(), Some("b a b"));
    assert_eq!(form.scope.set().len(), 2);
}

#[test]
fn resources_repeat_and_nothing_else_does() {
    assert_eq!(parse("resource=r1&resource=r1").unwrap().resources, ["r1"]);
    assert_eq!(
        malformed("scope=a&scope=b"),
        MalformedForm::Repeated("scope".to_owned())
    );
    assert_eq!(
        malformed("x=1&x=2"),
        MalformedForm::Repeated("x".to_owned())
    );
}

#[test]
fn an_integer_may_have_a_sign_and_its_range_is_judged_later() {
    assert_eq!(parse("ttl_seconds=%2B60").unwrap().ttl_seconds, Some(60));
    assert_eq!(parse("ttl_seconds=-1").unwrap().ttl_seconds, Some(-1));
    assert_eq!(parse("ttl_seconds=0").unwrap().ttl_seconds, None);
    for bad in ["abc", "1.5", "1+", "0x10", "99999999999999999999", "+"] {
        assert_eq!(
            malformed(&format!("ttl_seconds={bad}")),
            MalformedForm::Ttl,
            "{bad}"
        );
    }
}

#[test]
fn subject_token_and_type_come_together() {
    let kind = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token";
    let form = parse(&format!("subject_token=a.b.c&subject_token_type={kind}")).unwrap();
    assert_eq!(form.subject.unwrap().kind, SubjectTokenType::IdToken);
    assert_eq!(
        malformed("subject_token=a.b.c"),
        MalformedForm::SubjectTokenPair
    );
    assert_eq!(
        malformed(&format!("subject_token_type={kind}")),
        MalformedForm::SubjectTokenPair
    );
    assert_eq!(
        malformed("subject_token=a&subject_token_type=jwt"),
        MalformedForm::SubjectTokenType
    );
}

#[test]
fn what_is_not_supported_is_refused_even_when_empty() {
    assert_eq!(malformed("actor_token="), MalformedForm::ActorToken);
    assert_eq!(
        malformed("client_assertion_type=&client_assertion="),
        MalformedForm::ClientAssertion("client_assertion")
    );
    assert_eq!(
        malformed("client_assertion_type="),
        MalformedForm::ClientAssertion("client_assertion_type")
    );
}

#[test]
fn the_first_failing_rule_answers() {
    assert_eq!(
        malformed("ttl_seconds=x&actor_token=1&scope=a&scope=b"),
        MalformedForm::Repeated("scope".to_owned())
    );
    assert_eq!(
        malformed("ttl_seconds=x&actor_token=1"),
        MalformedForm::ActorToken
    );
    assert_eq!(malformed("ttl_seconds=x&resource="), MalformedForm::Ttl);
    let body = b"grant_type=password&resource=";
    let refused = TokenForm::parse(&headers(), body).unwrap_err();
    assert_eq!(refused, MalformedForm::EmptyResource.into());
}

#[test]
fn another_grant_type_is_refused() {
    for grant in ["", "grant_type=client_credentials", "grant_type=+urn:x"] {
        let refused = TokenForm::parse(&headers(), grant.as_bytes()).unwrap_err();
        assert_eq!(refused, MalformedForm::GrantType.into(), "{grant}");
    }
}

#[test]
fn strict_form_data_only() {
    assert_eq!(
        malformed("x=%zz"),
        MalformedForm::Fields(MalformedFields::Escape)
    );
    assert_eq!(
        malformed("x=%2"),
        MalformedForm::Fields(MalformedFields::Escape)
    );
    assert_eq!(
        malformed("x=1;y=2"),
        MalformedForm::Fields(MalformedFields::Semicolon)
    );
    assert_eq!(
        malformed("x=%ff"),
        MalformedForm::Fields(MalformedFields::Encoding)
    );
    assert_eq!(
        malformed("x=a%00b"),
        MalformedForm::Fields(MalformedFields::Zero)
    );
    let many: String = (0..600).map(|n| format!("f{n}=1&")).collect();
    assert_eq!(
        malformed(&many),
        MalformedForm::Fields(MalformedFields::TooMany)
    );
}

#[test]
fn counts_and_sizes_are_bounded() {
    let many: String = (0..=MAX_RESOURCES)
        .map(|n| format!("resource=r{n}&"))
        .collect();
    assert_eq!(malformed(&many), MalformedForm::TooManyResources);
    let long = format!("scope={}", "a".repeat(MAX_SCOPE_BYTES + 1));
    assert_eq!(malformed(&long), MalformedForm::ScopeTooLong);
    let large = vec![b'a'; MAX_BODY_BYTES + 1];
    let refused = TokenForm::parse(&headers(), &large).unwrap_err();
    assert_eq!(refused, MalformedForm::TooLarge.into());
}

#[test]
fn an_id_field_holds_an_id() {
    assert_eq!(
        malformed("agent_session_id=a+b"),
        MalformedForm::Id("agent_session_id")
    );
    assert_eq!(
        malformed("delegation_edge_id=a%2Fb"),
        MalformedForm::Id("delegation_edge_id")
    );
    assert_eq!(malformed("session_id=%0a"), MalformedForm::Id("session_id"));
}

#[test]
fn any_gateway_header_needs_a_proof_that_nobody_can_give_here() {
    for name in gateway_leg::HEADERS {
        let mut headers = headers();
        headers.insert(name, HeaderValue::from_static("1"));
        let refused = TokenForm::parse(&headers, GRANT.as_bytes()).unwrap_err();
        assert_eq!(refused, FormRefused::GatewaySignature, "{name}");
    }
}

#[test]
fn the_head_is_judged_before_the_body_is_read() {
    assert_eq!(
        judge_head(Some("a=b"), &headers()),
        Err(MalformedForm::QueryString)
    );
    assert_eq!(judge_head(Some(""), &headers()), Ok(()));
    let typed =
        |text: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))]);
    for good in [
        "application/x-www-form-urlencoded",
        "Application/X-WWW-Form-Urlencoded; charset=utf-8",
    ] {
        assert_eq!(judge_head(None, &typed(good)), Ok(()), "{good}");
    }
    for bad in [
        "application/json",
        "text/plain",
        "",
        "application/x-www-form-urlencodedx",
    ] {
        assert_eq!(
            judge_head(None, &typed(bad)),
            Err(MalformedForm::MediaType),
            "{bad}"
        );
    }
    assert_eq!(
        judge_head(None, &HeaderMap::new()),
        Err(MalformedForm::MediaType)
    );
}

#[test]
fn a_debug_print_shows_no_secret() {
    let form = parse(
        "client_secret=cs_hidden&subject_token=hidden.token.x\
         &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token",
    );
    assert!(!format!("{form:?}").contains("hidden"));
}

proptest! {
    #[test]
    fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = TokenForm::parse(&headers(), &body);
    }

    #[test]
    fn what_is_encoded_is_read_back(scope in "[ -~]{0,40}", resource in "[!-~]{1,40}") {
        let body = format!(
            "scope={}&resource={}",
            crate::testing::encode(&scope),
            crate::testing::encode(&resource)
        );
        let form = parse(&body).unwrap();
        let expected: Vec<&str> = scope.split_whitespace().collect();
        prop_assert_eq!(form.scope.to_claim().unwrap_or_default(), expected.join(" "));
        prop_assert_eq!(form.resources, vec![resource]);
    }
}
