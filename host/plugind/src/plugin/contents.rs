//! The contents of a component's file: it is read once, validated on the way, and nothing of it is compiled. Bodies of
//! functions are left to the compiler, which validates them in a process of its own.

use crate::plugin::{
    export_types,
    footprint::{Footprint, definitions::Definitions},
    imports::missing,
    inspect_error::InspectError,
    interfaces::{CONTRACT, split, track},
    nesting::is_too_deep,
    proposals::{ENABLED, Proposal},
};
use wasmparser::{
    BinaryReaderError, CanonicalFunction, CanonicalOption, ComponentAlias,
    ComponentExportSectionReader, ComponentExternalKind, ComponentOuterAliasKind, ComponentType,
    ComponentTypeRef, Encoding, InstanceTypeDeclaration, Parser, Payload, TypeBounds, ValidPayload,
    Validator, WasmFeatures, types::Types,
};

/// The longest version that is shown, in bytes.
const VERSION_MAX: usize = 64;

/// A component's names, and what its instances take.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The names of what it imports.
    pub(super) imports: Vec<String>,
    /// Messages about imports that the host does not have.
    pub(super) missing: Vec<String>,
    /// The names of what it exports.
    pub(super) exports: Vec<String>,
    /// The lifecycle that a component inside it exports.
    pub(super) inner_lifecycle: Option<String>,
    /// The share of the instance pool that one instance takes.
    pub(super) footprint: Footprint,
    /// A function of it is async.
    pub(super) has_async: bool,
    /// The version that its author gave it.
    pub(super) version: Option<String>,
}

impl Contents {
    /// Reads and validates the component in `bytes`.
    ///
    /// # Errors
    /// When it is not a component, is not valid, or has a function of another type than the host calls.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, InspectError> {
        Self::read_with(bytes, Some(Validator::new_with_features(ENABLED)))
    }

    /// Reads a component that [`Contents::read`] has read before.
    ///
    /// # Errors
    /// When it is not one.
    pub(super) fn read_valid(bytes: &[u8]) -> Result<Self, InspectError> {
        Self::read_with(bytes, None)
    }

    fn read_with(bytes: &[u8], validator: Option<Validator>) -> Result<Self, InspectError> {
        let (mut contents, mut definitions) = (Self::default(), Definitions::default());
        let types = contents.walk(bytes, &mut definitions, validator)?;
        if let Some(types) = types {
            export_types::check(&types, &contents.imports, &contents.exports)?;
        }
        contents.footprint = definitions.footprint()?;
        Ok(contents)
    }

    fn walk<'a>(
        &mut self,
        bytes: &'a [u8],
        definitions: &mut Definitions<'a>,
        mut validator: Option<Validator>,
    ) -> Result<Option<Types>, InspectError> {
        let (mut depth, mut instances, mut types) = (0_usize, InstanceTypes::default(), None);
        for payload in parser(ENABLED).parse_all(bytes) {
            let damaged = |error: BinaryReaderError| InspectError::unreadable(bytes, &error);
            let payload = payload.map_err(damaged)?;
            match &payload {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err(match is_preview_one(bytes) {
                        true => InspectError::PreviewOne { is_program: exports_start(bytes) },
                        false => InspectError::CoreModule,
                    });
                }
                // Before anything else reads them, by recursion.
                Payload::ComponentTypeSection(section) if is_too_deep(&bytes[section.range()]) => {
                    return Err(InspectError::TooDeep);
                }
                _ => (),
            }
            let invalid = |error: BinaryReaderError| invalid(bytes, &error);
            if let Some(validator) = &mut validator
                && let ValidPayload::End(valid) = validator.payload(&payload).map_err(invalid)?
            {
                types = Some(valid);
            }
            definitions.read(&payload).map_err(damaged)?;
            if let Payload::ComponentCanonicalSection(section) = &payload {
                for function in section.clone() {
                    self.has_async |= is_async(&function.map_err(damaged)?);
                }
            }
            match &payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentExportSection(exports) if depth > 0 => {
                    self.look_for_lifecycle(exports).map_err(damaged)?;
                }
                _ if depth > 0 => (),
                _ => self.names(&payload, &mut instances).map_err(damaged)?,
            }
        }
        Ok(types)
    }

    /// Looks among the exports of a component inside it.
    fn look_for_lifecycle(
        &mut self,
        exports: &ComponentExportSectionReader<'_>,
    ) -> Result<(), BinaryReaderError> {
        for export in exports.clone() {
            let name = export?.name.name;
            if is_lifecycle(name) {
                self.inner_lifecycle.get_or_insert_with(|| name.to_owned());
            }
        }
        Ok(())
    }

    /// Takes the names from a section of the outermost component.
    fn names(
        &mut self,
        payload: &Payload<'_>,
        instances: &mut InstanceTypes,
    ) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ComponentTypeSection(section) => {
                for ty in section.clone() {
                    instances.0.push(has_substance(&ty?));
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    instances.alias(&alias?);
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    let import = import?;
                    let name = import.name.name;
                    self.missing.extend(missing(name).filter(|_| instances.is_wanted(import.ty)));
                    self.imports.push(name.to_owned());
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Type {
                        instances.0.push(false);
                    }
                    self.exports.push(export.name.name.to_owned());
                }
            }
            // As `wasm-tools metadata add --version` writes it.
            Payload::CustomSection(section) if section.name() == "version" => {
                let is_printable = |text: &&str| {
                    (1..=VERSION_MAX).contains(&text.len())
                        && text.bytes().all(|byte| byte.is_ascii_graphic())
                };
                let text = std::str::from_utf8(section.data()).ok().filter(is_printable);
                self.version = text.map(str::to_owned);
            }
            _ => (),
        }
        Ok(())
    }
}

