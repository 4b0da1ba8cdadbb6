//! What a component exports, read off its names: what it can be used for.

use crate::plugin::{
    imports::missing,
    interfaces::CONTRACT,
    manifest::Mode,
    nesting::{DEPTH_MAX, is_too_deep},
};
use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentOuterAliasKind, ComponentType,
    ComponentTypeRef, Encoding, InstanceTypeDeclaration, Parser, Payload, TypeBounds,
};

/// The version of an interface of which there are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasiVersion {
    /// WASI 0.2
    P2,
    /// WASI 0.3
    P3,
}

/// What a component has to offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// It answers HTTP requests. Of two versions the later.
    pub http: Option<WasiVersion>,
    /// It is a program: `wasi:cli/run`. Of two versions the later.
    pub run: Option<WasiVersion>,
    /// It exports `plugind:plugin/lifecycle`.
    pub lifecycle: bool,
    /// It exports `plugind:plugin/handover`: its state goes from one instance to the next, so there is one at a time.
    pub handover: bool,
    /// The names of what it imports.
    pub imports: Vec<String>,
    /// The names of what it exports.
    pub exports: Vec<String>,
}

/// Why a component cannot be a plugin.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The bytes are something else.
    #[error(
        "is not WebAssembly, which would begin with the bytes \"\\0asm\"; put a component there, as \
         `cargo build --target wasm32-wasip2` makes one"
    )]
    NotWasm,
    /// The bytes are WebAssembly as text.
    #[error("is a component written as text; make it binary with `wasm-tools parse -o FILE.wasm`")]
    Text,
    /// The bytes are damaged.
    #[error("is not a WebAssembly component: {0}; build or copy it anew")]
    Damaged(String),
    /// It is a core module.
    #[error(
        "is a core module, not a component; build a component, as with `cargo build --target wasm32-wasip2` \
         or `wasm-tools component new`"
    )]
    CoreModule,
    /// It is a core module of the time before components.
    #[error(
        "is a core module for WASI preview 1, not a component; build a component: with `--target wasm32-wasip2`, or from \
         what there is with `wasm-tools component new --adapt`"
    )]
    PreviewOne,
    /// There is nothing in it.
    #[error(
        "is empty: it is still being written, or there was no room for it; write it under another name, such as one \
         that begins with a dot, and rename it (a link to /dev/null masks a plugin)"
    )]
    Empty,
    /// It ends before it should.
    #[error(
        "ends at byte {0}, in the middle of itself; it was cut off or is still being written: write it under another \
         name, such as one that begins with a dot, and rename it"
    )]
    CutOff(usize),
    /// Its types are nested beyond any use.
    #[error(
        "has types within types, more than {DEPTH_MAX} deep, which no toolchain writes; build it anew, or do not trust it"
    )]
    TooDeep,
    /// It imports what the host does not have.
    #[error("imports {}", .0.join("; it imports "))]
    Imports(Vec<String>),
    /// It is made for another version of the contract.
    #[error(
        "is made for {0}, and this host speaks plugind:plugin@{CONTRACT}; rebuild it against the host's wit/"
    )]
    OtherContract(String),
    /// It has an interface of this contract that this host does not know.
    #[error("exports {0}, which this host does not know; use a newer plugind, or leave it out")]
    LaterInterface(String),
    /// It is a background program with a state to hand over.
    #[error(
        "exports {0} and is a background program, which is never asked for its state; leave that export out, or export \
         a handler of requests"
    )]
    ProgramHandsOver(String),
    /// It exports nothing that the host has a use for.
    #[error(
        "exports nothing that plugind can use (it exports {0}); export wasi:http/handler@0.3, \
         wasi:http/incoming-handler@0.2, wasi:cli/run or plugind:plugin/lifecycle@{CONTRACT}"
    )]
    Nothing(String),
}

