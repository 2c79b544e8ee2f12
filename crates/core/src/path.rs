//! Request paths and operation templates.
//!
//! The Gateway forwards the caller's bytes and the STS judges decoded segments. Both come from one
//! parse: the raw path is split on `/` first and each segment is decoded once, so `%2F` never makes a
//! segment and what was authorised is what is sent. Anything that two servers could read differently
//! (dot segments, path parameters on them, backslashes, control characters, bad escapes) is refused.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Longest path that is looked at, bytes.
pub const MAX_PATH_BYTES: usize = 8 * 1024;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathRejected {
    /// Does not begin with `/`.
    #[error("the path must be absolute")]
    NotAbsolute,
    /// Over [`MAX_PATH_BYTES`].
    #[error("the path is too long")]
    TooLong,
    /// `%` without two hex digits, or bytes that are not UTF-8.
    #[error("the path has an invalid percent escape")]
    BadEscape,
    /// `.` or `..`, at any depth of decoding, also before a `;`.
    #[error("the path has a dot segment")]
    DotSegment,
    /// A backslash or a control character, plain or encoded.
    #[error("the path has a forbidden character")]
    ForbiddenCharacter,
}

/// A request path, split on raw slashes, each segment percent-decoded once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestPath {
    raw: Arc<str>,
    segments: Arc<[Box<str>]>,
}

impl RequestPath {
    /// Splits and decodes a raw (still encoded) path without its query.
    ///
    /// # Errors
    /// [`PathRejected`] for every form that could be read differently further on.
    pub fn parse(raw: &str) -> Result<Self, PathRejected> {
        if raw.len() > MAX_PATH_BYTES {
            return Err(PathRejected::TooLong);
        }
        let rest = raw.strip_prefix('/').ok_or(PathRejected::NotAbsolute)?;
        let segments = rest
            .split('/')
            .map(parse_segment)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            raw: raw.into(),
            segments: segments.into(),
        })
    }

    /// The bytes that the caller sent; forward these.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The decoded segments; a trailing slash gives a last empty one.
    #[must_use]
    pub fn segments(&self) -> &[Box<str>] {
        &self.segments
    }
}

impl fmt::Debug for RequestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.raw, f)
    }
}

impl fmt::Display for RequestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw)
    }
}

fn parse_segment(raw: &str) -> Result<Box<str>, PathRejected> {
    let decoded = decode_once(raw)?;
    let mut round = decoded.clone();
    loop {
        judge_characters(&round)?;
        let Ok(next) = decode_once(&round) else { break };
        if next == round {
            break;
        }
        round = next;
    }
    Ok(decoded.into_boxed_str())
}

fn judge_characters(segment: &str) -> Result<(), PathRejected> {
    if segment.chars().any(|c| c == '\\' || c.is_control()) {
        return Err(PathRejected::ForbiddenCharacter);
    }
    let is_dots = |part: &str| {
        let name = part.split(';').next().unwrap_or_default().trim();
        name == "." || name == ".."
    };
    if segment.split('/').any(is_dots) {
        Err(PathRejected::DotSegment)
    } else {
        Ok(())
    }
}

fn decode_once(text: &str) -> Result<String, PathRejected> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = tail.get(..2).ok_or(PathRejected::BadEscape)?;
            let high = char::from(digits[0])
                .to_digit(16)
                .ok_or(PathRejected::BadEscape)?;
            let low = char::from(digits[1])
                .to_digit(16)
                .ok_or(PathRejected::BadEscape)?;
            bytes.push(u8::try_from(high * 16 + low).map_err(|_| PathRejected::BadEscape)?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| PathRejected::BadEscape)
}

/// Why a text is no operation path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TemplateRejected {
    /// Does not begin with `/`.
    #[error("an operation path begins with '/'")]
    NotAbsolute,
    /// A brace that is not a whole-segment `{name}`.
    #[error(
        "a template segment is {{name}}: a letter or '_', then letters, digits or '_', at most 64"
    )]
    BadTemplate,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum TemplateSegment {
    Literal(Box<str>),
    Parameter,
}

/// A declared operation path: literal segments, or `{name}` for exactly one non-empty segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathTemplate(Vec<TemplateSegment>);

impl PathTemplate {
    /// Parses a declared path. Two templates are equal when they have the same shape, whatever their
    /// parameters are called.
    ///
    /// # Errors
    /// [`TemplateRejected`] when it is not absolute or a brace does not make a whole `{name}` segment.
    pub fn parse(text: &str) -> Result<Self, TemplateRejected> {
        let rest = text
            .strip_prefix('/')
            .ok_or(TemplateRejected::NotAbsolute)?;
        rest.split('/')
            .map(parse_template_segment)
            .collect::<Result<Vec<_>, _>>()
            .map(Self)
    }

