//! The text before any parser sees it.
//!
//! The parser recurses without a limit of its own on brackets, signs and operators, and where it
//! has to guess (is `[` an array or a comprehension?) it reads the same text twice per level. So
//! the text is cut into tokens here, without recursion, and refused when it nests too deep or when
//! reading it could cost too much. The same tokens answer the checks that need no tree.

use super::{DocumentError, PACKAGE};

/// The longest document, in UTF-16 code units.
const MAX_UTF16_UNITS: usize = 262_144;
/// The deepest nesting of brackets; values nest at most 16, the rest is for the rules around them.
const MAX_BRACKETS: usize = 20;
/// The most operators, signs and reference steps: each may deepen the tree by one.
pub(super) const MAX_OPERATORS: usize = 1_024;
/// The most token visits that the parser may make, see [`Scan::check_bounds`].
const MAX_PARSE_WORK: u64 = 4_000_000;
/// What opening a bracket costs the parser, in token visits: it saves its state to be able to return.
const BRACKET_WORK: u64 = 8;
/// How often the parser may read the first element of a plain array, set or object.
const PLAIN_REREADS: u64 = 2;
/// How often it may read a bracket at the start of a statement.
const STATEMENT_REREADS: u64 = 8;
/// The longest number, in characters.
const MAX_NUMBER: usize = 40;

const MARKER: &str = "caracal:data-document";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
    Text,
    Symbol,
}

#[derive(Debug, Clone, Copy)]
struct Token<'s> {
    kind: Kind,
    text: &'s str,
    line: u32,
    /// Nothing stands before it on its line.
    leads: bool,
    /// No blank stands before it.
    glued: bool,
    /// How many brackets are open around it.
    depth: usize,
    /// The byte after it.
    end: usize,
    /// The parser's column after it.
    column: usize,
}

/// Where a token ends, for [`super::lines`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The line it ends on.
    pub(super) line: u32,
    /// The parser's column after it.
    pub(super) column: usize,
    /// The byte after it.
    pub(super) end: usize,
    /// A new line may follow it.
    pub(super) separates: bool,
}

/// A document cut into tokens.
#[derive(Debug)]
pub(super) struct Scan<'s> {
    tokens: Vec<Token<'s>>,
    marked: bool,
}

/// Cuts the text into tokens.
pub(super) fn scan(source: &str) -> Result<Scan<'_>, DocumentError> {
    if source.is_empty() {
        return Err(DocumentError::Empty);
    }
    if source.encode_utf16().take(MAX_UTF16_UNITS + 1).count() > MAX_UTF16_UNITS {
        return Err(DocumentError::TooLarge);
    }
    let mut cutter = Cutter {
        source,
        at: 0,
        line: 1,
        column: 0,
        leads: true,
        glued: false,
    };
    let mut scan = Scan {
        tokens: Vec::new(),
        marked: false,
    };
    while let Some(lexeme) = cutter.next()? {
        match lexeme {
            Lexeme::Token(token) => scan.tokens.push(token),
            Lexeme::Comment { text, leads } => scan.marked |= leads && is_marker(text),
        }
    }
    scan.nest()?;
    Ok(scan)
}

fn is_marker(comment: &str) -> bool {
    comment
        .trim_start_matches('#')
        .trim_start()
        .strip_prefix(MARKER)
        .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
        && comment.starts_with('#')
        && !comment.starts_with("##")
}

enum Lexeme<'s> {
    Token(Token<'s>),
    Comment { text: &'s str, leads: bool },
}

struct Cutter<'s> {
    source: &'s str,
    at: usize,
    line: u32,
    column: usize,
    leads: bool,
    glued: bool,
}

