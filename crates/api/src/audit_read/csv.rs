//! CSV for spreadsheets, without letting a cell become a formula.

use serde_json::Value;

/// A table: a header line, then one line a row, every line ended by CRLF (RFC 4180).
pub(crate) fn table(columns: &[&str], rows: impl Iterator<Item = Vec<Value>>) -> String {
    let mut text = String::new();
    line(&mut text, columns.iter().map(|name| (*name).to_owned()));
    for row in rows {
        line(&mut text, row.iter().map(cell_text));
    }
    text
}

fn line(text: &mut String, cells: impl Iterator<Item = String>) {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_cell(text, &cell);
    }
    text.push_str("\r\n");
}

fn push_cell(text: &mut String, cell: &str) {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let needs_quotes = cell.contains(['"', ',', '\r', '\n']);
    if needs_quotes {
        text.push('"');
    }
    if is_formula {
        text.push('\'');
    }
    if needs_quotes {
        text.push_str(&cell.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(cell);
    }
}

/// Null is empty, an array is its elements joined by one space, anything else its JSON text.
fn cell_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell_text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn one(value: Value) -> String {
        table(&["c"], std::iter::once(vec![value]))
    }

    #[test]
    fn lines_end_in_crlf_and_arrays_are_joined() {
        let rows = vec![
            vec![json!("a,b"), json!(["x", "y"])],
            vec![json!(null), json!(7)],
        ];
        let text = table(&["name", "labels"], rows.into_iter());
        assert_eq!(text, "name,labels\r\n\"a,b\",x y\r\n,7\r\n");
    }

    #[test]
    fn a_cell_never_begins_a_formula() {
        assert_eq!(one(json!("=1+1")), "c\r\n'=1+1\r\n");
        assert_eq!(one(json!("@x,\"y\"")), "c\r\n\"'@x,\"\"y\"\"\"\r\n");
    }

    proptest! {
        #[test]
        fn any_text_stays_one_cell(text in ".{0,30}") {
            let csv = one(json!(text));
            let body = csv.strip_prefix("c\r\n").and_then(|rest| rest.strip_suffix("\r\n")).unwrap();
            let quoted = body.starts_with('"');
            prop_assert!(quoted || !body.contains([',', '\n', '\r', '"']));
            prop_assert!(!body.starts_with(['=', '+', '-', '@', '\t']));
        }
    }
}
