//! `caracal doctor` on an embedded stack.

use std::os::unix::fs::PermissionsExt;

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_stack_is_told_sound_whether_it_runs_or_not() {
    let shop = Shop::new().await;
    let stack = shop.start().await;
    shop.provision(&stack).await;
    for running in [true, false] {
        let answer = shop.run(&["doctor", "--json"]).await;
        assert_eq!(answer.code, Some(0), "running {running}: {answer:?}");
        let report = answer.json();
        assert_eq!(report["fail"], 0, "{report}");
        assert_eq!(report["warn"], 0, "{report}");
        for name in [
            "configuration",
            "store",
            "sealed values",
            "signing keys",
            "outbox",
        ] {
            let checks = report["checks"].as_array().unwrap();
            assert!(checks.iter().any(|c| c["name"] == name), "{name}: {report}");
        }
        if running {
            let down = shop.run(&["down"]).await;
            assert_eq!(down.code, Some(0), "{down:?}");
        }
    }
    let left = std::fs::read_dir(shop.home()).unwrap();
    let names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().contains("look")),
        "{names:?}"
    );
    drop(stack);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_defect_has_one_remedy_and_no_secret_is_shown() {
    let shop = Shop::new().await;
    let stack = shop.start().await;
    shop.provision(&stack).await;
    shop.down(stack).await;
    let secrets = shop.home().join("secrets");
    let kek = secrets.join("secretStoreKek");
    std::fs::set_permissions(&kek, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::write(shop.home().join("caracal.env"), "LOG_LEVEL=loud\n").unwrap();

    let answer = shop.run(&["doctor", "--json"]).await;
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let report = answer.json();
    for check in report["checks"].as_array().unwrap() {
        assert_eq!(
            check["verdict"] == "ok",
            check["remedy"].is_null(),
            "{check}"
        );
    }
    let failed = |name: &str| {
        let checks = report["checks"].as_array().unwrap();
        checks
            .iter()
            .any(|c| c["name"] == name && c["verdict"] == "fail")
    };
    assert!(failed("home") && failed("configuration"), "{report}");
    for entry in std::fs::read_dir(&secrets).unwrap() {
        let secret = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(!answer.out.contains(secret.trim()), "{answer:?}");
    }
}
