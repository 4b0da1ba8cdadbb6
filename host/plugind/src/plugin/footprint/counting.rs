//! Carries out the instantiation of a component with counters in the place of code.

use crate::plugin::footprint::{
    DEPTH_MAX, Footprint, FootprintError, STEPS_MAX,
    definitions::{Definition, Definitions, Named, Sort},
};
use std::{collections::BTreeMap, rc::Rc};

impl Definitions<'_> {
    /// Counts what an instance of the outermost component takes.
    pub(in crate::plugin) fn footprint(&self) -> Result<Footprint, FootprintError> {
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

/// A component with what it sees around it.
#[derive(Clone, Copy)]
struct Closure {
    component: usize,
    parent: Option<usize>,
}

/// An item from which instances can be made, or which contains such items. Arguments of the host are `None` or empty:
/// the host passes no modules, components or instances with code.
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
