//! Entry points for fuzzers: each takes any bytes and must return.

use std::sync::LazyLock;

use caracal_core::Timestamp;
use caracal_core::id::{KeyId, ZoneId};

use crate::claims::{self, MandateUse};
use crate::key_set::KeySet;
use crate::mandate::{Expectation, verify};
use crate::peek::peek;
use crate::zone_key::SigningKey;

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    KeyId::parse("k1")
        .ok()
        .and_then(|kid| SigningKey::generate(kid).ok())
        .map(|key| key.verifying_key().clone())
        .into_iter()
        .collect()
});

static ZONE: LazyLock<Option<ZoneId>> = LazyLock::new(|| ZoneId::parse("zone-1").ok());

/// Feeds `data` to everything that reads mandates and key sets: as a token, as the payload behind a
/// good signature, and as a key set.
pub fn fuzz_mandate(data: &[u8]) {
    if let Ok(token) = std::str::from_utf8(data) {
        let _ = peek(token);
        if let Some(zone) = ZONE.as_ref() {
            let expect = Expectation {
                issuer: "https://sts.example",
                audience: "https://sts.example",
                zone,
                uses: &[
                    MandateUse::Session,
                    MandateUse::Gateway,
                    MandateUse::Resource,
                ],
                now: Timestamp::from_seconds(1_767_225_600),
                leeway_seconds: 60,
            };
            let _ = verify(token, &KEYS, &expect);
        }
    }
    let _ = claims::read(data);
    let _ = KeySet::from_jwks_json(data);
}
