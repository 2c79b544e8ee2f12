//! Applications: the clients of the STS.

mod change;
mod create;
mod custody;
mod read;
mod traits;
mod view;

pub(crate) use change::{delete, patch, rotate_secret};
pub(crate) use create::create;
pub(crate) use read::{list, read, reveal};

use caracal_store::entity::Application;

use crate::capability::Actor;
use crate::error::{ApiError, Code};
use crate::request::fields::Trimmed;
use traits::{TraitAuthority, is_privileged};

/// The name of an application.
type ApplicationName = Trimmed<1, 200>;

fn trait_authority(actor: &Actor) -> TraitAuthority {
    if actor.is_global() {
        TraitAuthority::Any
    } else {
        TraitAuthority::Plain
    }
}

/// A key to the control plane must not be taken over by somebody who only holds its zone.
fn refuse_takeover(application: &Application, actor: &Actor) -> Result<(), ApiError> {
    let privileged = application.traits.iter().any(|held| is_privileged(held));
    if privileged && !actor.is_global() {
        Err(Code::TraitForbidden.into())
    } else {
        Ok(())
    }
}
