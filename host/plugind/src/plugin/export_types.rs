//! The types of the functions that the host calls. An export with the right name and another type would fail at every
//! call, so it is refused before anything is compiled.

use crate::plugin::interface_types::{Function, InterfaceTypes, Shape, expected};
use std::collections::BTreeMap;
use wasmparser::{
    component_types::{
        ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncType,
        ComponentInstanceTypeId, ComponentValType, ResourceId,
    },
    types::Types,
};

/// Depth to which a type is written out in a message.
const SHOWN_DEPTH: usize = 4;

/// Why the host cannot call an export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The export is something else.
    #[error("{0}, which must be an interface")]
    NotAnInterface(String),
    /// A function is missing.
    #[error("{interface} without the function {function}; it must have {function}: {wanted}")]
    Missing {
        /// The interface.
        interface: String,
        /// The function.
        function: &'static str,
        /// Its type.
        wanted: &'static str,
    },
    /// A function has another type.
    #[error("{interface} with {function}: {found}; it must be {function}: {wanted}")]
    Type {
        /// The interface.
        interface: String,
        /// The function.
        function: &'static str,
        /// The type that it has.
        found: String,
        /// The type that it must have.
        wanted: &'static str,
    },
}

/// Compares the exports of a validated component with the interfaces that the host calls.
///
/// # Errors
/// The first difference.
pub(super) fn check(
    types: &Types,
    imports: &[String],
    exports: &[String],
) -> Result<(), ExportError> {
    let component = Component { types, resources: imported_resources(types, imports) };
    for name in exports {
        if let Some(interface) = expected(name) {
            component.check_interface(name, interface)?;
        }
    }
    Ok(())
}

/// A component's types, and the resources that it imports: each with its interface and its name.
struct Component<'a> {
    types: &'a Types,
    resources: BTreeMap<ResourceId, (&'a str, &'a str)>,
}

fn imported_resources<'a>(
    types: &'a Types,
    imports: &'a [String],
) -> BTreeMap<ResourceId, (&'a str, &'a str)> {
    let mut resources = BTreeMap::new();
    for interface in imports {
        let import = types.component_item_for_import(interface).map(|item| item.ty);
        let Some(ComponentEntityType::Instance(instance)) = import else { continue };
        for (name, export) in &types[instance].exports {
            if let ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(id), .. } =
                export.ty
            {
                resources.entry(id.resource()).or_insert((interface.as_str(), name.as_str()));
            }
        }
    }
    resources
}

