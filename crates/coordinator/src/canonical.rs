//! One text for one JSON value.
//!
//! An idempotency fingerprint must not depend on key order or on how a number was spelled, so the
//! value is printed in one way: keys sorted by UTF-16 code units, no white space, strings and
//! fractions as ECMAScript prints them (the rules of RFC 8785). Integers keep all their digits, so
//! that two of them beyond 2^53 stay different.

use serde_json::{Number, Value};

/// The canonical text of `value`.
pub(crate) fn canonical_json(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, &mut out);
    out
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_by(|a, b| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(name, out);
                out.push(':');
                write_value(&members[name], out);
            }
            out.push('}');
        }
    }
}

/// ECMAScript and serde_json escape the same characters in the same way.
fn write_text(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

fn write_number(number: &Number, out: &mut String) {
    match number.as_f64() {
        Some(float) if number.is_f64() => write_float(float, out),
        _ => out.push_str(&number.to_string()),
    }
}

/// ECMA-262 `Number::toString` for base 10.
fn write_float(float: f64, out: &mut String) {
    if float == 0.0 {
        out.push('0');
        return;
    }
    if float < 0.0 {
        out.push('-');
    }
    let shortest = format!("{:e}", float.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let point = exponent + 1;
    if count <= point && point <= 21 {
        out.push_str(&digits);
        push_zeros(point - count, out);
    } else if 0 < point && point <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
        out.push_str(whole);
        out.push('.');
        out.push_str(fraction);
    } else if -6 < point && point <= 0 {
        out.push_str("0.");
        push_zeros(-point, out);
        out.push_str(&digits);
    } else {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        out.push_str(&format!("e{exponent:+}"));
    }
}

fn push_zeros(count: i64, out: &mut String) {
    for _ in 0..count {
        out.push('0');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn float(value: f64) -> String {
        canonical_json(&json!(value))
    }

    #[test]
    fn keys_sort_by_utf16_code_units() {
        // U+1F600 is d83d de00 in UTF-16 and so precedes U+FB33, which it follows in UTF-8.
        let text = canonical_json(&json!({ "\u{fb33}": 1, "\u{1f600}": 2, "b": 3, "a": 4 }));
        assert_eq!(text, "{\"a\":4,\"b\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}");
    }

    #[test]
    fn numbers_print_as_ecmascript_prints_them() {
        for (value, expected) in [
            (1.0, "1"),
            (-0.0, "0"),
            (1.5, "1.5"),
            (-12.25, "-12.25"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (0.000_001, "0.000001"),
            (0.000_000_1, "1e-7"),
            (123_456.789, "123456.789"),
        ] {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn integers_beyond_the_float_range_stay_different() {
        let a = canonical_json(&json!(9_007_199_254_740_993_u64));
        let b = canonical_json(&json!(9_007_199_254_740_992_u64));
        assert_ne!(a, b);
    }

    #[test]
    fn control_characters_are_escaped_as_ecmascript_does() {
        assert_eq!(
            canonical_json(&json!("a\"\\\u{8}\n\u{1f}é/")),
            r#""a\"\\\b\n\u001fé/""#
        );
    }

    proptest! {
        #[test]
        fn the_text_reads_back_as_the_same_number(value in proptest::num::f64::NORMAL) {
            let back: f64 = float(value).parse().unwrap();
            prop_assert_eq!(back, value);
        }
    }
}
