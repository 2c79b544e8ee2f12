//! Reading a JSON body field by field.
//!
//! The body is taken apart into typed values in the order of the documented checks. What is wrong is
//! told by path and rule, never by value: a body may carry secrets.

use serde_json::{Map, Value};

use crate::error::{ApiError, Code};

/// A value has another form than its field asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    path: Vec<String>,
    message: String,
}

impl Misfit {
    /// The rule that the value breaks.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            message: message.into(),
        }
    }

    /// The same misfit, seen from one level further out.
    pub(crate) fn within(mut self, step: impl Into<String>) -> Self {
        self.path.insert(0, step.into());
        self
    }
}

/// A typed value that a JSON value can be.
pub(crate) trait Field: Sized {
    /// Takes the value, or says which rule it breaks.
    fn read(value: Value) -> Result<Self, Misfit>;
}

/// The members of a JSON object that are still to be read.
pub(crate) struct Fields {
    code: Code,
    members: Map<String, Value>,
}

impl Fields {
    /// The body as an object; everything wrong with it is told under `code`.
    pub(crate) fn of(body: Option<Value>, code: Code) -> Result<Self, ApiError> {
        match body {
            Some(Value::Object(members)) => Ok(Self { code, members }),
            _ => Err(ApiError::at(code, &[], "the body is a JSON object")),
        }
    }

    /// A member that must be there.
    pub(crate) fn required<T: Field>(&mut self, name: &'static str) -> Result<T, ApiError> {
        let value = self.members.remove(name);
        let value = value.ok_or_else(|| self.misfit(&Misfit::new("is required").within(name)))?;
        self.read(name, value)
    }

    /// A member that may be absent, but not null.
    pub(crate) fn optional<T: Field>(&mut self, name: &'static str) -> Result<Option<T>, ApiError> {
        match self.members.remove(name) {
            None => Ok(None),
            Some(value) => self.read(name, value).map(Some),
        }
    }

    /// A member that may be absent (outer `None`) or null (inner `None`).
    pub(crate) fn nullable<T: Field>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Option<T>>, ApiError> {
        match self.members.remove(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => self.read(name, value).map(|read| Some(Some(read))),
        }
    }

    /// Refuses what nobody asked for: a misspelt field must not be taken for an absent one.
    pub(crate) fn refuse_others(&self) -> Result<(), ApiError> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.misfit(&Misfit::new("is not a known field").within(name))),
        }
    }

    /// The error of a rule that spans fields.
    pub(crate) fn refuse(&self, path: &str, message: &str) -> ApiError {
        self.misfit(&Misfit::new(message).within(path))
    }

    fn read<T: Field>(&self, name: &str, value: Value) -> Result<T, ApiError> {
        T::read(value).map_err(|misfit| self.misfit(&misfit.within(name)))
    }

    fn misfit(&self, misfit: &Misfit) -> ApiError {
        ApiError::at(self.code, &misfit.path, &misfit.message)
    }
}

impl Field for bool {
    fn read(value: Value) -> Result<Self, Misfit> {
        value
            .as_bool()
            .ok_or_else(|| Misfit::new("is true or false"))
    }
}

impl Field for String {
    fn read(value: Value) -> Result<Self, Misfit> {
        match value {
            // No store of ours can keep it in a text.
            Value::String(text) if text.contains('\0') => Err(Misfit::new("has no null character")),
            Value::String(text) => Ok(text),
            _ => Err(Misfit::new("is a string")),
        }
    }
}

impl Field for Map<String, Value> {
    fn read(value: Value) -> Result<Self, Misfit> {
        match value {
            Value::Object(members) => Ok(members),
            _ => Err(Misfit::new("is an object")),
        }
    }
}

/// A string of `MIN` to `MAX` characters, as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text<const MIN: usize, const MAX: usize>(pub(crate) String);

impl<const MIN: usize, const MAX: usize> Field for Text<MIN, MAX> {
    fn read(value: Value) -> Result<Self, Misfit> {
        let text = String::read(value)?;
        if (MIN..=MAX).contains(&text.chars().count()) {
            Ok(Self(text))
        } else {
            Err(Misfit::new(format!("has {MIN} to {MAX} characters")))
        }
    }
}

/// A string of `MIN` to `MAX` characters after white space at its ends is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trimmed<const MIN: usize, const MAX: usize>(pub(crate) String);

impl<const MIN: usize, const MAX: usize> Field for Trimmed<MIN, MAX> {
    fn read(value: Value) -> Result<Self, Misfit> {
        let text = String::read(value)?;
        let Text::<MIN, MAX>(text) = Text::read(Value::String(text.trim().to_owned()))?;
        Ok(Self(text))
    }
}

/// An array of `MIN` to `MAX` values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List<T, const MIN: usize, const MAX: usize>(pub(crate) Vec<T>);

impl<T: Field, const MIN: usize, const MAX: usize> Field for List<T, MIN, MAX> {
    fn read(value: Value) -> Result<Self, Misfit> {
        let Value::Array(items) = value else {
            return Err(Misfit::new("is an array"));
        };
        if !(MIN..=MAX).contains(&items.len()) {
            return Err(Misfit::new(format!("has {MIN} to {MAX} elements")));
        }
        let read = |(index, item)| T::read(item).map_err(|e| e.within(format!("{index}")));
        items
            .into_iter()
            .enumerate()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use caracal_http::Failure;
    use serde_json::json;

    use super::*;

    fn fields(body: Value) -> Fields {
        Fields::of(Some(body), Code::InvalidZone).unwrap()
    }

    fn told(error: ApiError) -> Value {
        let answer = Failure::from(error).render(None);
        serde_json::from_slice(answer.body()).unwrap()
    }

    #[test]
    fn the_answer_points_at_the_member() {
        let mut body = fields(json!({ "scopes": ["a", ""] }));
        let error = body
            .required::<List<Text<1, 3>, 1, 4>>("scopes")
            .unwrap_err();
        let told = told(error);
        assert_eq!(told["error"], "invalid_zone");
        assert_eq!(told["details"]["issues"][0]["path"], json!(["scopes", "1"]));
        assert_eq!(told["error_description"], "scopes.1: has 1 to 3 characters");
    }

    #[test]
    fn null_is_not_the_same_as_absent() {
        let mut body = fields(json!({ "name": null, "url": null }));
        assert!(body.optional::<String>("name").is_err());
        assert_eq!(body.nullable::<String>("url").unwrap(), Some(None));
        assert_eq!(body.nullable::<String>("other").unwrap(), None);
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let mut body = fields(json!({ "name": "a", "nmae": "b" }));
        body.required::<String>("name").unwrap();
        assert_eq!(
            told(body.refuse_others().unwrap_err())["error_description"],
            "nmae: is not a known field"
        );
    }

    #[test]
    fn a_wrong_value_is_never_repeated() {
        let mut body = fields(json!({ "client_secret": ["hunter2"] }));
        let told = told(body.required::<String>("client_secret").unwrap_err()).to_string();
        assert!(!told.contains("hunter2"));
    }

    #[test]
    fn lengths_count_characters() {
        assert!(Text::<1, 3>::read(json!("äöü")).is_ok());
        assert!(Trimmed::<1, 3>::read(json!("   ")).is_err());
        assert_eq!(Trimmed::<1, 3>::read(json!(" a ")).unwrap().0, "a");
    }

    #[test]
    fn anything_but_an_object_is_no_body() {
        for body in [None, Some(json!([])), Some(json!("x")), Some(Value::Null)] {
            assert!(Fields::of(body, Code::InvalidZone).is_err());
        }
    }
}