/// Whether this is the name of the lifecycle.
fn is_lifecycle(export: &str) -> bool {
    let (interface, version) = split(export);
    interface == "plugind:plugin/lifecycle" && track(version) == CONTRACT
}

/// Whether it is a function of the component's, and async.
fn is_async(function: &CanonicalFunction) -> bool {
    let CanonicalFunction::Lift { options, .. } = function else { return false };
    options.contains(&CanonicalOption::Async)
}

fn parser(features: WasmFeatures) -> Parser {
    let mut parser = Parser::new(0);
    parser.set_features(features);
    parser
}

fn invalid(bytes: &[u8], error: &BinaryReaderError) -> InspectError {
    let is_valid = |features| {
        let mut validator = Validator::new_with_features(features);
        let mut payloads = parser(features).parse_all(bytes);
        payloads.all(|payload| {
            payload.is_ok_and(|payload| {
                // With a proposal the validator may come further than it has before, and it recurses in types.
                let is_deep = matches!(&payload, Payload::ComponentTypeSection(section)
                    if bytes.get(section.range()).is_none_or(is_too_deep));
                !is_deep && validator.payload(&payload).is_ok()
            })
        })
    };
    match Proposal::needed(error, is_valid) {
        Some(proposal) => InspectError::Proposal(proposal),
        None => InspectError::unreadable(bytes, error),
    }
}

/// The types of a component by their index: whether each is that of an instance that is more than names for types.
///
/// An interface of types alone has no functions, so no host has to provide it.
#[derive(Default)]
struct InstanceTypes(Vec<bool>);

impl InstanceTypes {
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

/// Whether a core module is a program.
fn exports_start(bytes: &[u8]) -> bool {
    let exports = Parser::new(0).parse_all(bytes).filter_map(|payload| match payload {
        Ok(Payload::ExportSection(exports)) => Some(exports),
        _ => None,
    });
    exports
        .flat_map(|exports| exports.into_iter().filter_map(Result::ok))
        .any(|export| export.name == "_start")
}
