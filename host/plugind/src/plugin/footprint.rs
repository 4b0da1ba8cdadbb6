//! The share of the pool that one instance takes: core instances, memories and tables, counted before anything
//! is compiled.
//!
//! A component may instantiate another one several times, and that one a further one: a file of 1 KiB can mean millions
//! of instances. So the instantiation is carried out with counters in the place of code, and given up after
//! [`STEPS_MAX`] steps.

use crate::base::{
    limits::{CORE_INSTANCES_MAX, MEMORIES_MAX, MEMORY_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX},
    quantity::Bytes,
};
use std::{collections::BTreeMap, rc::Rc};
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Instance, Payload,
};

/// Limit of the definitions that are followed: the largest known component has some hundreds.
const STEPS_MAX: u32 = 20_000;
/// Limit of components that instantiate each other in a chain. Compositions have two or three.
const DEPTH_MAX: usize = 100;
/// Bytes of a page, unless the memory says otherwise.
const PAGE_LOG2: u32 = 16;
/// Size of a table element, in bytes.
const ELEMENT: u64 = 8;

/// The share of the pool that one instance of a component takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Instances of core modules.
    pub core_instances: u32,
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
    /// Bytes that all memories have from the beginning.
    pub memory: Bytes,
    /// Elements that all tables have from the beginning.
    pub table_elements: u64,
    /// Bytes that the largest memory has from the beginning.
    pub largest_memory: Bytes,
    /// Elements that the largest table has from the beginning.
    pub largest_table: u64,
}

/// Why no instance of a component can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FootprintError {
    /// It has more of something than one component may have.
    #[error("{count} {what}; one component may have at most {max}; {remedy}")]
    TooMany {
        /// The resource of which it has too much.
        what: &'static str,
        /// The number.
        count: u32,
        /// The limit.
        max: u32,
        /// The remedy.
        remedy: &'static str,
    },
    /// One of its memories begins too large.
    #[error(
        "a memory that begins with {0}; one memory may have at most {max}; build it with a smaller initial memory",
        max = Bytes(MEMORY_MAX)
    )]
    Memory(Bytes),
    /// One of its tables begins too large.
    #[error(
        "a table that begins with {0} elements; one table may have at most {TABLE_ELEMENTS_MAX}; split the component"
    )]
    Table(u64),
    /// It instantiates components too often to be counted.
    #[error(
        "components that instantiate each other more than {STEPS_MAX} times; build it again, or do not trust it"
    )]
    TooManySteps,
    /// It instantiates components in too long a chain.
    #[error(
        "components that instantiate each other in a chain of more than {DEPTH_MAX}; build it again, or do not trust it"
    )]
    Chain,
}

impl Footprint {
    /// The bytes that an instance has from the beginning, as they count for its limits.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        Bytes(self.memory.0.saturating_add(self.table_elements.saturating_mul(ELEMENT)))
    }

    /// Whether the pool has room for an instance.
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub fn check(&self) -> Result<(), FootprintError> {
        let fewer = "link them into fewer modules, or split the component";
        for (what, count, max, remedy) in [
            ("instances of core modules", self.core_instances, CORE_INSTANCES_MAX, fewer),
            ("linear memories", self.memories, MEMORIES_MAX, fewer),
            ("tables", self.tables, TABLES_MAX, fewer),
        ] {
            if count > max {
                return Err(FootprintError::TooMany { what, count, max, remedy });
            }
        }
        if self.largest_memory > Bytes(MEMORY_MAX) {
            return Err(FootprintError::Memory(self.largest_memory));
        }
        if self.largest_table > u64::from(TABLE_ELEMENTS_MAX) {
            return Err(FootprintError::Table(self.largest_table));
        }
        Ok(())
    }

    fn add_module(&mut self, module: &Self) {
        self.core_instances = self.core_instances.saturating_add(1);
        self.memories = self.memories.saturating_add(module.memories);
        self.tables = self.tables.saturating_add(module.tables);
        self.memory = Bytes(self.memory.0.saturating_add(module.memory.0));
        self.table_elements = self.table_elements.saturating_add(module.table_elements);
        self.largest_memory = self.largest_memory.max(module.largest_memory);
        self.largest_table = self.largest_table.max(module.largest_table);
    }
}

/// A component's definitions, collected section by section.
pub(super) struct Definitions<'a> {
    modules: Vec<Footprint>,
    /// Each component as its definitions in their order; the first is the outermost.
    components: Vec<Vec<Definition<'a>>>,
    /// The definitions that are being read, the innermost last.
    open: Vec<OpenComponent>,
}

#[derive(Clone, Copy)]
enum OpenComponent {
    Module(usize),
    Component(usize),
}

/// A definition that leads to instances, or to where something is that can be instantiated.
enum Definition<'a> {
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
enum Sort {
    Module,
    Component,
    Instance,
}

