//! Upper bounds of values, by shape.

use crate::document::builtins::Growth;

/// Room for a number, a boolean or a type's name.
pub(super) const SCALAR_TEXT: u64 = 64;
/// The digits of an array's index.
const INDEX_TEXT: u64 = 20;
/// The digits of the largest number that is written with an exponent.
const EXPONENT_TEXT: u64 = 350;

/// An upper bound of a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bound {
    /// All nodes and bytes of text.
    pub(super) total: u64,
    /// The longest text, when it is a scalar.
    pub(super) text: u64,
    /// The most elements, keys counted apart from values.
    pub(super) len: u64,
    /// The largest key or value.
    item: Option<Box<Bound>>,
}

impl Bound {
    pub(super) fn scalar(text: u64) -> Self {
        Self {
            total: text.saturating_add(1),
            text,
            len: 0,
            item: None,
        }
    }

    pub(super) fn number(text: &str) -> Self {
        if text.contains(['e', 'E']) {
            return Self::scalar(EXPONENT_TEXT);
        }
        Self::scalar(u64::try_from(text.len()).unwrap_or(u64::MAX))
    }

    pub(super) fn of_elements(elements: Vec<Self>) -> Self {
        let len = u64::try_from(elements.len()).unwrap_or(u64::MAX);
        let total = elements
            .iter()
            .fold(1, |sum: u64, item| sum.saturating_add(item.total));
        let item = elements.into_iter().reduce(Self::or).map(Box::new);
        Self {
            total,
            text: 0,
            len,
            item,
        }
    }

    pub(super) fn repeated(len: u64, item: Self) -> Self {
        let total = len.saturating_mul(item.total).saturating_add(1);
        Self {
            total,
            text: 0,
            len,
            item: Some(Box::new(item)),
        }
    }

    /// Either of two values.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            total: self.total.max(other.total),
            text: self.text.max(other.text),
            len: self.len.max(other.len),
            item: either(self.item, other.item),
        }
    }

    /// The elements of two collections together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            total: self.total.saturating_add(other.total),
            text: self.text.max(other.text),
            len: self.len.saturating_add(other.len),
            item: either(self.item, other.item),
        }
    }

    /// Two objects merged, the objects in them too.
    pub(super) fn merged(self, other: Self) -> Self {
        let item = match (self.item, other.item) {
            (Some(one), Some(two)) => Some(Box::new(one.merged(*two))),
            (one, two) => one.or(two),
        };
        Self {
            total: self.total.saturating_add(other.total),
            text: self.text.max(other.text),
            len: self.len.saturating_add(other.len),
            item,
        }
    }

    pub(super) fn element(&self) -> Self {
        self.item.as_deref().cloned().unwrap_or_default()
    }

    /// A key of it; keys are counted among the items, an array's are its indexes.
    pub(super) fn key(&self) -> Self {
        self.element().or(Self::scalar(INDEX_TEXT))
    }

    /// The longest text anywhere in it.
    fn longest(&self) -> u64 {
        self.text.max(self.item.as_deref().map_or(0, Self::longest))
    }
}

fn either(left: Option<Box<Bound>>, right: Option<Box<Bound>>) -> Option<Box<Bound>> {
    match (left, right) {
        (Some(left), Some(right)) => Some(Box::new(left.or(*right))),
        (left, right) => left.or(right),
    }
}

/// The bound of what a function returns.
pub(super) fn result_of(growth: Growth, [one, two, three]: [Bound; 3]) -> Bound {
    let text_of = |collection: &Bound| collection.total.max(collection.longest());
    match growth {
        Growth::Scalar => Bound::scalar(SCALAR_TEXT),
        Growth::Number => Bound::scalar(one.longest().saturating_add(INDEX_TEXT)),
        Growth::First | Growth::Keys => one,
        Growth::Letters => Bound::scalar(one.text.saturating_mul(3)),
        Growth::Both => one.and(two),
        Growth::Flatten => {
            let len = one.len.saturating_mul(one.element().len);
            let mut flat = one.element();
            flat.total = one.total.max(flat.total);
            flat.len = len;
            flat
        }
        Growth::Merge => one.merged(two),
        Growth::Element => one.element().or(three),
        Growth::Join => {
            let delimiters = two.len.saturating_mul(one.text.saturating_add(1));
            Bound::scalar(text_of(&two).saturating_add(delimiters))
        }
        Growth::Split => Bound {
            total: one.text.saturating_mul(2).saturating_add(2),
            text: 0,
            len: one.text.saturating_add(1),
            item: Some(Box::new(Bound::scalar(one.text))),
        },
        Growth::Replace => {
            let places = one.text.saturating_add(1);
            Bound::scalar(places.saturating_mul(three.text.saturating_add(2)))
        }
        // Quotes, escapes and separators of printed values are no longer than six times their text.
        Growth::Format => Bound::scalar(one.text.saturating_add(text_of(&two).saturating_mul(6))),
    }
}
