//! What an operation may cost: one unit per field that is resolved, children times the size of the page they are
//! on. Page sizes may come with the variables, so a cost is a sum with open factors that each request closes.

use async_graphql::parser::types::{Field, OperationDefinition};
use async_graphql::{Name, Value, Variables};

use super::catalogue::{self, Argument};

/// Taken where neither the caller nor the schema names a page's size: the largest page.
const LARGEST_PAGE: usize = 100;

/// `fixed` plus each open part times its size.
#[derive(Clone, Debug, Default)]
pub(super) struct Cost {
    pub(super) fixed: usize,
    open: Vec<(Size, Cost)>,
}

/// How often a field's children are resolved: the largest of what its arguments say.
#[derive(Clone, Debug)]
pub(super) struct Size(Vec<Count>);

#[derive(Clone, Debug)]
enum Count {
    Known(usize),
    Variable { name: Name, otherwise: usize },
}

impl Cost {
    pub(super) fn of(fixed: usize) -> Self {
        Self { fixed, open: Vec::new() }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.fixed = self.fixed.saturating_add(other.fixed);
        self.open.extend(other.open);
    }

    pub(super) fn times(self, size: Size) -> Self {
        let Some(known) = size.known() else {
            return Self { fixed: 0, open: vec![(size, self)] };
        };
        let open = match self.open {
            open if open.is_empty() => open,
            open => vec![(Size::fixed(known), Self { fixed: 0, open })],
        };
        Self { fixed: self.fixed.saturating_mul(known), open }
    }

    pub(super) fn total(&self, variables: &Variables) -> usize {
        let parts = self.open.iter().map(|(size, cost)| size.count(variables).saturating_mul(cost.total(variables)));
        parts.fold(self.fixed, usize::saturating_add)
    }
}

impl Size {
    pub(super) fn fixed(count: usize) -> Self {
        Self(vec![Count::Known(count)])
    }

    /// Of a field as an operation asks for it: `first` and `last` of a connection, and the lists of keys that a
    /// field answers with a list. Everything else is resolved once.
    pub(super) fn of(definition: &catalogue::Field, field: &Field, operation: &OperationDefinition) -> Self {
        let arguments = || definition.arguments.iter().map(|argument| (argument, written(argument, field)));
        let mut counts = Vec::new();
        for (argument, value) in arguments().filter(|(argument, _)| definition.list && argument.list) {
            counts.push(Count::of(value, operation, items_of(argument.default.as_ref()).unwrap_or(1), items_of));
        }
        let mut pages = arguments().filter(|(argument, _)| matches!(&*argument.name, "first" | "last")).peekable();
        if let Some((argument, _)) = pages.peek() {
            let usual = page_of(argument.default.as_ref()).unwrap_or(LARGEST_PAGE);
            let given = pages.filter(|(_, value)| !matches!(value, Written::Nothing));
            let given: Vec<_> = given.map(|(_, value)| Count::of(value, operation, usual, page_of)).collect();
            if given.is_empty() {
                counts.push(Count::Known(usual));
            }
            counts.extend(given);
        }
        Self(counts)
    }

    fn known(&self) -> Option<usize> {
        let known = |count: &Count| match count {
            Count::Known(count) => Some(*count),
            Count::Variable { .. } => None,
        };
        self.0.iter().map(known).try_fold(1, |largest, count| count.map(|count| count.max(largest)))
    }

    fn count(&self, variables: &Variables) -> usize {
        self.0.iter().map(|count| count.close(variables)).fold(1, usize::max)
    }
}

impl Count {
    /// `read` finds the number in a value of this kind of argument; `usual` holds where there is none.
    fn of(
        value: Written,
        operation: &OperationDefinition,
        usual: usize,
        read: fn(Option<&Value>) -> Option<usize>,
    ) -> Self {
        match value {
            Written::Nothing => Self::Known(usual),
            Written::Value(value) => Self::Known(read(Some(&value)).unwrap_or(usual)),
            Written::Variable(name) => {
                let declared = operation.variable_definitions.iter().find(|variable| variable.node.name.node == name);
                let default = declared.and_then(|variable| variable.node.default_value.as_ref());
                let otherwise = read(default.map(|default| &default.node)).unwrap_or(usual);
                Self::Variable { name, otherwise }
            }
        }
    }

    fn close(&self, variables: &Variables) -> usize {
        match self {
            Self::Known(count) => *count,
            Self::Variable { name, otherwise } => {
                let value = variables.get(name);
                page_of(value).or_else(|| items_of(value)).unwrap_or(*otherwise)
            }
        }
    }
}

/// An argument as the document has it.
enum Written {
    Nothing,
    Value(Value),
    Variable(Name),
}

fn written(argument: &Argument, field: &Field) -> Written {
    let Some(value) = field.get_argument(&argument.name) else {
        return Written::Nothing;
    };
    let mut variable = None;
    let value = value.node.clone().into_const_with(|name| {
        variable = Some(name);
        Ok::<_, std::convert::Infallible>(Value::Null)
    });
    match (value, variable) {
        (Ok(Value::Null), Some(name)) => Written::Variable(name),
        (Ok(Value::Null), None) => Written::Nothing,
        (Ok(value), _) => Written::Value(value),
    }
}

/// Negative and fractional sizes are refused by validation; here they count as unknown.
fn page_of(value: Option<&Value>) -> Option<usize> {
    match value? {
        Value::Number(number) => usize::try_from(number.as_u64()?).ok(),
        _ => None,
    }
}

fn items_of(value: Option<&Value>) -> Option<usize> {
    match value? {
        Value::List(items) => Some(items.len()),
        _ => None,
    }
}
