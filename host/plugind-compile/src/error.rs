//! Why compiling failed, and whether the component or something else caused it.

/// Why there is no compiled file.
#[derive(Debug)]
pub(crate) enum CompileFailure {
    /// Because of the component, whose author has to change it.
    Component(String),
    /// Because of anything else.
    Host(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for CompileFailure {
    fn from(error: E) -> Self {
        Self::Host(error.into())
    }
}
