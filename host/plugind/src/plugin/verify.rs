//! `Found` → `Verified`: a plugin is read once, and the same bytes are inspected, hashed and compiled.

use crate::plugin::{
    credentials::CredentialsSeen,
    inspect_error::InspectError,
    inspection::Inspection,
    interfaces::{Access, find},
    manifest::{ComponentFacts, Manifest},
    middleware_use,
    release::Release,
    scan::Found,
    serve::{Serve, WebSocketUse},
    validated::ValidatedComponents,
};
use crate::{
    base::{
        error_chain::ErrorChain,
        file::{self, FileError},
        name::PluginName,
        quantity::Bytes,
        text::cut,
    },
    config::{Diagnostic, Document, ListError, Origin, list_drop_ins},
};
use sha2::{Digest, Sha256};
use std::{
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The largest component that is read: the largest known toolchain makes files of about 20 MB.
pub const COMPONENT_MAX: u64 = 256 << 20;
/// Limit of the mistakes reported for one plugin: those of a manifest, and some of its component.
const LINES_MAX: usize = 100;
/// Limit of the length of each, in bytes: a component's names may be as long as a component.
const LINE_MAX: usize = 8000;
/// In bytes.
const MIB: u64 = 1 << 20;
/// The largest manifest that is read.
pub const MANIFEST_MAX: u64 = 1 << 20;

/// A plugin that was read and can be compiled. The only way to have one is to have been verified.
#[derive(Clone, Debug)]
pub struct Verified(Arc<Release>);

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
    #[error("{} {why}", path.display())]
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
        /// The manifest key that grants it.
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
            Self::Inspect { path, why: InspectError::Imports(imports) } => imports
                .iter()
                .map(|import| format!("{} imports {import}", path.display()))
                .collect(),
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
            lines.push(format!("{further} more mistakes; correct these first"));
        }
        lines.into_iter().map(|line| cut(&line, LINE_MAX).into()).collect()
    }

    /// Whether trying again helps only after something was changed.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        self.errors.iter().any(VerifyError::is_configuration)
    }
}

/// Reads and verifies a plugin.
///
/// # Errors
/// When it cannot be read, its manifest has mistakes, or its component cannot be a plugin.
pub fn verify(found: Found) -> Result<Verified, Box<Rejected>> {
    verify_unless_known(found, &ValidatedComponents::default())
}

/// The same, where a component that is known to be valid is not validated again.
///
/// # Errors
/// When it cannot be read, its manifest has mistakes, or its component cannot be a plugin.
pub fn verify_unless_known(
    found: Found,
    validated: &ValidatedComponents,
) -> Result<Verified, Box<Rejected>> {
    let outcome = inspect_component(&found.component, validated);
    let known = outcome.as_ref().ok().map(|(inspection, _)| ComponentFacts {
        imports: &inspection.imports,
        hands_over: inspection.handover,
        serves: inspection.serves(),
    });
    let manifest = read_manifest(&found, known);
    let Found { name, component, .. } = found;
    match (manifest, outcome) {
        (Ok((manifest, texts)), Ok((inspection, digest))) => {
            let ungranted = ungranted(&inspection, &manifest).map(|(import, line)| {
                VerifyError::Ungranted { path: component.clone(), import, line }
            });
            let errors: Vec<_> = ungranted
                .into_iter()
                .chain(unserved(&inspection, &manifest))
                .chain(unsubscribed(&component, &inspection, &manifest))
                .chain(middleware_use::unusable(&inspection, &manifest).map(VerifyError::Manifest))
                .chain(short_of_memory(&component, &inspection, &manifest))
                .collect();
            if errors.is_empty() {
                let (path, inspection) = (component, inspection);
                return Ok(Verified(Arc::new(Release {
                    name,
                    path,
                    digest,
                    manifest,
                    texts,
                    inspection,
                    credentials: CredentialsSeen::default(),
                })));
            }
            let (required, manifest) = (manifest.required, Some(manifest));
            Err(Box::new(Rejected { name, component, manifest, required, errors }))
        }
        (Ok((manifest, _)), Err(error)) => {
            let (required, errors) = (manifest.required, vec![error]);
            let manifest = Some(manifest);
            Err(Box::new(Rejected { name, component, manifest, required, errors }))
        }
        (Err((error, required)), outcome) => {
            let errors = [Some(error), outcome.err()].into_iter().flatten().collect();
            Err(Box::new(Rejected { name, component, manifest: None, required, errors }))
        }
    }
}

