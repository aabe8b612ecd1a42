//! The typed pass: which fields of which types an operation touches, and what it costs. It walks the written-out
//! operation plainly, because [`super::expansion`] has bounded how large that is.

use std::collections::BTreeSet;
use std::rc::Rc;

use async_graphql::parser::types::{
    ExecutableDocument, Field, OperationDefinition, OperationType, Selection, SelectionSet,
};

use crate::error::Error;

use super::catalogue::{Catalogue, FieldId, Kind, Type};
use super::cost::{Cost, Size};
use super::expansion::{find, within};
use super::introspection::Weights;
use super::{Limits, refusal};

/// What a walk reads.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) weights: &'a Weights,
    pub(super) limits: &'a Limits,
    pub(super) document: &'a ExecutableDocument,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) fields: BTreeSet<FieldId>,
    pub(super) root_fields: Vec<String>,
    pub(super) cost: Cost,
    /// Estimated fields of the schema's own description that are answered; zero if it is not asked for.
    pub(super) introspection: usize,
    aliases: usize,
}

/// What a selection set is asked of.
#[derive(Clone)]
enum Scope<'a> {
    /// `possible`: the objects that it can be at run time, narrowed by the type conditions around it.
    Of {
        ty: &'a Type,
        possible: Rc<[&'a Type]>,
    },
    Introspection,
    /// Below a field or type that the schema does not have: async-graphql's validation refuses the document.
    Unknown,
}

struct Walk<'a> {
    ground: Ground<'a>,
    operation: &'a OperationDefinition,
    found: Found,
}

/// # Errors
/// Names the limit that is passed.
pub(super) fn walk(ground: Ground<'_>, operation: &OperationDefinition) -> Result<Found, Error> {
    let root = match operation.ty {
        OperationType::Query => ground.catalogue.query(),
        OperationType::Mutation => ground.catalogue.mutation(),
        OperationType::Subscription => ground.catalogue.subscription(),
    };
    let scope = scope(ground.catalogue, root);
    let mut walk = Walk { ground, operation, found: Found::default() };
    walk.found.cost = walk.set(&operation.selection_set.node, &scope, 1)?;
    let (found, limits) = (walk.found, ground.limits);
    within("aliases", "aliases with its fragments written out", found.aliases, limits.aliases)?;
    within("root_fields", "root fields", found.root_fields.len(), limits.root_fields)?;
    within("introspection", "fields of introspection to answer", found.introspection, ground.weights.allowed)?;
    if operation.ty == OperationType::Subscription && found.root_fields.len() != 1 {
        return Err(refusal::document("subscribes to more than one root field: a subscription has exactly one"));
    }
    Ok(found)
}

impl<'a> Walk<'a> {
    fn set(&mut self, set: &'a SelectionSet, scope: &Scope<'a>, depth: usize) -> Result<Cost, Error> {
        let mut cost = Cost::default();
        for selection in &set.items {
            cost.add(match &selection.node {
                Selection::Field(field) => self.field(&field.node, scope, depth)?,
                Selection::InlineFragment(fragment) => {
                    let condition =
                        fragment.node.type_condition.as_ref().map(|condition| condition.node.on.node.as_str());
                    let scope = self.narrowed(scope, condition);
                    self.set(&fragment.node.selection_set.node, &scope, depth)?
                }
                Selection::FragmentSpread(spread) => {
                    match find(self.ground.document, &spread.node.fragment_name.node) {
                        None => Cost::default(),
                        Some((_, fragment)) => {
                            let scope = self.narrowed(scope, Some(&fragment.type_condition.node.on.node));
                            self.set(&fragment.selection_set.node, &scope, depth)?
                        }
                    }
                }
            });
        }
        Ok(cost)
    }

    fn field(&mut self, field: &'a Field, scope: &Scope<'a>, depth: usize) -> Result<Cost, Error> {
        let name = field.name.node.as_str();
        self.found.aliases += usize::from(field.alias.is_some());
        if depth == 1 {
            self.found.root_fields.push(name.to_owned());
        }
        let limits = self.ground.limits;
        match (scope, name) {
            (Scope::Introspection, _) => {
                within("introspection_depth", "levels of introspection", depth, limits.introspection_depth)?;
                let size = Size::fixed(self.ground.weights.list(name));
                self.resolved(field, &Scope::Introspection, size, depth)
            }
            (_, "__typename") => Ok(Cost::of(1)),
            (_, "__schema" | "__type") => {
                let cost = self.resolved(field, &Scope::Introspection, Size::fixed(1), depth)?;
                self.found.introspection = self.found.introspection.saturating_add(cost.fixed);
                Ok(Cost::of(1))
            }
            (Scope::Unknown, _) => {
                within("depth", "levels of fields", depth, limits.depth)?;
                self.resolved(field, &Scope::Unknown, Size::fixed(1), depth)
            }
            (Scope::Of { ty, possible }, _) => {
                within("depth", "levels of fields", depth, limits.depth)?;
                self.typed(field, ty, possible, depth)
            }
        }
    }

    fn typed(&mut self, field: &'a Field, ty: &'a Type, possible: &[&'a Type], depth: usize) -> Result<Cost, Error> {
        let catalogue = self.ground.catalogue;
        let on = |ty: &Type| catalogue.find_field(&ty.name, &field.name.node);
        self.found.fields.extend(possible.iter().filter_map(|object| on(object)));
        let Some(id) = on(ty) else {
            return self.resolved(field, &Scope::Unknown, Size::fixed(1), depth);
        };
        self.found.fields.insert(id);
        let definition = catalogue.field(id);
        let size = Size::of(definition, field, self.operation);
        self.resolved(field, &scope(catalogue, &definition.named), size, depth)
    }

    /// One for the field itself, and its children as often as `size` says.
    fn resolved(&mut self, field: &'a Field, scope: &Scope<'a>, size: Size, depth: usize) -> Result<Cost, Error> {
        let mut cost = Cost::of(1);
        if !field.selection_set.node.items.is_empty() {
            cost.add(self.set(&field.selection_set.node, scope, depth + 1)?.times(size));
        }
        Ok(cost)
    }

    fn narrowed(&self, around: &Scope<'a>, condition: Option<&str>) -> Scope<'a> {
        let (Some(condition), Scope::Of { possible: before, .. }) = (condition, around) else {
            return around.clone();
        };
        let Scope::Of { ty, possible } = scope(self.ground.catalogue, condition) else {
            return Scope::Unknown;
        };
        let both: Rc<[&Type]> =
            possible.iter().filter(|ty| before.iter().any(|other| other.name == ty.name)).copied().collect();
        // A condition that cannot hold is validation's to refuse; until then everything under it counts as touched.
        Scope::Of { ty, possible: if both.is_empty() { possible } else { both } }
    }
}

fn scope<'a>(catalogue: &'a Catalogue, name: &str) -> Scope<'a> {
    match catalogue.find_type(name) {
        Some(ty) if matches!(ty.kind, Kind::Object | Kind::Interface | Kind::Union) => {
            let possible = ty.possible.iter().filter_map(|name| catalogue.find_type(name)).collect();
            Scope::Of { ty, possible }
        }
        _ => Scope::Unknown,
    }
}
