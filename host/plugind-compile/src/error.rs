//! Why compiling failed, and whether the component, the request or the host caused it.

/// Why there is no compiled file.
#[derive(Debug)]
pub(crate) enum CompileFailure {
    /// With the component, whose author has to change it.
    Component(String),
    /// With anything else.
    Host(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for CompileFailure {
    fn from(error: E) -> Self {
        Self::Host(error.into())
    }
}
