//! The deployment mode.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// `CARACAL_MODE`. Everything but [`Mode::Dev`] is *published*: insecure settings are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// A developer's machine.
    Dev,
    /// A release candidate; as strict as stable.
    Rc,
    /// Production; also the meaning of an unset mode.
    #[default]
    Stable,
}

impl Mode {
    /// Whether insecure settings are refused.
    #[must_use]
    pub fn is_published(self) -> bool {
        self != Self::Dev
    }

    /// The mode's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Rc => "rc",
            Self::Stable => "stable",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no mode.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("CARACAL_MODE is dev, rc or stable, not {0:?}")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text.trim().to_ascii_lowercase().as_str() {
            "dev" => Ok(Self::Dev),
            "rc" => Ok(Self::Rc),
            "stable" => Ok(Self::Stable),
            _ => Err(UnknownMode(text.to_owned())),
        }
    }
}