    /// Whether a request path has this shape. Literals compare exactly, case-sensitive.
    #[must_use]
    pub fn matches(&self, path: &RequestPath) -> bool {
        let segments = path.segments();
        segments.len() == self.0.len()
            && self
                .0
                .iter()
                .zip(segments)
                .all(|(declared, sent)| match declared {
                    TemplateSegment::Literal(text) => text == sent,
                    TemplateSegment::Parameter => !sent.is_empty(),
                })
    }

    /// Orders templates that match the same path: left to right a literal beats a parameter.
    #[must_use]
    pub fn is_more_specific_than(&self, other: &Self) -> bool {
        let literal = |segment: &TemplateSegment| matches!(segment, TemplateSegment::Literal(_));
        for (mine, theirs) in self.0.iter().zip(&other.0) {
            match (literal(mine), literal(theirs)) {
                (true, false) => return true,
                (false, true) => return false,
                _ => {}
            }
        }
        false
    }
}

fn parse_template_segment(segment: &str) -> Result<TemplateSegment, TemplateRejected> {
    if !segment.contains(['{', '}']) {
        return Ok(TemplateSegment::Literal(segment.into()));
    }
    let name = segment
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .ok_or(TemplateRejected::BadTemplate)?;
    let mut characters = name.chars();
    let first_ok = characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let rest_ok = characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if first_ok && rest_ok && name.len() <= 64 {
        Ok(TemplateSegment::Parameter)
    } else {
        Err(TemplateRejected::BadTemplate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dots_inside_a_name_are_fine() {
        for good in [
            "/.env",
            "/foo..bar",
            "/a/...",
            "/",
            "/a//b",
            "/50%25",
            "/a%2Fb",
            "/a;v=1",
        ] {
            assert!(RequestPath::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn every_spelling_of_a_dot_segment_is_refused() {
        for bad in [
            "/a/%2e%2e/b",
            "/a/%252e%252e/b",
            "/a/..%2fb",
            "/a/../b",
            "/a/.",
            "/a/..;/b",
            "/a/..;x=1/b",
            "/a/%2e%2e;x/b",
            "/..",
        ] {
            assert_eq!(
                RequestPath::parse(bad),
                Err(PathRejected::DotSegment),
                "{bad}"
            );
        }
    }

    #[test]
    fn backslashes_control_characters_and_bad_escapes_are_refused() {
        for bad in [
            "/a\\b",
            "/a/%5cb",
            "/a/%255cb",
            "/a%00",
            "/a%0d%0a",
            "/a%7f",
        ] {
            assert_eq!(
                RequestPath::parse(bad),
                Err(PathRejected::ForbiddenCharacter),
                "{bad}"
            );
        }
        for bad in ["/%", "/%g0", "/%f", "/%ff"] {
            assert_eq!(
                RequestPath::parse(bad),
                Err(PathRejected::BadEscape),
                "{bad}"
            );
        }
        assert_eq!(RequestPath::parse("a"), Err(PathRejected::NotAbsolute));
    }

    #[test]
    fn an_encoded_slash_never_makes_a_segment() {
        let path = RequestPath::parse("/a%2Fb/c").unwrap();
        assert_eq!(path.segments().len(), 2);
        assert!(!PathTemplate::parse("/a/b/c").unwrap().matches(&path));
    }

    #[test]
    fn a_parameter_matches_exactly_one_non_empty_segment() {
        let template = PathTemplate::parse("/v1/items/{id}").unwrap();
        let matches = |path| template.matches(&RequestPath::parse(path).unwrap());
        assert!(matches("/v1/items/7"));
        assert!(!matches("/v1/items/"));
        assert!(!matches("/v1/items/7/"));
        assert!(!matches("/v1/Items/7"));
        assert!(!matches("/v1/items"));
    }

    #[test]
    fn left_to_right_a_literal_beats_a_parameter() {
        let literal = PathTemplate::parse("/v1/items/{x}").unwrap();
        let parameter = PathTemplate::parse("/v1/{x}/items").unwrap();
        assert!(literal.is_more_specific_than(&parameter));
        assert!(!parameter.is_more_specific_than(&literal));
    }

    #[test]
    fn the_same_shape_is_equal_whatever_the_names() {
        assert_eq!(
            PathTemplate::parse("/a/{x}"),
            PathTemplate::parse("/a/{other}")
        );
        for bad in ["/a/{", "/a/{}", "/a/x{y}", "/a/{1}", "/a/{a-b}", "/{x}{y}"] {
            assert_eq!(
                PathTemplate::parse(bad),
                Err(TemplateRejected::BadTemplate),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn an_accepted_path_never_holds_a_dot_segment(raw in "/[a-z./%0-9;\\\\]{0,24}") {
            if let Ok(path) = RequestPath::parse(&raw) {
                for segment in path.segments() {
                    prop_assert!(segment.as_ref() != "." && segment.as_ref() != "..");
                    prop_assert!(!segment.contains('\\'));
                }
            }
        }
    }
}