/// A missing export that the manifest asks for: the file may hold another component, or half of one.
fn unserved(inspection: &Inspection, manifest: &Manifest) -> Option<VerifyError> {
    let mistake = |serve: &Serve| match serve.whole_socket() {
        Some(_) if inspection.serves_sockets() => None,
        Some(socket) => {
            let remedy = match inspection.serves_routes() {
                true => "; write serve.route to serve HTTP on this socket",
                false => "; remove [[serve]], or install a component that has one",
            };
            let message = format!(
                "serve.socket: \"{socket}\" without serve.route is the whole socket, and the component exports neither \
                 plugind:plugin/connection-handler nor plugind:plugin/datagram-handler{remedy}"
            );
            Some(Diagnostic::at(serve.socket_origin.0.clone()?, message))
        }
        None if inspection.websockets.is_none() && serve.websocket == Some(WebSocketUse::Serve) => {
            let message = "serve.websocket cannot be \"serve\": the component does not export \
                 plugind:plugin/websocket-handler; remove it, or install a component that does";
            Some(Diagnostic::at(serve.websocket_origin.0.clone()?, message))
        }
        None if inspection.serves_routes() => None,
        None => {
            let remedy = match inspection.serves_sockets() {
                true => "write serve.socket without serve.route to serve a whole socket",
                false => "remove [[serve]], or install a component that has one",
            };
            let message = format!(
                "[[serve]] cannot be used: the component exports no handler of HTTP requests; {remedy}"
            );
            Some(Diagnostic::at(serve.origin.0.clone()?, message))
        }
    };
    let mistakes: Vec<_> = manifest.serve.iter().filter_map(mistake).collect();
    (!mistakes.is_empty()).then_some(VerifyError::Manifest(mistakes))
}

/// Subscriptions without a handler of messages, or a component with nothing else and no subscription.
fn unsubscribed(path: &Path, inspection: &Inspection, manifest: &Manifest) -> Option<VerifyError> {
    let serves_nothing_else = !inspection.serves_routes() && !inspection.serves_sockets();
    if inspection.messages && manifest.subscribe.is_empty() && serves_nothing_else {
        return Some(VerifyError::Unsubscribed { path: path.to_owned() });
    }
    let message = "[[subscribe]] cannot be used: the component does not export wasi:messaging/incoming-handler; remove \
                   it, or install a component that does";
    let origins = manifest.subscribe.iter().filter(|_| !inspection.messages);
    let mistakes = origins.filter_map(|it| Some(Diagnostic::at(it.origin.0.clone()?, message)));
    let mistakes: Vec<_> = mistakes.collect();
    (!mistakes.is_empty()).then_some(VerifyError::Manifest(mistakes))
}

/// Finds limits of the manifest below the initial memory of an instance. No instance could ever be made.
fn short_of_memory(path: &Path, inspection: &Inspection, manifest: &Manifest) -> Vec<VerifyError> {
    let (limits, needed) = (&manifest.limits, inspection.footprint.bytes());
    // Whole MiB are what is usually written there.
    let rounded = Bytes(needed.0.div_ceil(MIB).saturating_mul(MIB));
    let keys = [
        ("memory-max", limits.memory_max, &limits.origins.memory_max),
        ("instance-memory-max", limits.instance_memory_max, &limits.origins.instance_memory_max),
    ];
    let short = keys.into_iter().filter(|(_, max, _)| *max < needed);
    let error = |(key, max, origin): (_, Bytes, &Origin)| match origin.0.clone() {
        Some(place) => {
            let message = format!(
                "limits.{key} must be at least \"{rounded}\", not \"{max}\": each instance of the component begins with \
                 that much"
            );
            VerifyError::Manifest(vec![Diagnostic::at(place, message)])
        }
        None => VerifyError::Memory { path: path.to_owned(), needed: rounded, key, max },
    };
    short.map(error).collect()
}