impl Inspection {
    /// Reads them off the component in `bytes`, of which only the outermost names are looked at.
    ///
    /// # Errors
    /// When it cannot be a plugin.
    pub fn of(bytes: &[u8]) -> Result<Self, InspectError> {
        let mut offers = Self::default();
        let wanting = offers.collect_names(bytes)?;
        let ours = |name: &str, interface: &str| {
            let rest =
                name.strip_prefix("plugind:plugin/").and_then(|rest| rest.strip_prefix(interface));
            rest.is_some_and(|rest| rest.starts_with(&format!("@{CONTRACT}.")))
        };
        let mut handover = None;
        for name in &offers.exports {
            if name.starts_with("wasi:http/handler@0.3.") {
                offers.http = Some(WasiVersion::P3);
            } else if name.starts_with("wasi:http/incoming-handler@0.2.") {
                offers.http = offers.http.or(Some(WasiVersion::P2));
            } else if name.starts_with("wasi:cli/run@0.3.") {
                offers.run = Some(WasiVersion::P3);
            } else if name.starts_with("wasi:cli/run@0.2.") {
                offers.run = offers.run.or(Some(WasiVersion::P2));
            } else if ours(name, "lifecycle") {
                offers.lifecycle = true;
            } else if ours(name, "handover") {
                handover = Some(name.clone());
            } else if name.starts_with("plugind:plugin/") && name.contains(&format!("@{CONTRACT}."))
            {
                return Err(InspectError::LaterInterface(name.clone()));
            } else if name.starts_with("plugind:plugin/") {
                return Err(InspectError::OtherContract(name.clone()));
            }
        }
        if offers.http.is_none() && offers.run.is_none() && !offers.lifecycle {
            let exports = match offers.exports.as_slice() {
                [] => "nothing at all".to_owned(),
                exports => exports.join(", "),
            };
            return Err(InspectError::Nothing(exports));
        }
        offers.handover = handover.is_some();
        if let Some(name) = handover.filter(|_| offers.is_program()) {
            return Err(InspectError::ProgramHandsOver(name));
        }
        if !wanting.is_empty() {
            return Err(InspectError::Imports(wanting));
        }
        Ok(offers)
    }

    /// Whether it is a background program. What answers requests is none, also where its toolchain makes it one as well.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.http.is_none() && self.run.is_some()
    }

    /// What its instances are used for, if its manifest asks for nothing else.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.http {
            // It keeps something from one request to the next, or has a start that is meant for more than one request.
            Some(WasiVersion::P2) if self.handover || self.lifecycle => Mode::Exclusive,
            // Many guests of 0.2 are made for one request, and break when they get another one.
            Some(WasiVersion::P2) => Mode::Fresh,
            Some(WasiVersion::P3) | None => Mode::Shared,
        }
    }

    /// Collects the names of imports and exports, and returns what there is to say of imports that the host does not
    /// have.
    fn collect_names(&mut self, bytes: &[u8]) -> Result<Vec<String>, InspectError> {
        let (mut depth, mut wanting, mut types) = (0_usize, Vec::new(), Types::default());
        for payload in Parser::new(0).parse_all(bytes) {
            let wrong = |error: wasmparser::BinaryReaderError| why_not(bytes, &error);
            match payload.map_err(wrong)? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err(match is_preview_one(bytes) {
                        true => InspectError::PreviewOne,
                        false => InspectError::CoreModule,
                    });
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                _ if depth > 0 => (),
                Payload::ComponentTypeSection(section) => {
                    if is_too_deep(&bytes[section.range()]) {
                        return Err(InspectError::TooDeep);
                    }
                    for ty in section {
                        types.0.push(has_substance(&ty.map_err(wrong)?));
                    }
                }
                Payload::ComponentAliasSection(aliases) => {
                    for alias in aliases {
                        types.alias(&alias.map_err(wrong)?);
                    }
                }
                Payload::ComponentImportSection(imports) => {
                    for import in imports {
                        let import = import.map_err(wrong)?;
                        let name = import.name.name;
                        wanting.extend(missing(name).filter(|_| types.is_wanted(import.ty)));
                        self.imports.push(name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) => {
                    for export in exports {
                        let export = export.map_err(wrong)?;
                        if export.kind == ComponentExternalKind::Type {
                            types.0.push(false);
                        }
                        self.exports.push(export.name.name.to_owned());
                    }
                }
                _ => (),
            }
        }
        Ok(wanting)
    }
}

