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