impl<'s> Cutter<'s> {
    fn next(&mut self) -> Result<Option<Lexeme<'s>>, DocumentError> {
        self.skip_blanks()?;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(None);
        };
        if first == '#' {
            let end = rest.find('\n').unwrap_or(rest.len());
            let text = &rest[..end];
            if text.contains(is_unseen) {
                return Err(self.unseen());
            }
            let leads = self.leads;
            self.at += end;
            return Ok(Some(Lexeme::Comment { text, leads }));
        }
        let (kind, length) = match first {
            '"' => (Kind::Text, self.quoted(rest)?),
            '`' => (Kind::Text, self.raw(rest)?),
            '0'..='9' => (Kind::Number, number(rest)),
            'a'..='z' | 'A'..='Z' | '_' => (Kind::Word, word(rest)),
            _ => (Kind::Symbol, symbol(rest, first)),
        };
        let text = &rest[..length];
        let (line, leads, glued) = (self.line, self.leads, self.glued);
        self.at += length;
        text.chars().for_each(|character| self.step(character));
        self.leads = false;
        self.glued = true;
        let (end, column) = (self.at, self.column);
        Ok(Some(Lexeme::Token(Token {
            kind,
            text,
            line,
            leads,
            glued,
            depth: 0,
            end,
            column,
        })))
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn skip_blanks(&mut self) -> Result<(), DocumentError> {
        for character in self.rest().chars() {
            match character {
                '\n' => self.leads = true,
                ' ' | '\t' | '\r' => {}
                unseen if is_unseen(unseen) => return Err(self.unseen()),
                _ => break,
            }
            self.step(character);
            self.glued = false;
            self.at += character.len_utf8();
        }
        Ok(())
    }

    /// Counts line and column as the parser does: a tab has four columns.
    fn step(&mut self, character: char) {
        match character {
            '\n' => {
                self.line = self.line.saturating_add(1);
                self.column = 0;
            }
            '\t' => self.column += 4,
            _ => self.column += 1,
        }
    }

    fn unseen(&self) -> DocumentError {
        DocumentError::Syntax {
            line: Some(self.line),
            message: "a control character stands in the text".to_owned(),
        }
    }

    fn quoted(&self, rest: &str) -> Result<usize, DocumentError> {
        let mut escaped = false;
        for (at, character) in rest.char_indices().skip(1) {
            match character {
                _ if escaped && character != '\n' => escaped = false,
                '\\' => escaped = true,
                '"' => return Ok(at + 1),
                '\n' => break,
                _ => {}
            }
        }
        Err(DocumentError::UnterminatedString { line: self.line })
    }

    fn raw(&self, rest: &str) -> Result<usize, DocumentError> {
        let body = &rest[1..];
        let end = body
            .find('`')
            .ok_or(DocumentError::UnterminatedString { line: self.line })?;
        if body[..end].contains(is_unseen) {
            Err(self.unseen())
        } else {
            Ok(end + 2)
        }
    }
}

/// Characters that a reader does not see. The parser takes NUL for the end of the text, so that
/// what follows one would govern nothing while it still stands there.
fn is_unseen(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\r' | '\t')
}

fn word(rest: &str) -> usize {
    rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(rest.len())
}

fn number(rest: &str) -> usize {
    let mut previous = ' ';
    rest.find(|c: char| {
        let sign_of_exponent = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E');
        previous = c;
        !(c.is_ascii_alphanumeric() || c == '.' || sign_of_exponent)
    })
    .unwrap_or(rest.len())
}

fn symbol(rest: &str, first: char) -> usize {
    let pair = matches!(rest.get(..2), Some(":=" | "==" | "!=" | "<=" | ">="));
    if pair { 2 } else { first.len_utf8() }
}

impl<'s> Scan<'s> {
    /// Gives each token its depth.
    fn nest(&mut self) -> Result<(), DocumentError> {
        let mut open: Vec<(&str, u32)> = Vec::new();
        for token in &mut self.tokens {
            if token.closes() {
                let partner = open.pop().map(|(bracket, _)| bracket);
                if partner != opening(token.text) {
                    return Err(DocumentError::UnbalancedDelimiters { line: token.line });
                }
            }
            token.depth = open.len();
            if token.opens() {
                open.push((token.text, token.line));
            }
        }
        match open.last() {
            Some((_, line)) => Err(DocumentError::UnbalancedDelimiters { line: *line }),
            None => Ok(()),
        }
    }

