//! Introspection answers the whole schema, and its lists can be put inside each other (`types { fields { type {
//! fields …`), each level multiplying by the schema's own width. So it has its own budget: a few times what the
//! full introspection query of the usual tools costs on this schema.

use super::catalogue::Catalogue;

/// Times the full introspection query: tools that ask for two things in one document stay inside.
const FULL_QUERIES: usize = 2;

/// How long the lists of introspection are on one schema, on average and rounded up.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    types: usize,
    directives: usize,
    fields: usize,
    arguments: usize,
    inputs: usize,
    values: usize,
    interfaces: usize,
    possible: usize,
    /// Most fields that one operation may have answered.
    pub(super) allowed: usize,
}

impl Weights {
    pub(super) fn of(catalogue: &Catalogue) -> Self {
        // The eight introspection types and the five built-in scalars are listed too.
        let types = catalogue.types().len() + 13;
        let per_type = |count: fn(&super::catalogue::Type) -> usize| {
            catalogue.types().iter().map(count).sum::<usize>().div_ceil(types)
        };
        let arguments = catalogue.fields().iter().map(|field| field.arguments.len()).sum::<usize>();
        let mut weights = Self {
            types,
            directives: catalogue.directives().max(4),
            fields: catalogue.fields().len().div_ceil(types),
            arguments: arguments.div_ceil(catalogue.fields().len().max(1)),
            inputs: per_type(|ty| ty.inputs.len()),
            values: per_type(|ty| ty.values.len()),
            interfaces: per_type(|ty| ty.interfaces.len()),
            possible: per_type(|ty| ty.possible.len()),
            allowed: 0,
        };
        weights.allowed = weights.full().saturating_mul(FULL_QUERIES);
        weights
    }

    /// How often the children of an introspection field are answered.
    pub(super) fn list(&self, field: &str) -> usize {
        let length = match field {
            "types" => self.types,
            "directives" => self.directives,
            "fields" => self.fields,
            "args" => self.arguments,
            "inputFields" => self.inputs,
            "enumValues" => self.values,
            "interfaces" => self.interfaces,
            "possibleTypes" => self.possible,
            _ => 1,
        };
        length.max(1)
    }

    /// The query of graphql-js 16 with every option on: `ofType` nine deep.
    fn full(&self) -> usize {
        let reference = 2 + 9 * 3;
        let input = 7 + reference;
        let argument = self.list("args") * input;
        let field = 6 + argument + 1 + reference;
        let ty = 11
            + self.list("fields") * field
            + self.list("inputFields") * input
            + self.list("enumValues") * 4
            + (self.list("interfaces") + self.list("possibleTypes")) * reference;
        12 + self.list("types") * ty + self.list("directives") * (6 + argument)
    }
}
