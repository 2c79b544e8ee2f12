//! The hash that names a policy set version's content.

use aws_lc_rs::digest::{SHA256, digest};
use caracal_core::id::PolicyVersionId;

/// Lower-case hex SHA-256 of the compact JSON array of `{"policy_version_id":…}`, in the given
/// order.
#[must_use]
pub fn manifest_sha256(versions: &[PolicyVersionId]) -> String {
    let rows: Vec<String> = versions.iter().map(row).collect();
    hex::encode(digest(&SHA256, format!("[{}]", rows.join(",")).as_bytes()))
}

/// Ids are of an alphabet that JSON does not escape.
fn row(policy_version_id: &PolicyVersionId) -> String {
    format!("{{\"policy_version_id\":\"{policy_version_id}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_over_compact_json_in_manifest_order() {
        let id = |text: &str| PolicyVersionId::parse(text).unwrap();
        let a = id("0190f000-0000-7000-8000-00000000000a");
        let b = id("0190f000-0000-7000-8000-00000000000b");
        assert_eq!(
            manifest_sha256(&[a.clone(), b.clone()]),
            "d979338bead90e08be142547ae2339dcc786fb7f808ffe4d5d8b7c716f101886"
        );
        assert_ne!(manifest_sha256(&[b, a.clone()]), manifest_sha256(&[a]));
    }
}
