//! Form data, decoded strictly.

use std::str::FromStr;

use thiserror::Error;
use zeroize::Zeroize;

use super::MalformedForm;

/// Most fields of one body: far beyond any real request, small enough to search linearly.
const MAX_FIELDS: usize = 512;

/// Why a body is not form data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum MalformedFields {
    /// `%` without two hex digits.
    #[error("a percent sign needs two hex digits after it")]
    Escape,
    /// A raw `;`, which some parsers read as a separator.
    #[error("a semicolon must be percent-encoded")]
    Semicolon,
    /// Bytes that are not UTF-8.
    #[error("a value is not UTF-8")]
    Encoding,
    /// A zero byte, which no value has a use for and no text column holds.
    #[error("a value has a zero byte")]
    Zero,
    /// More than 512 fields.
    #[error("at most {MAX_FIELDS} fields may be sent")]
    TooMany,
}

/// The fields of a body in the order sent. Values may be secrets: they are wiped on drop.
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, MalformedFields> {
        let mut fields = Self(Vec::with_capacity(12));
        for piece in body
            .split(|byte| *byte == b'&')
            .filter(|piece| !piece.is_empty())
        {
            if fields.0.len() == MAX_FIELDS {
                return Err(MalformedFields::TooMany);
            }
            let split = piece.iter().position(|byte| *byte == b'=');
            let (name, value) = match split {
                Some(at) => (&piece[..at], &piece[at + 1..]),
                None => (piece, &[][..]),
            };
            fields.0.push((decode(name)?, decode(value)?));
        }
        Ok(fields)
    }

    /// Only `resource` may appear more than once.
    pub(crate) fn judge_repetition(&self) -> Result<(), MalformedForm> {
        let mut names: Vec<&str> = self
            .0
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| *name != "resource")
            .collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(MalformedForm::Repeated(printable(pair[0]))),
            None => Ok(()),
        }
    }

    /// Each of `names` once, and nothing else.
    pub(crate) fn judge_exactly(&self, names: &[&'static str]) -> Result<(), MalformedForm> {
        for name in names {
            let times = self.0.iter().filter(|(held, _)| held == name).count();
            if times != 1 {
                return Err(MalformedForm::Field(name));
            }
        }
        if self.0.len() == names.len() {
            Ok(())
        } else {
            Err(MalformedForm::Field("beside the known ones"))
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(held, _)| held == name)
    }

    /// The value of a field, empty when it was not sent.
    pub(crate) fn take(&mut self, name: &str) -> String {
        let held = self.0.iter_mut().find(|(held, _)| held == name);
        held.map(|(_, value)| std::mem::take(value))
            .unwrap_or_default()
    }

    /// An id, absent when the field is empty.
    pub(crate) fn take_id<T: FromStr>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, MalformedForm> {
        let text = self.take(name);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| MalformedForm::Id(name))
    }

    pub(crate) fn take_resources(&mut self) -> Vec<String> {
        let named = self.0.iter_mut().filter(|(name, _)| name == "resource");
        named.map(|(_, value)| std::mem::take(value)).collect()
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        for (_, value) in &mut self.0 {
            value.zeroize();
        }
    }
}

/// A field name fit for an error text.
fn printable(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_ascii_graphic())
        .take(64)
        .collect()
}

fn decode(raw: &[u8]) -> Result<String, MalformedFields> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b';' => return Err(MalformedFields::Semicolon),
            b'%' => hex_digit(rest.next())? * 16 + hex_digit(rest.next())?,
            other => other,
        });
    }
    if bytes.contains(&0) {
        return Err(MalformedFields::Zero);
    }
    String::from_utf8(bytes).map_err(|_| MalformedFields::Encoding)
}

fn hex_digit(byte: Option<u8>) -> Result<u8, MalformedFields> {
    match byte {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(MalformedFields::Escape),
    }
}
