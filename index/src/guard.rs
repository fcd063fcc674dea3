//! The boundary to Tantivy, whose code asserts on bytes that it did not write.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::IndexError;

/// Runs `work` and turns a panic inside it into the error that `blame` makes of its message (X1).
///
/// Unwind safety: everything behind the boundary is either read-only, or a writer that its owner gives up on an error.
pub(crate) fn guarded<T>(
    doing: &str,
    blame: impl FnOnce(String) -> IndexError,
    work: impl FnOnce() -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Err(blame(format!("{doing} stopped with: {said}")))
    })
}
