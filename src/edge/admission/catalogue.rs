//! The published schema as plain values, read from its SDL: what admission types documents with, and what the
//! tests that go over every field are generated from.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::Value;
use async_graphql::parser::types::{
    BaseType, ConstDirective, FieldDefinition, InputValueDefinition, Type as TypeText, TypeDefinition, TypeKind,
    TypeSystemDefinition,
};
use async_graphql::parser::{self, Positioned};

use crate::error::{Context, Result};

/// A field of an object or interface, as an index into [`Catalogue::fields`]: a permission table is a list in that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(u32);

impl FieldId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Every type of a schema, in the order of its SDL. Built-in scalars and the introspection types are not among them.
#[derive(Clone, Debug)]
pub struct Catalogue {
    types: Vec<Type>,
    fields: Vec<Field>,
    directives: usize,
    positions: HashMap<Arc<str>, usize>,
    roots: Roots,
}

#[derive(Clone, Debug)]
struct Roots {
    query: Arc<str>,
    mutation: Arc<str>,
    subscription: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Scalar,
    Object,
    Interface,
    Union,
    Enum,
    Input,
}

#[derive(Clone, Debug)]
pub struct Type {
    pub name: Arc<str>,
    pub kind: Kind,
    pub description: Option<String>,
    /// Of objects and interfaces: the interfaces they implement.
    pub interfaces: Vec<Arc<str>>,
    /// The objects that a value of this type can be: itself, the implementors, or the members of the union.
    pub possible: Vec<Arc<str>>,
    /// Of enums.
    pub values: Vec<EnumValue>,
    /// Of input objects.
    pub inputs: Vec<Argument>,
    fields: Vec<FieldId>,
    by_name: HashMap<Arc<str>, FieldId>,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub parent: Arc<str>,
    pub name: Arc<str>,
    pub description: Option<String>,
    pub deprecated: bool,
    pub arguments: Vec<Argument>,
    /// As written: `[Tenant!]!`.
    pub ty: String,
    /// The name inside lists and non-nulls: `Tenant`.
    pub named: Arc<str>,
    pub list: bool,
}

/// An argument of a field, or a field of an input object.
#[derive(Clone, Debug)]
pub struct Argument {
    pub name: Arc<str>,
    pub description: Option<String>,
    pub ty: String,
    pub named: Arc<str>,
    pub list: bool,
    pub default: Option<Value>,
}

impl Argument {
    /// Whether a caller may leave it out.
    pub fn optional(&self) -> bool {
        self.default.is_some() || !self.ty.ends_with('!')
    }
}

#[derive(Clone, Debug)]
pub struct EnumValue {
    pub name: Arc<str>,
    pub description: Option<String>,
    pub deprecated: bool,
}

impl Catalogue {
    /// Reads the SDL of a whole schema, as `Schema::sdl` prints it (no `extend`).
    pub fn parse(sdl: &str) -> Result<Self> {
        let document = parser::parse_schema(sdl).context("parse the schema")?;
        let roots = Roots { query: "Query".into(), mutation: "Mutation".into(), subscription: "Subscription".into() };
        let mut catalogue =
            Self { types: Vec::new(), fields: Vec::new(), directives: 0, positions: HashMap::new(), roots };
        for definition in document.definitions {
            match definition {
                TypeSystemDefinition::Type(definition) => catalogue.add(definition.node),
                TypeSystemDefinition::Directive(_) => catalogue.directives += 1,
                TypeSystemDefinition::Schema(schema) => {
                    let named =
                        |root: Option<Positioned<_>>, usual: &Arc<str>| root.map_or(usual.clone(), |root| text(&root));
                    let Roots { query, mutation, subscription } = &catalogue.roots;
                    catalogue.roots = Roots {
                        query: named(schema.node.query, query),
                        mutation: named(schema.node.mutation, mutation),
                        subscription: named(schema.node.subscription, subscription),
                    };
                }
            }
        }
        catalogue.link_interfaces();
        Ok(catalogue)
    }

    pub fn types(&self) -> &[Type] {
        &self.types
    }

    pub fn find_type(&self, name: &str) -> Option<&Type> {
        self.positions.get(name).map(|position| &self.types[*position])
    }

