//! The definitions of a component that lead to instances.

use crate::{base::quantity::Bytes, plugin::footprint::Footprint};
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Instance, Payload,
};

/// The binary logarithm of the default page size of a memory.
const PAGE_LOG2: u32 = 16;

/// A component's definitions, collected section by section.
pub(in crate::plugin) struct Definitions<'a> {
    pub(super) modules: Vec<Footprint>,
    /// Each component as its definitions in their order; the first is the outermost.
    pub(super) components: Vec<Vec<Definition<'a>>>,
    /// The definitions that are being read, the innermost last.
    open: Vec<OpenComponent>,
}

#[derive(Clone, Copy)]
enum OpenComponent {
    Module(usize),
    Component(usize),
}

/// A definition that makes an instance, or that defines or names an item from which instances can be made.
pub(super) enum Definition<'a> {
    Module(usize),
    Component(usize),
    Import(Sort, &'a str),
    Instantiate { component: u32, arguments: Vec<Named<'a>> },
    InstantiateModule(u32),
    Bundle(Vec<Named<'a>>),
    AliasExport { sort: Sort, instance: u32, name: &'a str },
    AliasOuter { sort: Sort, count: u32, index: u32 },
    Export(Named<'a>),
}

/// A definition that can be instantiated or can contain one. Everything else takes nothing from the pool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Module,
    Component,
    Instance,
}

pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    pub(super) sort: Sort,
    pub(super) index: u32,
}

impl<'a> Named<'a> {
    fn new(name: &'a str, kind: ComponentExternalKind, index: u32) -> Option<Self> {
        Some(Self { name, sort: Sort::of(kind)?, index })
    }
}

impl Sort {
    fn of(kind: ComponentExternalKind) -> Option<Self> {
        match kind {
            ComponentExternalKind::Module => Some(Self::Module),
            ComponentExternalKind::Component => Some(Self::Component),
            ComponentExternalKind::Instance => Some(Self::Instance),
            ComponentExternalKind::Func
            | ComponentExternalKind::Value
            | ComponentExternalKind::Type => None,
        }
    }
}

impl Default for Definitions<'_> {
    fn default() -> Self {
        let (components, open) = (vec![Vec::new()], vec![OpenComponent::Component(0)]);
        Self { modules: Vec::new(), components, open }
    }
}

impl<'a> Definitions<'a> {
    /// Takes up one section, which was validated.
    pub(in crate::plugin) fn read(
        &mut self,
        payload: &Payload<'a>,
    ) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ModuleSection { .. } => {
                self.define(Definition::Module(self.modules.len()));
                self.open.push(OpenComponent::Module(self.modules.len()));
                self.modules.push(Footprint::default());
            }
            Payload::ComponentSection { .. } => {
                self.define(Definition::Component(self.components.len()));
                self.open.push(OpenComponent::Component(self.components.len()));
                self.components.push(Vec::new());
            }
            Payload::End(_) => drop(self.open.pop()),
            _ => match self.open.last().copied() {
                Some(OpenComponent::Module(module)) => self.read_module(module, payload)?,
                Some(OpenComponent::Component(_)) => self.read_component(payload)?,
                None => (),
            },
        }
        Ok(())
    }

    fn read_module(
        &mut self,
        module: usize,
        payload: &Payload<'_>,
    ) -> Result<(), BinaryReaderError> {
        let Some(module) = self.modules.get_mut(module) else { return Ok(()) };
        match payload {
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    let memory = memory?;
                    let page = 1_u64 << memory.page_size_log2.unwrap_or(PAGE_LOG2).min(PAGE_LOG2);
                    let bytes = Bytes(memory.initial.saturating_mul(page));
                    module.memories = module.memories.saturating_add(1);
                    module.memory = Bytes(module.memory.0.saturating_add(bytes.0));
                    module.largest_memory = module.largest_memory.max(bytes);
                }
            }
            Payload::TableSection(tables) => {
                for table in tables.clone() {
                    let elements = table?.ty.initial;
                    module.tables = module.tables.saturating_add(1);
                    module.table_elements = module.table_elements.saturating_add(elements);
                    module.largest_table = module.largest_table.max(elements);
                }
            }
            _ => (),
        }
        Ok(())
    }

    fn read_component(&mut self, payload: &Payload<'a>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    // An instance that only bundles exports of others takes nothing from the pool.
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        self.define(Definition::InstantiateModule(module_index));
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    self.define(instantiation(instance?));
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    alias_of(&alias?).into_iter().for_each(|alias| self.define(alias));
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    let import = import?;
                    let sort = match import.ty {
                        ComponentTypeRef::Module(_) => Sort::Module,
                        ComponentTypeRef::Component(_) => Sort::Component,
                        ComponentTypeRef::Instance(_) => Sort::Instance,
                        _ => continue,
                    };
                    self.define(Definition::Import(sort, import.name.name));
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    let export = export?;
                    let named = Named::new(export.name.name, export.kind, export.index);
                    named
                        .map(Definition::Export)
                        .into_iter()
                        .for_each(|export| self.define(export));
                }
            }
            _ => (),
        }
        Ok(())
    }

    fn define(&mut self, definition: Definition<'a>) {
        let Some(OpenComponent::Component(component)) = self.open.last() else { return };
        if let Some(definitions) = self.components.get_mut(*component) {
            definitions.push(definition);
        }
    }
}

fn instantiation(instance: ComponentInstance<'_>) -> Definition<'_> {
    match instance {
        ComponentInstance::Instantiate { component_index: component, args } => {
            let arguments = args.iter().filter_map(|arg| Named::new(arg.name, arg.kind, arg.index));
            Definition::Instantiate { component, arguments: arguments.collect() }
        }
        ComponentInstance::FromExports(exports) => {
            let exports = exports
                .iter()
                .filter_map(|export| Named::new(export.name.name, export.kind, export.index));
            Definition::Bundle(exports.collect())
        }
    }
}

fn alias_of<'a>(alias: &ComponentAlias<'a>) -> Option<Definition<'a>> {
    match *alias {
        ComponentAlias::InstanceExport { kind, instance_index: instance, name } => {
            Some(Definition::AliasExport { sort: Sort::of(kind)?, instance, name })
        }
        ComponentAlias::Outer { kind, count, index } => {
            let sort = match kind {
                ComponentOuterAliasKind::CoreModule => Sort::Module,
                ComponentOuterAliasKind::Component => Sort::Component,
                ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Type => return None,
            };
            Some(Definition::AliasOuter { sort, count, index })
        }
        ComponentAlias::CoreInstanceExport { .. } => None,
    }
}
