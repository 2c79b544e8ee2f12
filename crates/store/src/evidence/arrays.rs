//! Columns of many rows as text that the server reads as arrays: one parameter for each column,
//! however many rows, so that there is one statement and it stays prepared.

use sea_orm::Value;

use crate::sql::Bind;

/// A column in the making.
pub(super) struct Column(String);

impl Column {
    pub(super) fn new() -> Self {
        Self("{".to_owned())
    }

    fn next(&mut self) -> &mut String {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        &mut self.0
    }

    pub(super) fn text(&mut self, value: &str) {
        let out = self.next();
        out.reserve(value.len() + 2);
        out.push('"');
        let mut rest = value;
        while let Some(at) = rest.find(['"', '\\']) {
            out.push_str(&rest[..at]);
            out.push('\\');
            out.push_str(&rest[at..=at]);
            rest = &rest[at + 1..];
        }
        out.push_str(rest);
        out.push('"');
    }

    pub(super) fn opt_text(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.text(value),
            None => self.next().push_str("NULL"),
        }
    }

    pub(super) fn number(&mut self, value: i64) {
        self.next().push_str(&value.to_string());
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let out = self.next();
        out.push_str("\"\\\\x");
        for byte in value {
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        out.push('"');
    }

    pub(super) fn opt_bytes(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bytes(value),
            None => self.next().push_str("NULL"),
        }
    }

    /// The parameter.
    pub(super) fn bind(mut self) -> Value {
        self.0.push('}');
        self.0.bind()
    }
}

/// A column of texts.
pub(super) fn texts<'a>(values: impl Iterator<Item = &'a str>) -> Value {
    let mut column = Column::new();
    values.for_each(|value| column.text(value));
    column.bind()
}

/// A column of numbers.
pub(super) fn numbers(values: impl Iterator<Item = i64>) -> Value {
    let mut column = Column::new();
    values.for_each(|value| column.number(value));
    column.bind()
}

/// `unnest(…) AS name (columns)` of parameters from `$1` on; each column is its name and its type.
pub(super) fn rows(name: &str, columns: &[(&str, &str)]) -> String {
    let arrays: Vec<String> = columns
        .iter()
        .zip(1..)
        .map(|((_, kind), n)| format!("CAST(CAST(${n} AS TEXT) AS {kind}[])"))
        .collect();
    let names: Vec<&str> = columns.iter().map(|(column, _)| *column).collect();
    format!(
        "unnest({}) AS {name} ({})",
        arrays.join(", "),
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(column: Column) -> String {
        match column.bind() {
            Value::String(Some(text)) => text,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        let mut column = Column::new();
        column.text(r#"{"a":"\"}"#);
        column.opt_text(None);
        column.text("");
        assert_eq!(text_of(column), r#"{"{\"a\":\"\\\"}",NULL,""}"#);
    }

    #[test]
    fn bytes_are_hex() {
        let mut column = Column::new();
        column.bytes(&[0x00, 0xfe]);
        column.opt_bytes(None);
        assert_eq!(text_of(column), r#"{"\\x00fe",NULL}"#);
    }
}