/// An import that needs a grant that is missing, with the line that would grant it.
///
/// WASI interfaces that need a grant (files, sockets, requests) are linked for all plugins and refuse at run time: many
/// toolchains import them whether a component uses them or not.
fn ungranted(inspection: &Inspection, manifest: &Manifest) -> Option<(String, &'static str)> {
    inspection.imports.iter().find_map(|import| {
        let Access::Granted(grants) = find(import)?.access else { return None };
        let granted = grants.iter().any(|grant| manifest.grants.has(*grant));
        let grant = grants.first().filter(|_| !granted)?;
        Some((import.clone(), grant.example()))
    })
}

fn inspect_component(
    path: &Path,
    validated: &ValidatedComponents,
) -> Result<(Inspection, [u8; 32]), VerifyError> {
    let bytes = file::read(path, COMPONENT_MAX)?;
    let digest = Sha256::digest(&bytes).into();
    let inspect = match validated.contains(&digest) {
        true => Inspection::of_valid,
        false => Inspection::of,
    };
    // The library that validates a component panics at types that it did not expect to be nested so deeply: that
    // concerns this component alone.
    let inspection = catch_unwind(|| inspect(&bytes))
        .unwrap_or_else(|_| {
            Err(InspectError::Damaged("its types are nested too deeply".to_owned()))
        })
        .map_err(|why| VerifyError::Inspect { path: path.to_owned(), why })?;
    Ok((inspection, digest))
}

/// Reads a manifest, and the texts of its files. When it is wrong, whether it says that the plugin is required counts
/// all the same.
fn read_manifest(
    found: &Found,
    component: Option<ComponentFacts<'_>>,
) -> Result<(Manifest, Vec<String>), (VerifyError, bool)> {
    let document = manifest_of(found).map_err(|error| (error, true))?;
    let manifest = Manifest::parse_for(&found.name, component, &document)
        .map_err(|mistakes| (VerifyError::Manifest(mistakes), Manifest::is_required(&document)))?;
    Ok((manifest, document.texts().map(str::to_owned).collect()))
}

/// A plugin's manifest and its drop-ins, unread.
///
/// # Errors
/// If a file cannot be read or is not UTF-8.
pub fn manifest_of(found: &Found) -> Result<Document, VerifyError> {
    let drop_ins = list_drop_ins(&found.drop_ins)?;
    let mut document = Document::default();
    for path in found.manifest.iter().chain(&drop_ins) {
        let bytes = file::read(path, MANIFEST_MAX)?;
        document.add_bytes(path, bytes).map_err(|mistake| VerifyError::Manifest(vec![mistake]))?;
    }
    Ok(document)
}

impl Verified {
    /// A release that a test assumes to be verified.
    #[cfg(test)]
    #[must_use]
    pub fn assumed(release: Arc<Release>) -> Self {
        Self(release)
    }

    /// A version that was verified when it was read, and is used again.
    #[cfg(feature = "runtime")]
    #[must_use]
    pub fn again(release: Arc<Release>) -> Self {
        Self(release)
    }

    /// The same, with the credentials that it was granted as they are now. Blocks.
    #[must_use]
    pub fn with_credentials(&self, directory: Option<&Path>) -> Self {
        let keys = &self.0.manifest.grants.credentials;
        let credentials = CredentialsSeen::look(&self.0.name, keys, directory);
        match credentials == self.0.credentials {
            true => self.clone(),
            false => Self(Arc::new(Release { credentials, ..Release::clone(&self.0) })),
        }
    }

    /// The version that was verified.
    #[must_use]
    pub fn release(&self) -> &Arc<Release> {
        &self.0
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.0.name
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.0.manifest
    }

    /// Imports and exports of its component.
    #[must_use]
    pub fn inspection(&self) -> &Inspection {
        &self.0.inspection
    }

    /// The SHA-256 digest of its component.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }

