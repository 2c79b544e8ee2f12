//! The services' own logins: a role whose password the environment gives may log in with it.
//!
//! The database gets a SCRAM-SHA-256 verifier (RFC 5802, RFC 7677) made here, so the password is in
//! no statement. It is set on every run: changing the file changes the login.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use caracal_core::random::bytes;
use caracal_core::{Random, Secret};
use caracal_store::{OpenError, PostgresOptions, ServiceRole, give_login};

use crate::config::Environment;

/// Rounds of the derivation: what the server itself uses.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4_095);

/// A role and its password.
pub(super) type Login = (ServiceRole, Secret<String>);

/// The variable that holds a role's password.
const fn variable(role: ServiceRole) -> &'static str {
    match role {
        ServiceRole::Api => "CARACAL_API_DB_PASSWORD",
        ServiceRole::Sts => "CARACAL_STS_DB_PASSWORD",
        ServiceRole::Gateway => "CARACAL_GATEWAY_DB_PASSWORD",
        ServiceRole::Audit => "CARACAL_AUDIT_DB_PASSWORD",
        ServiceRole::Coordinator => "CARACAL_COORDINATOR_DB_PASSWORD",
    }
}

/// The passwords that the environment gives.
///
/// # Errors
/// A text that names the variable whose file can't be read or whose value can't be a password.
pub(super) fn from(environment: &Environment) -> Result<Vec<Login>, Box<dyn std::error::Error>> {
    let mut logins = Vec::new();
    for role in ServiceRole::ALL {
        let name = variable(role);
        if let Some(password) = environment.secret(name)? {
            // Other characters would need the preparation of RFC 4013 to mean the same everywhere.
            if !password.expose().bytes().all(|b| (0x20..0x7f).contains(&b)) {
                return Err(format!("{name}: only printable ASCII characters").into());
            }
            logins.push((role, password));
        }
    }
    Ok(logins)
}

/// Gives the roles their logins; answers their names.
pub(super) async fn give(
    options: &PostgresOptions,
    logins: &[Login],
    random: &dyn Random,
) -> Result<Vec<&'static str>, OpenError> {
    let mut given = Vec::new();
    for (role, password) in logins {
        let verifier = verifier(password, &bytes::<16>(random));
        give_login(options, *role, &verifier).await?;
        given.push(role.name());
    }
    Ok(given)
}

fn verifier(password: &Secret<String>, salt: &[u8; 16]) -> String {
    let mut salted = [0; 32];
    let password = password.expose().as_bytes();
    derive(PBKDF2_HMAC_SHA256, ROUNDS, salt, password, &mut salted);
    let salted = Secret::new(salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, salted.expose());
    let client = hmac::sign(&key, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&key, b"Server Key");
    format!(
        "SCRAM-SHA-256${ROUNDS}:{}${}:{}",
        BASE64_STANDARD.encode(salt),
        BASE64_STANDARD.encode(stored),
        BASE64_STANDARD.encode(server)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_what_the_server_would_make() {
        // RFC 7677, section 3: user "user", password "pencil".
        let salt: [u8; 16] = BASE64_STANDARD
            .decode("W22ZaJ0SNY7soEsUEjb6gQ==")
            .unwrap()
            .try_into()
            .unwrap();
        assert_eq!(
            verifier(&Secret::new("pencil".to_owned()), &salt),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
             WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn a_password_that_could_mean_two_things_is_refused() {
        let mut environment = Environment::default();
        environment.set("CARACAL_STS_DB_PASSWORD", "pässword");
        let error = from(&environment).unwrap_err().to_string();
        assert!(error.starts_with("CARACAL_STS_DB_PASSWORD"), "{error}");
        assert!(!error.contains("pässword"));
    }
}
