//! How large a document is once its fragments are written out. Each fragment is measured once, however often it is
//! spread, so this is linear where async-graphql's own walks are exponential (hazard H1: 833 bytes, 5 s).

use std::collections::HashMap;

use async_graphql::Positioned;
use async_graphql::parser::types::{
    Directive, ExecutableDocument, FragmentDefinition, OperationDefinition, Selection, SelectionSet,
};

use crate::error::Error;

use super::{Limits, refusal};

/// Selection sets inside each other, over fields, fragments and inline fragments: async-graphql's own default, so
/// that its check never speaks. Also bounds the recursion of every pass over an admitted document.
const LEVELS: usize = 32;
/// Validation walks each operation and each fragment by itself: the sum may be this many times what one may be.
const DEFINITIONS: usize = 4;
const DIRECTIVES_PER_SELECTION: usize = 4;

/// Of a selection set, written out.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    selections: usize,
    levels: usize,
}

enum Measured {
    /// On the path now: meeting it again is a cycle.
    Open,
    Done(Size),
}

struct Expansion<'d> {
    document: &'d ExecutableDocument,
    fragments: HashMap<&'d str, Measured>,
    written: usize,
    directives: usize,
}

/// Checks the document's written-out size and answers how many selections it has as written.
///
/// # Errors
/// Names the limit that is passed, an undefined fragment, or a fragment that contains itself.
pub(super) fn check(document: &ExecutableDocument, limits: &Limits) -> Result<usize, Error> {
    let mut expansion = Expansion { document, fragments: HashMap::new(), written: 0, directives: 0 };
    let mut sum = 0_usize;
    for name in document.fragments.keys() {
        sum = sum.saturating_add(expansion.fragment(name, 0)?.selections);
    }
    for (_, operation) in document.operations.iter() {
        let size = expansion.operation(&operation.node)?;
        within(
            "expanded_selections",
            "selections with its fragments written out",
            size.selections,
            limits.expanded_selections,
        )?;
        sum = sum.saturating_add(size.selections);
    }
    let allowed = limits.expanded_selections.saturating_mul(DEFINITIONS);
    within("expanded_selections", "selections in its operations and fragments together", sum, allowed)?;
    within("directives", "directives", expansion.directives, limits.directives)?;
    Ok(expansion.written)
}

impl<'d> Expansion<'d> {
    fn operation(&mut self, operation: &'d OperationDefinition) -> Result<Size, Error> {
        self.directives(&operation.directives)?;
        for variable in &operation.variable_definitions {
            self.directives(&variable.node.directives)?;
        }
        self.set(&operation.selection_set.node, 0)
    }

    fn fragment(&mut self, name: &str, level: usize) -> Result<Size, Error> {
        match self.fragments.get(name) {
            Some(Measured::Done(size)) => return Ok(*size),
            Some(Measured::Open) => {
                return Err(refusal::document(format!(
                    "has a fragment `{}` that contains itself",
                    refusal::shown(name)
                )));
            }
            None => {}
        }
        let Some((name, fragment)) = find(self.document, name) else {
            return Err(refusal::document(format!(
                "spreads a fragment `{}` that it does not define",
                refusal::shown(name)
            )));
        };
        self.fragments.insert(name, Measured::Open);
        self.directives(&fragment.directives)?;
        let size = self.set(&fragment.selection_set.node, level)?;
        self.fragments.insert(name, Measured::Done(size));
        Ok(size)
    }

    fn set(&mut self, set: &'d SelectionSet, level: usize) -> Result<Size, Error> {
        within("depth", "selection sets inside each other", level, LEVELS)?;
        let mut size = Size::default();
        for selection in &set.items {
            self.written += 1;
            self.directives(selection.node.directives())?;
            let inside = self.selection(&selection.node, level + 1)?;
            size.selections = size.selections.saturating_add(1).saturating_add(inside.selections);
            size.levels = size.levels.max(inside.levels);
        }
        size.levels += usize::from(!set.items.is_empty());
        // A fragment measured at a shallow place may be spread at a deep one.
        within("depth", "selection sets inside each other", level + size.levels.saturating_sub(1), LEVELS)?;
        Ok(size)
    }

    fn selection(&mut self, selection: &'d Selection, level: usize) -> Result<Size, Error> {
        match selection {
            Selection::Field(field) if field.node.selection_set.node.items.is_empty() => Ok(Size::default()),
            Selection::Field(field) => self.set(&field.node.selection_set.node, level),
            Selection::InlineFragment(fragment) => self.set(&fragment.node.selection_set.node, level),
            Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node, level),
        }
    }

    fn directives(&mut self, directives: &[Positioned<Directive>]) -> Result<(), Error> {
        self.directives += directives.len();
        within("directives", "directives in one place", directives.len(), DIRECTIVES_PER_SELECTION)
    }
}

pub(super) fn find<'d>(document: &'d ExecutableDocument, name: &str) -> Option<(&'d str, &'d FragmentDefinition)> {
    document.fragments.get_key_value(name).map(|(name, fragment)| (name.as_str(), &fragment.node))
}

pub(super) fn within(limit: &'static str, what: &str, found: usize, allowed: usize) -> Result<(), Error> {
    if found > allowed { Err(refusal::over(limit, what, found, allowed)) } else { Ok(()) }
}