    /// Every field of every object and interface; the position is the field's [`FieldId::index`].
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub fn fields_of<'a>(&'a self, ty: &'a Type) -> impl Iterator<Item = (FieldId, &'a Field)> + 'a {
        ty.fields.iter().map(|id| (*id, self.field(*id)))
    }

    pub fn field(&self, id: FieldId) -> &Field {
        &self.fields[id.index()]
    }

    pub fn find_field(&self, parent: &str, name: &str) -> Option<FieldId> {
        self.find_type(parent)?.by_name.get(name).copied()
    }

    pub fn query(&self) -> &str {
        &self.roots.query
    }

    /// The usual name where the schema has no such root: then [`Self::find_type`] finds nothing under it.
    pub fn mutation(&self) -> &str {
        &self.roots.mutation
    }

    pub fn subscription(&self) -> &str {
        &self.roots.subscription
    }

    /// How many directives the schema declares.
    pub fn directives(&self) -> usize {
        self.directives
    }

    fn add(&mut self, definition: TypeDefinition) {
        let mut ty = Type::new(text(&definition.name), definition.description.map(|description| description.node));
        match definition.kind {
            TypeKind::Scalar => {}
            TypeKind::Object(object) => {
                ty.kind = Kind::Object;
                ty.possible = vec![ty.name.clone()];
                ty.interfaces = object.implements.iter().map(text).collect();
                self.add_fields(&mut ty, object.fields);
            }
            TypeKind::Interface(interface) => {
                ty.kind = Kind::Interface;
                ty.interfaces = interface.implements.iter().map(text).collect();
                self.add_fields(&mut ty, interface.fields);
            }
            TypeKind::Union(union) => {
                ty.kind = Kind::Union;
                ty.possible = union.members.iter().map(text).collect();
            }
            TypeKind::Enum(values) => {
                ty.kind = Kind::Enum;
                ty.values = values
                    .values
                    .into_iter()
                    .map(|value| EnumValue {
                        name: text(&value.node.value),
                        description: value.node.description.map(|description| description.node),
                        deprecated: deprecated(&value.node.directives),
                    })
                    .collect();
            }
            TypeKind::InputObject(input) => {
                ty.kind = Kind::Input;
                ty.inputs = input.fields.into_iter().map(|input| argument(input.node)).collect();
            }
        }
        self.positions.insert(ty.name.clone(), self.types.len());
        self.types.push(ty);
    }

    fn add_fields(&mut self, ty: &mut Type, definitions: Vec<Positioned<FieldDefinition>>) {
        for definition in definitions {
            let definition = definition.node;
            let id = FieldId(u32::try_from(self.fields.len()).expect("a schema has fewer than 2^32 fields"));
            let (named, list) = unwrapped(&definition.ty.node);
            let field = Field {
                parent: ty.name.clone(),
                name: text(&definition.name),
                description: definition.description.map(|description| description.node),
                deprecated: deprecated(&definition.directives),
                arguments: definition.arguments.into_iter().map(|argument_| argument(argument_.node)).collect(),
                ty: definition.ty.node.to_string(),
                named,
                list,
            };
            ty.by_name.insert(field.name.clone(), id);
            ty.fields.push(id);
            self.fields.push(field);
        }
    }

    /// SDL names an object's interfaces; documents need an interface's objects.
    fn link_interfaces(&mut self) {
        for object in 0..self.types.len() {
            if self.types[object].kind != Kind::Object {
                continue;
            }
            let name = self.types[object].name.clone();
            for interface in self.types[object].interfaces.clone() {
                if let Some(position) = self.positions.get(&interface) {
                    self.types[*position].possible.push(name.clone());
                }
            }
        }
    }
}

impl Type {
    fn new(name: Arc<str>, description: Option<String>) -> Self {
        Self {
            name,
            kind: Kind::Scalar,
            description,
            interfaces: Vec::new(),
            possible: Vec::new(),
            values: Vec::new(),
            inputs: Vec::new(),
            fields: Vec::new(),
            by_name: HashMap::new(),
        }
    }
}

fn argument(definition: InputValueDefinition) -> Argument {
    let (named, list) = unwrapped(&definition.ty.node);
    Argument {
        name: text(&definition.name),
        description: definition.description.map(|description| description.node),
        ty: definition.ty.node.to_string(),
        named,
        list,
        default: definition.default_value.map(|default| default.node),
    }
}

fn deprecated(directives: &[Positioned<ConstDirective>]) -> bool {
    directives.iter().any(|directive| directive.node.name.node == "deprecated")
}

fn text(name: &Positioned<async_graphql::Name>) -> Arc<str> {
    Arc::from(name.node.as_str())
}

/// The innermost name, and whether there was a list around it.
fn unwrapped(ty: &TypeText) -> (Arc<str>, bool) {
    match &ty.base {
        BaseType::Named(name) => (Arc::from(name.as_str()), false),
        BaseType::List(items) => (unwrapped(items).0, true),
    }
}
