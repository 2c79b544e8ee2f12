use std::sync::Arc;
use std::sync::atomic::Ordering;

use caracal_core::{ManualClock, Secret, SeededRandom, Timestamp};

use super::{MAX_WAITING, REMEMBER_SECONDS, SecretVerifier, VerifierBusy};
use crate::client_secret::{Peppers, hash_chosen};
use crate::kek::{Kek, KeyRing};

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

/// A chosen secret's stored form.
fn slow(text: &str, seed: u64) -> String {
    hash_chosen(&secret(text), &SeededRandom::new(seed)).unwrap()
}

fn verifier_on(clock: Arc<ManualClock>) -> SecretVerifier {
    let kek = Kek::from_bytes(Secret::new(crate::sha256(b"kek"))).unwrap();
    let peppers = Peppers::derive(&KeyRing::new(kek, None)).unwrap();
    SecretVerifier::new(peppers, 1, clock, &SeededRandom::new(1))
}

fn verifier() -> SecretVerifier {
    verifier_on(Arc::new(ManualClock::at(Timestamp::from_seconds(
        1_767_225_600,
    ))))
}

/// The answer if it is there at once; `None` if it would take a derivation. Meaningful while the
/// verifier's only slot is taken.
async fn at_once(
    verifier: &SecretVerifier,
    stored: &str,
    presented: &str,
) -> Option<Result<bool, VerifierBusy>> {
    let presented = secret(presented);
    tokio::select! {
        biased;
        answer = verifier.verify(stored, &presented) => Some(answer),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn a_generated_secret_is_verified_without_a_slot() {
    let verifier = verifier();
    let stored = verifier.peppers().hash_generated(&secret("cs_secret"));
    let _slot = Arc::clone(&verifier.0.slots).acquire_owned().await.unwrap();
    assert_eq!(
        at_once(&verifier, &stored, "cs_secret").await,
        Some(Ok(true))
    );
    assert_eq!(
        at_once(&verifier, &stored, "cs_other").await,
        Some(Ok(false))
    );
}

#[tokio::test]
async fn a_chosen_secret_is_derived_once_and_then_remembered() {
    let verifier = verifier();
    let stored = slow("chosen", 1);
    assert_eq!(verifier.verify(&stored, &secret("chosen")).await, Ok(true));
    assert_eq!(verifier.verify(&stored, &secret("wrong")).await, Ok(false));
    let _slot = Arc::clone(&verifier.0.slots).acquire_owned().await.unwrap();
    assert_eq!(at_once(&verifier, &stored, "chosen").await, Some(Ok(true)));
    assert_eq!(at_once(&verifier, &stored, "wrong").await, Some(Ok(false)));
    assert_eq!(at_once(&verifier, &stored, "another").await, None);
}

#[tokio::test]
async fn a_rotated_secret_never_meets_an_old_outcome() {
    let verifier = verifier();
    assert_eq!(
        verifier.verify(&slow("chosen", 1), &secret("chosen")).await,
        Ok(true)
    );
    let _slot = Arc::clone(&verifier.0.slots).acquire_owned().await.unwrap();
    assert_eq!(
        at_once(&verifier, &slow("rotated", 2), "chosen").await,
        None
    );
}

#[tokio::test]
async fn an_outcome_is_forgotten_after_a_while() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_767_225_600)));
    let verifier = verifier_on(clock.clone());
    let stored = slow("chosen", 1);
    assert_eq!(verifier.verify(&stored, &secret("chosen")).await, Ok(true));
    let _slot = Arc::clone(&verifier.0.slots).acquire_owned().await.unwrap();
    clock.advance_seconds(REMEMBER_SECONDS - 1);
    assert_eq!(at_once(&verifier, &stored, "chosen").await, Some(Ok(true)));
    clock.advance_seconds(1);
    assert_eq!(at_once(&verifier, &stored, "chosen").await, None);
}

#[tokio::test]
async fn callers_beyond_the_queue_are_told_to_come_again() {
    let verifier = verifier();
    verifier.0.waiting.store(MAX_WAITING, Ordering::Relaxed);
    let answer = verifier.verify(&slow("chosen", 1), &secret("chosen")).await;
    assert_eq!(answer, Err(VerifierBusy));
    assert_eq!(verifier.0.waiting.load(Ordering::Relaxed), MAX_WAITING);
}

#[tokio::test]
async fn a_caller_that_gives_up_leaves_the_queue() {
    let verifier = verifier();
    let slot = Arc::clone(&verifier.0.slots).acquire_owned().await.unwrap();
    let stored = slow("chosen", 1);
    assert_eq!(at_once(&verifier, &stored, "chosen").await, None);
    assert_eq!(verifier.0.waiting.load(Ordering::Relaxed), 0);
    drop(slot);
    assert_eq!(verifier.verify(&stored, &secret("chosen")).await, Ok(true));
}

#[tokio::test]
async fn callers_with_the_same_secret_share_one_derivation() {
    let verifier = verifier();
    let stored = slow("chosen", 1);
    let slot = Arc::clone(&verifier.0.slots).acquire_owned().await.unwrap();
    let presented = secret("chosen");
    let mut first = Box::pin(verifier.verify(&stored, &presented));
    let mut second = Box::pin(verifier.verify(&stored, &presented));
    tokio::select! {
        biased;
        _ = &mut first => panic!("the only slot is taken"),
        _ = &mut second => panic!("the only slot is taken"),
        () = std::future::ready(()) => {}
    }
    drop(slot);
    assert_eq!(first.await, Ok(true));
    let _slot = Arc::clone(&verifier.0.slots).acquire_owned().await.unwrap();
    assert_eq!(second.await, Ok(true));
}

#[tokio::test]
async fn an_empty_or_endless_secret_costs_nothing() {
    let verifier = verifier();
    let stored = slow("chosen", 1);
    let _slot = Arc::clone(&verifier.0.slots).acquire_owned().await.unwrap();
    for bad in [String::new(), "x".repeat(100_000)] {
        assert_eq!(at_once(&verifier, &stored, &bad).await, Some(Ok(false)));
    }
}

#[tokio::test]
async fn damaged_stored_text_is_a_refusal() {
    let verifier = verifier();
    for bad in [
        "",
        "$argon2id$",
        "$argon2id$v=19$m=65536,t=3,p=2$AAEC$",
        "plain",
    ] {
        assert_eq!(
            verifier.verify(bad, &secret("plain")).await,
            Ok(false),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn only_a_chosen_secret_that_is_not_remembered_must_be_derived() {
    let verifier = verifier();
    let (chosen, stored) = (secret("a-chosen-secret"), slow("a-chosen-secret", 3));
    let generated = verifier.peppers().hash_generated(&secret("cs_secret"));
    assert!(!verifier.must_derive(&generated, &secret("cs_secret")));
    assert!(!verifier.must_derive(&stored, &secret("")));
    assert!(verifier.must_derive(&stored, &chosen));
    assert_eq!(verifier.verify(&stored, &chosen).await, Ok(true));
    assert!(!verifier.must_derive(&stored, &chosen));
    assert_eq!(verifier.concurrency(), 1);
}
