//! Values that must never be shown.

use std::fmt;

use zeroize::Zeroize;

/// A secret value: no `Display`, no `Serialize`, a `Debug` that hides it, wiped on drop.
///
/// It cannot reach a log, an error, an audit event or an API response by accident; whoever needs the
/// value says so with [`Secret::expose`], which is easy to find in review.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Do not log, format or store what this returns.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ops::Deref;
    use std::rc::Rc;

    use serde::Serialize;

    use super::*;

    #[test]
    fn debug_output_hides_the_value() {
        let secret = Secret::new("cs_very-secret".to_owned());
        assert_eq!(
            format!("{secret:?} {:?}", Some(&secret)),
            "Secret(***) Some(Secret(***))"
        );
    }

    /// Whether a type has a trait. An inherent constant hides the trait's constant of the same name,
    /// and it is there only when its bound holds.
    macro_rules! has {
        ($type:ty: $($bound:tt)+) => {{
            #[allow(dead_code, reason = "used when the bound does not hold")]
            trait Absent {
                const HAS: bool = false;
            }
            impl<T> Absent for T {}
            struct Probe<T>(std::marker::PhantomData<T>);
            #[allow(dead_code, reason = "used when it does")]
            impl<T: $($bound)+> Probe<T> {
                const HAS: bool = true;
            }
            <Probe<$type>>::HAS
        }};
    }

    #[test]
    fn a_secret_is_neither_printed_nor_serialised_nor_handed_out_unasked() {
        assert!(
            has!(String: Serialize) && has!(String: fmt::Display),
            "the probe works"
        );
        assert!(!has!(Secret<String>: Serialize));
        assert!(!has!(Secret<String>: fmt::Display));
        assert!(!has!(Secret<String>: Deref));
        assert!(!has!(Secret<String>: AsRef<str>));
        assert!(!has!(Secret<String>: Into<String>));
    }

    #[test]
    fn a_secret_is_compared_in_no_time_that_depends_on_it() {
        assert!(has!(String: PartialEq), "the probe works");
        assert!(!has!(Secret<String>: PartialEq));
    }

    #[test]
    fn a_dropped_secret_is_wiped() {
        #[derive(Clone)]
        struct Witness(Rc<Cell<bool>>);
        impl Zeroize for Witness {
            fn zeroize(&mut self) {
                self.0.set(true);
            }
        }
        let wiped = Rc::new(Cell::new(false));
        drop(Secret::new(Witness(Rc::clone(&wiped))));
        assert!(wiped.get());
    }
}