    /// The text begins with `package` and a name of words joined by dots. Which name is
    /// [`super::syntax::check_package`]'s question.
    pub(super) fn check_package(&self) -> Result<(), DocumentError> {
        let mut tokens = self.tokens.iter();
        if tokens.next().is_none_or(|token| token.text != "package") {
            return Err(DocumentError::MissingPackage);
        }
        let mut name = tokens.next().ok_or(DocumentError::MissingPackage)?;
        loop {
            if name.kind != Kind::Word {
                return Err(DocumentError::InvalidPackageName);
            }
            match tokens.next() {
                Some(token) if token.text == "." && token.glued => {}
                Some(token) if token.text == "[" && token.glued => {
                    return Err(DocumentError::InvalidPackageName);
                }
                _ => return Ok(()),
            }
            name = tokens.next().ok_or(DocumentError::InvalidPackageName)?;
        }
    }

    /// The marker comment stands on a line of its own.
    pub(super) fn check_marker(&self) -> Result<(), DocumentError> {
        if self.marked {
            Ok(())
        } else {
            Err(DocumentError::NotDataDocument)
        }
    }

    /// The text nests and costs no more than the parser may be given.
    ///
    /// The cost is counted in token visits. The parser reads the first element of an array, set or
    /// object twice, because it may be the head of a comprehension, and a bracket at the start of a
    /// statement up to eight times; both multiply with each level, elements after a comma do not.
    pub(super) fn check_bounds(&self) -> Result<(), DocumentError> {
        let mut operators = 0;
        let mut work: u64 = 0;
        let mut frames = vec![Frame::top()];
        let mut previous: Option<&Token<'_>> = None;
        for token in &self.tokens {
            if token.kind == Kind::Number && token.text.len() > MAX_NUMBER {
                return Err(DocumentError::limit(format!(
                    "numbers have at most {MAX_NUMBER} characters"
                )));
            }
            operators += usize::from(token.deepens(previous));
            if operators > MAX_OPERATORS {
                return Err(DocumentError::limit(format!(
                    "at most {MAX_OPERATORS} operators"
                )));
            }
            if token.closes() && frames.len() > 1 {
                frames.pop();
            }
            let frame = frames
                .last_mut()
                .ok_or_else(|| DocumentError::limit("nesting"))?;
            frame.see(token);
            let cost = if token.opens() { BRACKET_WORK } else { 1 };
            work = work.saturating_add(frame.reads.saturating_mul(cost));
            if work > MAX_PARSE_WORK {
                return Err(DocumentError::limit(
                    "brackets inside first elements are too deep",
                ));
            }
            if token.opens() {
                let inner = frame.inner(previous);
                frames.push(inner);
                if frames.len() > MAX_BRACKETS + 1 {
                    return Err(DocumentError::limit(format!(
                        "brackets nest at most {MAX_BRACKETS} deep"
                    )));
                }
            }
            previous = Some(token);
        }
        Ok(())
    }