struct Named<'a> {
    name: &'a str,
    sort: Sort,
    index: u32,
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
    pub(super) fn read(&mut self, payload: &Payload<'a>) -> Result<(), BinaryReaderError> {
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
                    // One made of exports of others has nothing of its own.
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

    /// Counts what an instance of the outermost component takes.
    pub(super) fn footprint(&self) -> Result<Footprint, FootprintError> {
        let mut counting = Counting {
            definitions: self,
            scopes: Vec::new(),
            steps: 0,
            footprint: Footprint::default(),
        };
        counting.instantiate(Closure { component: 0, parent: None }, &Items::default(), 0)?;
        Ok(counting.footprint)
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

/// A component with what it sees around it.
#[derive(Clone, Copy)]
struct Closure {
    component: usize,
    parent: Option<usize>,
}

/// Something by which instances are made. What the host would have to give is unknown, and it gives nothing of the
/// kind.
#[derive(Clone)]
enum Item<'a> {
    Module(Option<usize>),
    Component(Option<Closure>),
    Instance(Rc<Items<'a>>),
}

type Items<'a> = BTreeMap<&'a str, Item<'a>>;

/// The index spaces of one instantiation.
struct Scope<'a> {
    parent: Option<usize>,
    modules: Vec<Option<usize>>,
    components: Vec<Option<Closure>>,
    instances: Vec<Rc<Items<'a>>>,
}

impl<'a> Scope<'a> {
    fn push(&mut self, item: Item<'a>) {
        match item {
            Item::Module(module) => self.modules.push(module),
            Item::Component(component) => self.components.push(component),
            Item::Instance(instance) => self.instances.push(instance),
        }
    }

    fn get(&self, sort: Sort, index: u32) -> Item<'a> {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        match sort {
            Sort::Module => Item::Module(self.modules.get(index).copied().flatten()),
            Sort::Component => Item::Component(self.components.get(index).copied().flatten()),
            Sort::Instance => {
                Item::Instance(self.instances.get(index).cloned().unwrap_or_default())
            }
        }
    }
}

struct Counting<'b, 'a> {
    definitions: &'b Definitions<'a>,
    scopes: Vec<Scope<'a>>,
    steps: u32,
    footprint: Footprint,
}

impl<'a> Counting<'_, 'a> {
    fn step(&mut self, count: usize) -> Result<(), FootprintError> {
        self.steps = self.steps.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        (self.steps <= STEPS_MAX).then_some(()).ok_or(FootprintError::TooManySteps)
    }

    /// Instantiates a component with these arguments, and returns what it exports.
    fn instantiate(
        &mut self,
        closure: Closure,
        arguments: &Items<'a>,
        depth: usize,
    ) -> Result<Items<'a>, FootprintError> {
        if depth > DEPTH_MAX {
            return Err(FootprintError::Chain);
        }
        let here = self.scopes.len();
        let (modules, components, instances) = (Vec::new(), Vec::new(), Vec::new());
        self.scopes.push(Scope { parent: closure.parent, modules, components, instances });
        let mut exports = Items::default();
        let definitions = self.definitions.components.get(closure.component);
        for definition in definitions.into_iter().flatten() {
            self.step(1)?;
            let item = match definition {
                Definition::Module(module) => Item::Module(Some(*module)),
                Definition::Component(component) => {
                    Item::Component(Some(Closure { component: *component, parent: Some(here) }))
                }
                Definition::Import(sort, name) => export_of(arguments, *sort, name),
                Definition::InstantiateModule(module) => {
                    self.instantiate_module(here, *module);
                    continue;
                }
                Definition::Instantiate { component, arguments } => {
                    let arguments = self.bundle(here, arguments)?;
                    let made = match self.get(here, Sort::Component, *component) {
                        Item::Component(Some(closure)) => {
                            self.instantiate(closure, &arguments, depth + 1)?
                        }
                        _ => Items::default(),
                    };
                    Item::Instance(Rc::new(made))
                }
                Definition::Bundle(items) => Item::Instance(Rc::new(self.bundle(here, items)?)),
                Definition::AliasExport { sort, instance, name } => {
                    match self.get(here, Sort::Instance, *instance) {
                        Item::Instance(instance) => export_of(&instance, *sort, name),
                        _ => nothing(*sort),
                    }
                }
                Definition::AliasOuter { sort, count, index } => self
                    .outer(here, *count)
                    .map_or_else(|| nothing(*sort), |outer| self.get(outer, *sort, *index)),
                Definition::Export(Named { name, sort, index }) => {
                    let item = self.get(here, *sort, *index);
                    exports.insert(name, item.clone());
                    item
                }
            };
            if let Some(scope) = self.scopes.get_mut(here) {
                scope.push(item);
            }
        }
        Ok(exports)
    }

    fn instantiate_module(&mut self, scope: usize, module: u32) {
        let known = match self.get(scope, Sort::Module, module) {
            Item::Module(module) => module.and_then(|module| self.definitions.modules.get(module)),
            _ => None,
        };
        self.footprint.add_module(known.unwrap_or(&Footprint::default()));
    }

    fn bundle(&mut self, scope: usize, named: &[Named<'a>]) -> Result<Items<'a>, FootprintError> {
        self.step(named.len())?;
        let item = |named: &Named<'a>| (named.name, self.get(scope, named.sort, named.index));
        Ok(named.iter().map(item).collect())
    }

    fn get(&self, scope: usize, sort: Sort, index: u32) -> Item<'a> {
        self.scopes.get(scope).map_or_else(|| nothing(sort), |scope| scope.get(sort, index))
    }

    fn outer(&self, scope: usize, count: u32) -> Option<usize> {
        (0..count).try_fold(scope, |scope, _| self.scopes.get(scope)?.parent)
    }
}

fn export_of<'a>(exports: &Items<'a>, sort: Sort, name: &str) -> Item<'a> {
    match (sort, exports.get(name)) {
        (Sort::Module, Some(item @ Item::Module(_)))
        | (Sort::Component, Some(item @ Item::Component(_)))
        | (Sort::Instance, Some(item @ Item::Instance(_))) => item.clone(),
        _ => nothing(sort),
    }
}

fn nothing<'a>(sort: Sort) -> Item<'a> {
    match sort {
        Sort::Module => Item::Module(None),
        Sort::Component => Item::Component(None),
        Sort::Instance => Item::Instance(Rc::default()),
    }
}

#[cfg(test)]
mod tests;
