//! DataFusion's functions with something that looks at their arguments first (X1).

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// What stands before a function.
pub(crate) trait Guard: fmt::Debug + Eq + Hash + Send + Sync + 'static {
    /// Calls the function, or refuses to.
    ///
    /// # Errors
    /// Those of the function, and of the guard.
    fn invoke(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue>;
}

/// A function behind its guard; in all else it is the same.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Guarded<G> {
    inner: Arc<ScalarUDF>,
    guard: G,
}

/// The same function behind a guard.
pub(crate) fn guarded(inner: Arc<ScalarUDF>, guard: impl Guard) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Guarded { inner, guard }))
}

/// Whether one of the arguments has a value of its own for each row.
pub(crate) fn has_rows(args: &ScalarFunctionArgs) -> bool {
    args.args.iter().any(|arg| matches!(arg, ColumnarValue::Array(_)))
}

impl<G: Guard> ScalarUDFImpl for Guarded<G> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.guard.invoke(&self.inner, args)
    }
}
