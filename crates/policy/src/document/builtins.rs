//! The functions that a document may call.
//!
//! A document is closed: it may call only pure functions of their arguments. And it must not be
//! able to outgrow its text, so a function is listed only when [`super::growth`] can bound what it
//! returns; the few pure ones whose result has no such bound are refused by their name.

/// Functions that reach outside: refused before anything else is judged.
const FORBIDDEN: [&str; 9] = [
    "http.send",
    "net.lookup_ip_addr",
    "net.cidr_contains",
    "net.cidr_intersects",
    "net.cidr_expand",
    "net.cidr_merge",
    "opa.runtime",
    "rand.intn",
    "time.now_ns",
];

/// Pure functions whose result can be of any size.
const UNBOUNDED: [&str; 9] = [
    "bits.lsh",
    "format_int",
    "json.marshal",
    "json.unmarshal",
    "numbers.range",
    "numbers.range_step",
    "object.union_n",
    "product",
    "to_number",
];

/// How large a function's result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Growth {
    /// A number, a boolean or a name.
    Scalar,
    /// A number of as many digits as the argument's, or those of their sum.
    Number,
    /// No larger than the first argument, in the first argument's shape.
    First,
    /// Letters in another case: a few of them become up to three.
    Letters,
    /// Both arguments together.
    Both,
    /// Both arguments together, and what they have under one key too.
    Merge,
    /// The elements of the argument together.
    Flatten,
    /// The keys of the argument.
    Keys,
    /// An element of the first argument, or the third.
    Element,
    /// The second argument's texts, with the first between them.
    Join,
    /// The first argument's pieces.
    Split,
    /// The first argument, with every second in it replaced by the third.
    Replace,
    /// The first argument with the second's elements put in.
    Format,
}

/// What a document may do with the function of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Builtin {
    /// It reaches outside.
    Forbidden,
    /// Its result has no bound.
    Unbounded,
    /// It may be called with exactly so many arguments.
    Pure { arity: usize, growth: Growth },
    /// It is not a pure function, or nobody knows it.
    Foreign,
}

pub(super) fn lookup(name: &str) -> Builtin {
    if FORBIDDEN.contains(&name) {
        return Builtin::Forbidden;
    }
    if UNBOUNDED.contains(&name) {
        return Builtin::Unbounded;
    }
    let (arity, growth) = match name {
        "count" | "is_array" | "is_boolean" | "is_null" | "is_number" | "is_object" | "is_set"
        | "is_string" | "type_name" => (1, Growth::Scalar),
        "abs" | "ceil" | "floor" | "round" | "sum" => (1, Growth::Number),
        "max" | "min" => (1, Growth::Element),
        "contains"
        | "endswith"
        | "startswith"
        | "indexof"
        | "object.subset"
        | "strings.any_prefix_match"
        | "strings.any_suffix_match"
        | "strings.count" => (2, Growth::Scalar),
        "array.reverse" | "sort" | "strings.reverse" | "trim_space" => (1, Growth::First),
        "object.filter" | "object.remove" | "trim" | "trim_left" | "trim_prefix" | "trim_right"
        | "trim_suffix" => (2, Growth::First),
        "array.slice" | "substring" => (3, Growth::First),
        "lower" | "upper" => (1, Growth::Letters),
        "array.concat" => (2, Growth::Both),
        "object.union" => (2, Growth::Merge),
        "union" | "intersection" => (1, Growth::Flatten),
        "object.keys" => (1, Growth::Keys),
        "object.get" => (3, Growth::Element),
        "concat" => (2, Growth::Join),
        "split" => (2, Growth::Split),
        "replace" => (3, Growth::Replace),
        "sprintf" => (2, Growth::Format),
        _ => return Builtin::Foreign,
    };
    Builtin::Pure { arity, growth }
}