    /// Where the tokens end.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.tokens.iter().map(|token| Place {
            line: token.line.saturating_add(token.breaks()),
            column: token.column,
            end: token.end,
            separates: token.kind == Kind::Symbol && matches!(token.text, "," | ";"),
        })
    }

    /// A better answer than the parser's for a name that stands alone on its line: it reads as a
    /// rule without a value.
    pub(super) fn explain(&self, error: DocumentError) -> DocumentError {
        if !matches!(error, DocumentError::Syntax { .. }) {
            return error;
        }
        let bare = self
            .tokens
            .iter()
            .enumerate()
            .find(|(at, token)| self.stands_alone(*at, token));
        match bare.map(|(_, token)| token) {
            Some(token) if token.text == "result" => DocumentError::DefinesResult,
            Some(token) if crate::tables::DocumentName::parse(token.text).is_none() => {
                DocumentError::RuleNotAllowed {
                    name: token.text.to_owned(),
                    line: token.line,
                }
            }
            _ => error,
        }
    }

    fn stands_alone(&self, at: usize, token: &Token<'_>) -> bool {
        let before = at.checked_sub(1).and_then(|before| self.tokens.get(before));
        let continued = before.is_some_and(|before| match before.kind {
            Kind::Symbol => !before.closes(),
            Kind::Word => is_keyword(before.text),
            Kind::Number | Kind::Text => false,
        });
        token.kind == Kind::Word
            && token.leads
            && token.depth == 0
            && !continued
            && !is_keyword(token.text)
            && self.tokens.get(at + 1).is_none_or(|next| next.leads)
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "as" | "contains"
            | "default"
            | "else"
            | "every"
            | "if"
            | "import"
            | "in"
            | "not"
            | "package"
            | "some"
            | "with"
    )
}

/// An open bracket, as the parser will see it.
struct Frame {
    /// How often the parser reads what stands in it.
    reads: u64,
    /// Only elements and commas so far: an array, a set, an object or arguments.
    plain: bool,
    /// A comma was seen.
    past_first: bool,
}

impl Frame {
    fn top() -> Self {
        Self {
            reads: 1,
            plain: true,
            past_first: true,
        }
    }

    fn see(&mut self, token: &Token<'_>) {
        match token.text {
            "," => self.past_first = true,
            "|" | ";" | ":=" | "=" | "some" | "every" | "not" | "if" | "else" | "in"
                if token.kind != Kind::Text && token.depth > 0 =>
            {
                self.plain = false;
            }
            _ => {}
        }
    }

    fn inner(&self, before: Option<&Token<'_>>) -> Self {
        let literal = before.is_none_or(|token| {
            matches!(
                token.text,
                ":=" | "=" | ":" | "," | "(" | "[" | "{" | "contains"
            ) || token.kind == Kind::Word && !matches!(token.text, "if" | "else" | "in")
        });
        let rereads = match (literal && self.plain, self.past_first) {
            (true, true) => 1,
            (true, false) => PLAIN_REREADS,
            (false, _) => STATEMENT_REREADS,
        };
        Self {
            reads: self.reads.saturating_mul(rereads),
            plain: literal,
            past_first: false,
        }
    }
}

impl Token<'_> {
    /// How many lines it spans beyond its first: only raw strings do.
    fn breaks(&self) -> u32 {
        u32::try_from(self.text.matches('\n').count()).unwrap_or(u32::MAX)
    }

    fn opens(&self) -> bool {
        self.kind == Kind::Symbol && matches!(self.text, "(" | "[" | "{")
    }

    fn closes(&self) -> bool {
        self.kind == Kind::Symbol && matches!(self.text, ")" | "]" | "}")
    }

    /// Whether it may put one expression inside another without a bracket.
    fn deepens(&self, before: Option<&Token<'_>>) -> bool {
        match self.kind {
            Kind::Word => matches!(self.text, "in" | "not"),
            Kind::Symbol if self.text == "[" => {
                self.glued
                    && before.is_some_and(|token| token.kind != Kind::Symbol || token.closes())
            }
            Kind::Symbol => !matches!(
                self.text,
                "(" | ")" | "]" | "{" | "}" | "," | ":" | ";" | ":=" | "="
            ),
            Kind::Number | Kind::Text => false,
        }
    }
}

fn opening(closing: &str) -> Option<&'static str> {
    match closing {
        ")" => Some("("),
        "]" => Some("["),
        "}" => Some("{"),
        _ => None,
    }
}

/// Whether the text names the documents' own package.
pub(super) fn is_own_package(name: &[&str]) -> bool {
    name == PACKAGE
}