impl Component<'_> {
    fn check_interface(&self, name: &str, interface: &InterfaceTypes) -> Result<(), ExportError> {
        let export = self.types.component_item_for_export(name).map(|item| item.ty);
        let Some(ComponentEntityType::Instance(instance)) = export else {
            return Err(ExportError::NotAnInterface(name.to_owned()));
        };
        for function in interface.functions {
            let Some(found) = self.function_of(instance, function.name) else {
                return Err(ExportError::Missing {
                    interface: name.to_owned(),
                    function: function.name,
                    wanted: function.wit,
                });
            };
            if !self.is_function(found, function) {
                return Err(ExportError::Type {
                    interface: name.to_owned(),
                    function: function.name,
                    found: self.show_function(found),
                    wanted: function.wit,
                });
            }
        }
        Ok(())
    }

    fn function_of(
        &self,
        instance: ComponentInstanceTypeId,
        name: &str,
    ) -> Option<&ComponentFuncType> {
        match self.types[instance].exports.get(name)?.ty {
            ComponentEntityType::Func(function) => Some(&self.types[function]),
            _ => None,
        }
    }

    /// Whether a function has the parameters and the result. Whether it is `async` does not matter: the host waits for
    /// either kind.
    fn is_function(&self, found: &ComponentFuncType, wanted: &Function) -> bool {
        let parameters = found.params.iter().map(|(_, ty)| ty);
        found.params.len() == wanted.parameters.len()
            && parameters.zip(wanted.parameters).all(|(found, wanted)| self.matches(found, wanted))
            && self.is_optional(found.result.as_ref(), wanted.result.as_ref())
    }

    fn is_optional(&self, found: Option<&ComponentValType>, wanted: Option<&Shape>) -> bool {
        match (found, wanted) {
            (None, None) => true,
            (Some(found), Some(wanted)) => self.matches(found, wanted),
            _ => false,
        }
    }

    fn matches(&self, found: &ComponentValType, wanted: &Shape) -> bool {
        let id = match (found, wanted) {
            (ComponentValType::Primitive(found), Shape::Primitive(wanted)) => {
                return found == wanted;
            }
            (ComponentValType::Primitive(_), _) => return false,
            (ComponentValType::Type(id), _) => *id,
        };
        match (&self.types[id], wanted) {
            (ComponentDefinedType::Primitive(found), Shape::Primitive(wanted)) => found == wanted,
            (ComponentDefinedType::List { element: found, .. }, Shape::List(wanted))
            | (ComponentDefinedType::Option { ty: found, .. }, Shape::Option(wanted)) => {
                self.matches(found, wanted)
            }
            (
                ComponentDefinedType::Result { ok, err, .. },
                Shape::Result(wanted_ok, wanted_err),
            ) => {
                self.is_optional(ok.as_ref(), *wanted_ok)
                    && self.is_optional(err.as_ref(), *wanted_err)
            }
            (ComponentDefinedType::Record(found), Shape::Record(wanted)) => {
                found.fields.len() == wanted.len()
                    && found.fields.iter().zip(*wanted).all(
                        |((name, found), (wanted_name, wanted))| {
                            name.as_str() == *wanted_name && self.matches(found, wanted)
                        },
                    )
            }
            (ComponentDefinedType::Variant(found), Shape::Variant(wanted)) => {
                found.cases.len() == wanted.len()
                    && found.cases.iter().zip(*wanted).all(
                        |((name, found), (wanted_name, wanted))| {
                            name.as_str() == *wanted_name
                                && self.is_optional(found.ty.as_ref(), wanted.as_ref())
                        },
                    )
            }
            (ComponentDefinedType::Enum(found), Shape::Enum(wanted)) => {
                found.iter().map(|name| name.as_str()).eq(wanted.iter().copied())
            }
            (ComponentDefinedType::Own(found), Shape::Own { interface, resource }) => {
                self.is_imported(found.resource(), interface, resource)
            }
            _ => false,
        }
    }

    /// Whether `found` is the host's resource of this name, and not one of the component's own.
    fn is_imported(&self, found: ResourceId, interface: &str, resource: &str) -> bool {
        let imported = self.resources.get(&found);
        imported.is_some_and(|(of, name)| of.starts_with(interface) && *name == resource)
    }

    fn show_function(&self, function: &ComponentFuncType) -> String {
        let parameters: Vec<_> = function
            .params
            .iter()
            .map(|(name, ty)| format!("{}: {}", name.as_str(), self.show(ty, 0)))
            .collect();
        let is_async = if function.async_ { "async " } else { "" };
        let result = function.result.as_ref().map(|ty| format!(" -> {}", self.show(ty, 0)));
        format!("{is_async}func({}){}", parameters.join(", "), result.unwrap_or_default())
    }

    /// A type as WIT writes it where it has no name.
    fn show(&self, ty: &ComponentValType, depth: usize) -> String {
        let id = match ty {
            ComponentValType::Primitive(primitive) => return primitive.to_string(),
            ComponentValType::Type(id) => *id,
        };
        if depth > SHOWN_DEPTH {
            return "…".to_owned();
        }
        let inner = |ty: &ComponentValType| self.show(ty, depth + 1);
        let optional = |ty: &Option<ComponentValType>| ty.as_ref().map(inner);
        match &self.types[id] {
            ComponentDefinedType::Primitive(primitive) => primitive.to_string(),
            ComponentDefinedType::List { element, .. } => format!("list<{}>", inner(element)),
            ComponentDefinedType::Option { ty, .. } => format!("option<{}>", inner(ty)),
            ComponentDefinedType::Result { ok, err, .. } => match (optional(ok), optional(err)) {
                (None, None) => "result".to_owned(),
                (Some(ok), None) => format!("result<{ok}>"),
                (ok, Some(err)) => {
                    format!("result<{}, {err}>", ok.unwrap_or_else(|| "_".to_owned()))
                }
            },
            ComponentDefinedType::Record(_) => "record".to_owned(),
            ComponentDefinedType::Variant(_) => "variant".to_owned(),
            ComponentDefinedType::Enum(_) => "enum".to_owned(),
            ComponentDefinedType::Flags(_) => "flags".to_owned(),
            ComponentDefinedType::Tuple(_) => "tuple".to_owned(),
            ComponentDefinedType::Own(id) => self.resource_name(id.resource()),
            ComponentDefinedType::Borrow(id) => {
                format!("borrow<{}>", self.resource_name(id.resource()))
            }
            ComponentDefinedType::Future { ty, .. } => {
                optional(ty).map_or_else(|| "future".to_owned(), |ty| format!("future<{ty}>"))
            }
            ComponentDefinedType::Stream { ty, .. } => {
                optional(ty).map_or_else(|| "stream".to_owned(), |ty| format!("stream<{ty}>"))
            }
            ComponentDefinedType::Map { .. } => "map".to_owned(),
            ComponentDefinedType::FixedLengthList { .. } => "list of fixed length".to_owned(),
        }
    }

    /// The name under which a resource is imported.
    fn resource_name(&self, resource: ResourceId) -> String {
        let imported = self.resources.get(&resource);
        imported.map_or_else(|| "a resource of its own".to_owned(), |(_, name)| (*name).to_owned())
    }
}

#[cfg(test)]
mod tests;
