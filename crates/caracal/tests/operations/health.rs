//! `caracal healthcheck` against a stack that runs.

use crate::shop::{Shop, run};

const CERTIFICATES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../gateway/tests/suite/fixtures"
);

#[tokio::test(flavor = "multi_thread")]
async fn a_running_stack_is_well_and_a_stopped_one_is_not() {
    let shop = Shop::new().await;
    let stack = shop.start().await;
    for arguments in [
        &["healthcheck"][..],
        &["healthcheck", "--ready"],
        &[
            "healthcheck",
            "--role",
            "sts,gateway",
            "--ready",
            "--timeout",
            "5s",
        ],
    ] {
        let answer = shop.run(arguments).await;
        assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
    }
    let gateway = stack
        .endpoints
        .gateway
        .replace("http://localhost", "127.0.0.1");
    let elsewhere = [
        ("CARACAL_HOME", "/nonexistent/caracal"),
        ("CARACAL_GATEWAY_LISTEN", gateway.as_str()),
    ];
    let probe = ["healthcheck", "--role", "gateway"];
    assert_eq!(run(&probe, &elsewhere).await.code, Some(0));
    shop.down(stack).await;
    let answer = run(&probe, &elsewhere).await;
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.err.contains("nobody listens"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_serves_tls_is_asked_over_tls() {
    let shop = Shop::new().await;
    let (certificate, key) = (
        format!("{CERTIFICATES}/server.pem"),
        format!("{CERTIFICATES}/server.key"),
    );
    let tls = [
        ("TLS_CERT_FILE", certificate.as_str()),
        ("TLS_KEY_FILE", key.as_str()),
    ];
    let home = shop.home();
    let stack = caracal::stack_process::StackProcess::start(crate::shop::binary(), &home, &tls)
        .await
        .unwrap();
    let variables = [tls[0], tls[1], ("CARACAL_HOME", home.to_str().unwrap())];
    let probe = ["healthcheck", "--role", "gateway", "--ready"];
    let answer = run(&probe, &variables).await;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let answer = run(&probe, &variables[2..]).await;
    assert_eq!(
        answer.code,
        Some(1),
        "a listener of TLS answers no plain request: {answer:?}"
    );
    drop(stack);
}
