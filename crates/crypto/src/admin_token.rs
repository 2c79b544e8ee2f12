//! Operator tokens: the digest they are looked up by, the console's derived tokens, and the
//! assertion by which the console says which account acts.

use caracal_core::{Secret, Timestamp};
use thiserror::Error;

use crate::base64url;
use crate::digest::sha256;
use crate::hmac_key::HmacKey;

/// The longest account id, in bytes.
const MAX_ACCOUNT_BYTES: usize = 256;

/// SHA-256 of a token: what the store looks rows up by.
#[must_use]
pub fn token_digest(token: &Secret<String>) -> [u8; 32] {
    sha256(token.expose().as_bytes())
}

/// A token that the console derives from the bootstrap token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleToken {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Decides approvals.
    Approve,
}

impl ConsoleToken {
    fn label(self) -> &'static str {
        match self {
            Self::Read => "caracal:console:read-only:v1",
            Self::Write => "caracal:console:write:v1",
            Self::Approve => "caracal:console:approve:v1",
        }
    }

    /// The token's value under the given bootstrap token (`CARACAL_ADMIN_TOKEN`).
    #[must_use]
    pub fn derive(self, admin_token: &Secret<String>) -> Secret<String> {
        let tag = admin_key(admin_token).sign(self.label().as_bytes());
        Secret::new(format!("cat_{}", base64url::encode(tag)))
    }
}

/// Why an account assertion is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AssertionError {
    /// Not `v1.<account>.<exp>.<mac>` with an account of 1 to 256 bytes.
    #[error("the account assertion is malformed")]
    Malformed,
    /// `exp` has come.
    #[error("the account assertion has expired")]
    Expired,
    /// The code does not fit.
    #[error("the account assertion does not verify")]
    Mismatch,
}

/// Asserts, with the bootstrap token, that `account` acts until `expires_at` (whole seconds).
#[must_use]
pub fn assert_account(
    admin_token: &Secret<String>,
    account: &str,
    expires_at: Timestamp,
) -> Secret<String> {
    let exp = expires_at.seconds();
    let tag = admin_key(admin_token).sign(asserted(account, exp).as_bytes());
    let account = base64url::encode(account);
    Secret::new(format!("v1.{account}.{exp}.{}", base64url::encode(tag)))
}

/// The account of an assertion that the holder of the bootstrap token made.
///
/// # Errors
/// [`AssertionError`] when it is malformed, expired or not authentic.
pub fn verify_account_assertion(
    admin_token: &Secret<String>,
    assertion: &str,
    now: Timestamp,
) -> Result<String, AssertionError> {
    let (account, exp, tag) = parse_assertion(assertion).ok_or(AssertionError::Malformed)?;
    if exp <= now.seconds() {
        return Err(AssertionError::Expired);
    }
    if admin_key(admin_token).verify(asserted(&account, exp).as_bytes(), &tag) {
        Ok(account)
    } else {
        Err(AssertionError::Mismatch)
    }
}

fn parse_assertion(assertion: &str) -> Option<(String, i64, [u8; 32])> {
    let mut parts = assertion.split('.');
    let (version, account, exp, tag) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "v1" || parts.next().is_some() || account.len() > MAX_ACCOUNT_BYTES * 2 {
        return None;
    }
    let account = String::from_utf8(base64url::decode(account)?).ok()?;
    if !(1..=MAX_ACCOUNT_BYTES).contains(&account.len()) {
        return None;
    }
    Some((account, exp.parse().ok()?, base64url::decode_array(tag)?))
}

fn asserted(account: &str, exp: i64) -> String {
    format!("caracal:account:v1:{account}:{exp}")
}