    /// Where its component was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn found(directory: &Path, file: &str) -> Found {
        let (name, component) = ("x".parse().unwrap(), directory.join(file));
        Found { name, component, manifest: None, drop_ins: Vec::new() }
    }

    /// A number as WebAssembly writes it.
    fn leb(mut number: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let low = u8::try_from(number & 0x7f).unwrap();
            number >>= 7;
            bytes.push(if number > 0 { low | 0x80 } else { low });
            if number == 0 {
                return bytes;
            }
        }
    }

    fn section(id: u8, contents: &[u8]) -> Vec<u8> {
        [&[id][..], &leb(contents.len()), contents].concat()
    }

    fn component(sections: &[Vec<u8>]) -> Vec<u8> {
        [&b"\0asm\x0d\0\x01\0"[..], &sections.concat()].concat()
    }

    #[test]
    fn components_that_the_validator_recurses_in_are_refused_and_nothing_else_happens() {
        let directory = tempfile::tempdir().unwrap();
        // A module that needs garbage collection, and types that are nested deeply behind it.
        let module =
            section(1, &[&b"\0asm\x01\0\0\0"[..], &section(1, b"\x01\x60\x01\x63\0\0")].concat());
        let nested = [&b"\x01"[..], &b"\x42\x01\x01".repeat(1000), b"\x42\0"].concat();
        let types = component(&[module, section(7, &nested)]);
        // Instances of which each exports the one before.
        let first = b"\x01\0".to_vec();
        let chain = (0..200).map(|nth| [&b"\x01\x01\0\x01a\x05"[..], &leb(nth)].concat());
        let instances = [leb(201), first, chain.flatten().collect()].concat();
        let instances = component(&[section(5, &instances)]);
        for (file, bytes) in [("types.wasm", types), ("instances.wasm", instances)] {
            fs::write(directory.path().join(file), bytes).unwrap();
            let path = directory.path().to_owned();
            let found = found(&path, file);
            // With the stack of a thread of the runtime, on which the daemon does it.
            let verified = std::thread::Builder::new().stack_size(2 << 20).spawn(|| verify(found));
            assert!(verified.unwrap().join().unwrap().is_err(), "{file}");
        }
    }

    #[test]
    fn of_very_many_mistakes_only_the_first_are_reported() {
        let (name, component) = ("x".parse().unwrap(), PathBuf::from("x.wasm"));
        let imports =
            (0..100_000).map(|nth| format!("{nth}{}", "x".repeat(100_000 - nth))).step_by(500);
        let why = InspectError::Imports(imports.collect());
        let errors = vec![VerifyError::Inspect { path: component.clone(), why }];
        let rejected = Rejected { name, component, manifest: None, required: true, errors };
        let lines = rejected.lines();
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!(lines[LINES_MAX], "100 more mistakes; correct these first");
        assert!(lines.iter().all(|line| line.len() < LINE_MAX + 50));
    }

    #[test]
    fn a_limit_below_the_initial_memory_is_a_mistake_at_its_line_or_of_the_default() {
        let directory = tempfile::tempdir().unwrap();
        // 80 MiB and a table of 100,000 elements.
        let component = wat::parse_str(
            "(component
                (core module $m (memory 1280) (table 100000 funcref)
                    (func (export \"r\") (result i32) (i32.const 0)))
                (core instance $i (instantiate $m))
                (func $r (result (result)) (canon lift (core func $i \"r\")))
                (instance $e (export \"run\" (func $r)))
                (export \"wasi:cli/run@0.2.0\" (instance $e)))",
        );
        fs::write(directory.path().join("x.wasm"), component.unwrap()).unwrap();
        let manifest = directory.path().join("x.toml");
        let lines = |text: &str| {
            fs::write(&manifest, text).unwrap();
            let found =
                Found { manifest: Some(manifest.clone()), ..found(directory.path(), "x.wasm") };
            let rejected = verify(found).err();
            rejected.map(|rejected| (rejected.lines(), rejected.is_configuration()))
        };
        let (mistakes, configuration) = lines("").unwrap();
        assert!(configuration);
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].ends_with(
            "x.wasm begins with 81M of memory, and limits.instance-memory-max is \"64M\" by default; write \
             instance-memory-max = \"81M\" or more below [limits] in its manifest"
        ));
        let (mistakes, _) =
            lines("[limits]\nmemory-max = \"80M\"\ninstance-memory-max = \"1G\"\n").unwrap();
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].ends_with(
            "x.toml:2:14: limits.memory-max must be at least \"81M\", not \"80M\": each instance of the component \
             begins with that much"
        ));
        assert_eq!(lines("[limits]\ninstance-memory-max = \"81M\"\n"), None);
    }

    #[test]
    fn the_error_names_the_file_the_cause_and_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("x.wasm"), b"\0asm\x01\0\0\0").unwrap();
        let error = verify(found(directory.path(), "x.wasm")).unwrap_err().lines().join("; ");
        assert!(
            error.contains("x.wasm is a core module") && error.contains("build a component"),
            "{error}"
        );
    }
}