/// The types of a component by their index: whether each is that of an instance that is more than names for types.
///
/// An interface of types alone asks nothing of the host, so that nobody needs to have it.
#[derive(Default)]
struct Types(Vec<bool>);

impl Types {
    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        if let ComponentAlias::InstanceExport { kind: ComponentExternalKind::Type, .. }
        | ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, .. } = alias
        {
            self.0.push(false);
        }
    }

    /// Whether the host has to have something for an import of this type.
    fn is_wanted(&mut self, import: ComponentTypeRef) -> bool {
        match import {
            ComponentTypeRef::Type(bounds) => {
                self.0.push(false);
                matches!(bounds, TypeBounds::SubResource)
            }
            ComponentTypeRef::Instance(index) => {
                usize::try_from(index).is_ok_and(|index| self.0.get(index) == Some(&true))
            }
            _ => true,
        }
    }
}

fn has_substance(ty: &ComponentType<'_>) -> bool {
    let ComponentType::Instance(declarations) = ty else { return false };
    declarations.iter().any(|declaration| {
        let InstanceTypeDeclaration::Export { ty, .. } = declaration else { return false };
        !matches!(ty, ComponentTypeRef::Type(TypeBounds::Eq(_)))
    })
}

fn why_not(bytes: &[u8], error: &wasmparser::BinaryReaderError) -> InspectError {
    if bytes.is_empty() {
        return InspectError::Empty;
    }
    if bytes.trim_ascii_start().starts_with(b"(component") || bytes.starts_with(b"(module") {
        return InspectError::Text;
    }
    if !bytes.starts_with(b"\0asm") {
        return InspectError::NotWasm;
    }
    // Further lines show bytes, which is of no use to anybody.
    let message = error.message().lines().next().unwrap_or_default();
    match message.contains("unexpected end") {
        // Whatever begins as it should and ends too early was something once, or will be.
        true => InspectError::CutOff(bytes.len()),
        false => InspectError::Damaged(format!("{message} at byte {}", error.offset())),
    }
}

/// Whether a core module imports WASI preview 1.
fn is_preview_one(bytes: &[u8]) -> bool {
    let imports = Parser::new(0).parse_all(bytes).filter_map(|payload| match payload {
        Ok(Payload::ImportSection(imports)) => Some(imports),
        _ => None,
    });
    imports
        .flat_map(|imports| imports.into_imports().filter_map(Result::ok))
        .any(|import| matches!(import.module, "wasi_snapshot_preview1" | "wasi_unstable"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exports_decide_the_mode() {
        let mode = |http, lifecycle, handover| {
            Inspection { http: Some(http), lifecycle, handover, ..Inspection::default() }.mode()
        };
        assert_eq!(mode(WasiVersion::P2, false, false), Mode::Fresh);
        assert_eq!(mode(WasiVersion::P2, true, false), Mode::Exclusive);
        assert_eq!(mode(WasiVersion::P2, false, true), Mode::Exclusive);
        for (lifecycle, handover) in [(false, false), (true, false), (true, true)] {
            assert_eq!(mode(WasiVersion::P3, lifecycle, handover), Mode::Shared);
        }
    }

    #[test]
    fn what_is_no_component_is_told_apart() {
        assert!(matches!(Inspection::of(b""), Err(InspectError::Empty)));
        assert!(matches!(Inspection::of(b"#!/bin/sh"), Err(InspectError::NotWasm)));
        assert!(matches!(Inspection::of(b"\n(component)"), Err(InspectError::Text)));
        assert!(matches!(
            Inspection::of(b"\0asm\x0d\0\x01\0\x07\xff"),
            Err(InspectError::CutOff(10))
        ));
        assert!(matches!(Inspection::of(b"\0asm\x01\0\0\0"), Err(InspectError::CoreModule)));
        assert!(matches!(Inspection::of(b"\0asm\x0d\0\x01\0"), Err(InspectError::Nothing(_))));
        assert!(matches!(Inspection::of(b"\0asm\x0d\0\x02\0"), Err(InspectError::Damaged(_))));
    }
}
