//! The thread that a document is read on.
//!
//! Parser and interpreter recurse with the document's nesting, and neither promises never to panic
//! on hostile text. Both get a thread of their own: its stack is large enough for the deepest
//! document that [`super::source`] lets through, whatever stack the caller has, and a panic ends
//! that thread and comes back here as a refusal. No other place catches panics.

use std::thread;

use super::DocumentError;

/// Enough for [`super::source::MAX_OPERATORS`] nested expressions in an unoptimised build. The
/// memory is only reserved; a document of usual depth touches a few pages.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Runs `read` to its end on its own stack.
pub(super) fn run<T: Send>(
    read: impl FnOnce() -> Result<T, DocumentError> + Send,
) -> Result<T, DocumentError> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("policy-document".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, read)
            .map_err(|error| DocumentError::limit(format!("no thread to read it on: {error}")))?;
        worker
            .join()
            .unwrap_or_else(|_panic| Err(DocumentError::limit("the interpreter gave up on it")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_refusal() {
        let refused = run::<()>(|| panic!("on purpose"));
        assert_eq!(
            refused,
            Err(DocumentError::limit("the interpreter gave up on it"))
        );
    }
}