fn admin_key(admin_token: &Secret<String>) -> HmacKey {
    HmacKey::from_secret_bytes(admin_token.expose().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn admin_token() -> Secret<String> {
        secret("vector-admin-token-0123456789abcdef")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_token_is_looked_up_by_its_sha256() {
        assert_eq!(
            hex::encode(token_digest(&admin_token())),
            "72de8de223848ff34ed8992b1fb77ff151e37c9880d031df9292e51042180a0e"
        );
    }

    #[test]
    fn console_tokens_follow_from_the_bootstrap_token() {
        let other = secret("admin-token-for-vectors-0123456789abcdef");
        for (admin, kind, expected) in [
            (
                admin_token(),
                ConsoleToken::Read,
                "cat_IZCTVHl3_8RrvD46G48qUDSertlNNFHH4NgHKLLgxpY",
            ),
            (
                admin_token(),
                ConsoleToken::Write,
                "cat_dJgEUXgbJOFzSpGfrowtazy2AqaKTehf8xdPPxKmkgg",
            ),
            (
                admin_token(),
                ConsoleToken::Approve,
                "cat_55U_vBVP25xevd3R5TOzIEgE105Y9_lIBUxq8g1MvGs",
            ),
            (
                other.clone(),
                ConsoleToken::Read,
                "cat_DSowcjZs5gqS1pl5Grm7Eg-q0oI2-_esDGL0UsaFt6w",
            ),
            (
                other.clone(),
                ConsoleToken::Write,
                "cat_RgyQfn1MjN4MF8zDSDpjHZnuv5HTgFALaTK47CqTpzw",
            ),
            (
                other,
                ConsoleToken::Approve,
                "cat_LtSm34vh64VaJqx1suMhgvRvEJt_SSPHXcl4tOwFwMs",
            ),
        ] {
            assert_eq!(kind.derive(&admin).expose(), expected);
        }
    }

    #[test]
    fn an_assertion_has_the_published_form() {
        assert_eq!(
            assert_account(&admin_token(), "acct_7Qm2", at(1_893_456_000)).expose(),
            "v1.YWNjdF83UW0y.1893456000.psWLXYmGralfjgXppGhcNmyeE1yyPV807fwN04UtWT4"
        );
        let other = secret("admin-token-for-vectors-0123456789abcdef");
        assert_eq!(
            assert_account(&other, "acct-1", at(1_767_323_105)).expose(),
            "v1.YWNjdC0x.1767323105.j5eVURvkBYmjgXQ1nZpp9pbeZECD67QI6uWm6wFha_o"
        );
    }

    #[test]
    fn an_assertion_holds_until_its_expiry() {
        let assertion = assert_account(&admin_token(), "acct_7Qm2", at(100));
        let verify = |now| verify_account_assertion(&admin_token(), assertion.expose(), at(now));
        assert_eq!(verify(99).as_deref(), Ok("acct_7Qm2"));
        assert_eq!(verify(100), Err(AssertionError::Expired));
    }

    #[test]
    fn an_assertion_under_another_token_or_for_another_account_is_refused() {
        let assertion = assert_account(&admin_token(), "acct_7Qm2", at(100));
        let result = verify_account_assertion(&secret("other"), assertion.expose(), at(0));
        assert_eq!(result, Err(AssertionError::Mismatch));
        let renamed = assertion
            .expose()
            .replace("YWNjdF83UW0y", &base64url::encode("acct_1"));
        let result = verify_account_assertion(&admin_token(), &renamed, at(0));
        assert_eq!(result, Err(AssertionError::Mismatch));
    }

    #[test]
    fn an_assertion_has_four_parts_and_a_nameable_account() {
        let tag = base64url::encode([0; 32]);
        let of = |account: &str| format!("v1.{}.100.{tag}", base64url::encode(account));
        for bad in [
            String::new(),
            format!("v2.YQ.100.{tag}"),
            format!("v1.YQ.100.{tag}.x"),
            format!("v1.YQ=.100.{tag}"),
            format!("v1.YQ.soon.{tag}"),
            "v1.YQ.100".to_owned(),
            "v1.YQ.100.AAAA".to_owned(),
            of(""),
            of(&"a".repeat(257)),
        ] {
            let result = verify_account_assertion(&admin_token(), &bad, at(0));
            assert_eq!(result, Err(AssertionError::Malformed), "{bad}");
        }
        let longest = verify_account_assertion(&admin_token(), &of(&"a".repeat(256)), at(0));
        assert_eq!(longest, Err(AssertionError::Mismatch));
    }
}
