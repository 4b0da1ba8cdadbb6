//! Why a plugin is not even tried.

use crate::{
    base::{
        error_chain::ErrorChain, file::FileError, name::PluginName, quantity::Bytes, text::cut,
    },
    config::{Diagnostic, ListError},
    plugin::{inspect_error::InspectError, manifest::Manifest},
};
use std::path::PathBuf;

/// Limit of the mistakes reported for one plugin: those of a manifest, and some of its component.
const LINES_MAX: usize = 100;
/// Limit of the length of each, in bytes: a component's names may be as long as a component.
const LINE_MAX: usize = 8000;

/// Why a plugin is not even tried.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A directory of drop-ins could not be read.
    #[error(transparent)]
    DropIns(#[from] ListError),
    /// The version that an operator pinned cannot be used.
    #[error("the pinned version cannot be read: {why}; `pluginctl unpin {name}` ends the pin")]
    Pinned {
        /// The plugin.
        name: PluginName,
        /// Why not.
        why: String,
    },
    /// The manifest is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Manifest(Vec<Diagnostic>),
    /// The component cannot be a plugin.
    #[error("{} {why}{}", path.display(), why.command(path))]
    Inspect {
        /// The component.
        path: PathBuf,
        /// Why not: the end of the same sentence, and so no cause of its own.
        why: InspectError,
    },
    /// The component imports what the manifest does not grant.
    #[error(
        "{} imports {import}, which must be granted; write {line} below [grants] in its manifest", path.display()
    )]
    Ungranted {
        /// The component.
        path: PathBuf,
        /// The import.
        import: String,
        /// The line of the manifest that grants it.
        line: &'static str,
    },
    /// The component handles messages, and receives none.
    #[error(
        "{} handles messages, and its manifest subscribes to none; write subject = \"SUBJECT\" below [[subscribe]]",
        path.display()
    )]
    Unsubscribed {
        /// The component.
        path: PathBuf,
    },
    /// An instance of the component begins with more memory than the manifest's defaults let it have.
    #[error(
        "{} begins with {needed} of memory, and limits.{key} is \"{max}\" by default; write {key} = \"{needed}\" or \
         more below [limits] in its manifest", path.display()
    )]
    Memory {
        /// The component.
        path: PathBuf,
        /// Memory of a new instance, in bytes.
        needed: Bytes,
        /// The limit.
        key: &'static str,
        /// Its value.
        max: Bytes,
    },
}

impl VerifyError {
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Manifest(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
            Self::Inspect { path, why: InspectError::Interfaces(mistakes) } => {
                mistakes.iter().map(|mistake| format!("{} {mistake}", path.display())).collect()
            }
            other => vec![ErrorChain(other).to_string()],
        }
    }

    fn is_configuration(&self) -> bool {
        !matches!(self, Self::File(error) if error.may_pass())
    }
}

/// A plugin that is not even tried.
#[derive(Debug)]
pub struct Rejected {
    /// Its name.
    pub name: PluginName,
    /// Its component.
    pub component: PathBuf,
    /// Its manifest, if that is valid.
    pub manifest: Option<Manifest>,
    /// Whether the daemon is not ready without it, as far as that can be read.
    pub required: bool,
    /// Whether it starts with the daemon, as far as that can be read.
    pub autostart: bool,
    /// Why it is not tried; there is at least one reason.
    pub errors: Vec<VerifyError>,
}

impl Rejected {
    /// Everything that is wrong, each mistake as a line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.errors.iter().flat_map(VerifyError::lines).collect();
        let further = lines.len().saturating_sub(LINES_MAX);
        if further > 0 {
            lines.truncate(LINES_MAX);
            lines.push(format!("{further} more mistakes are not shown; correct the others first"));
        }
        lines.into_iter().map(|line| cut(&line, LINE_MAX).into()).collect()
    }

    /// Whether trying again helps only after something was changed.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        self.errors.iter().any(VerifyError::is_configuration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_mistakes_only_the_first_are_reported() {
        let (name, component) = ("x".parse().unwrap(), PathBuf::from("x.wasm"));
        let imports =
            (0..100_000).map(|nth| format!("{nth}{}", "x".repeat(100_000 - nth))).step_by(500);
        let why = InspectError::Interfaces(imports.collect());
        let errors = vec![VerifyError::Inspect { path: component.clone(), why }];
        let rejected =
            Rejected { name, component, manifest: None, required: true, autostart: true, errors };
        let lines = rejected.lines();
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!(lines[LINES_MAX], "100 more mistakes are not shown; correct the others first");
        assert!(lines.iter().all(|line| line.len() < LINE_MAX + 50));
    }
}
