//! What an operation is called in statistics.

use async_graphql::parser::types::OperationType;

use super::catalogue::Catalogue;
use crate::analytics::OTHER;

/// The kind and the root field of the schema, the first by name where there are several: so there are twice as many labels as root fields
/// at most, whatever is asked. Where the schema has none of them, it is one of the others.
pub(super) fn of(catalogue: &Catalogue, kind: OperationType, root_fields: &[String]) -> String {
    let (kind, root) = match kind {
        OperationType::Query => ("query", catalogue.query()),
        OperationType::Mutation => ("mutation", catalogue.mutation()),
        OperationType::Subscription => ("subscription", catalogue.subscription()),
    };
    let is_known = |name: &&String| name.starts_with("__") || catalogue.find_field(root, name).is_some();
    if !root_fields.iter().all(|name| is_known(&name)) {
        return OTHER.to_owned();
    }
    // The schema itself is asked for by three names.
    let mut names: Vec<_> =
        root_fields.iter().map(|name| if name.starts_with("__") { "__schema" } else { name }).collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [] => OTHER.to_owned(),
        [name] => format!("{kind} {name}"),
        [name, ..] => format!("{kind} {name} and others"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_names_of_the_schema_alone() {
        let catalogue = Catalogue::parse("type Query { a: Int b: Int } type Mutation { a: Int }").unwrap();
        let label = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            of(&catalogue, OperationType::Query, &names)
        };
        assert_eq!(label(&["a"]), "query a");
        assert_eq!(label(&["b", "a", "b"]), "query a and others");
        assert_eq!(label(&["b", "b"]), "query b");
        assert_eq!(label(&["__type", "__schema"]), "query __schema");
        for names in [vec!["a", "secret"], vec!["secret"], vec![]] {
            assert_eq!(label(&names), OTHER);
        }
    }
}
