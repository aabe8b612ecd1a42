//! Admission: what a GraphQL document must be before it is executed.
//!
//! *Owns*: the limits of a document; the list of fields that an operation touches, which the permission table is
//! checked against; the catalogue of the published schema; the cache of admitted documents.
//!
//! *Rules*: bytes and brackets are counted before the parser runs, written-out selections before anything walks
//! them. Every operation and fragment of a document is checked, not only the one asked for, because async-graphql
//! validates them all. A field counts as touched whatever `@skip` and `@include` say, and a field of an interface
//! also on each object it may be. Fields that the schema does not have are left to async-graphql's validation,
//! which must therefore stay in strict mode. Refused documents are not cached.

pub mod catalogue;
mod cost;
mod expansion;
mod introspection;
mod known;
mod label;
mod refusal;
mod scan;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use async_graphql::Variables;
use async_graphql::parser::parse_query;
use async_graphql::parser::types::{ExecutableDocument, OperationDefinition, OperationType, Selection};
use aws_lc_rs::digest;
use moka::sync::Cache;

use crate::error::{Error, Result};

use self::catalogue::{Catalogue, FieldId};
use self::cost::Cost;
use self::expansion::within;
use self::introspection::Weights;
use self::known::Known;

/// Brackets open at once. A debug build takes 8 to 16 KiB of stack for each in the parser; a worker has 2 MiB.
const NESTING: usize = 48;

/// Most that one document may have; each is named in the refusal.
#[derive(Clone, Debug)]
pub struct Limits {
    pub document_bytes: usize,
    /// Names, numbers, strings, brackets, other punctuation, and comments: what parsing costs grows with.
    pub tokens: usize,
    /// Of one operation, every fragment written out where it is spread.
    pub expanded_selections: usize,
    /// Fields inside each other; fragments do not count.
    pub depth: usize,
    /// The same under `__schema` and `__type`.
    pub introspection_depth: usize,
    /// Fields to resolve, with children times the size of their page.
    pub complexity: usize,
    /// Of one operation, written out.
    pub aliases: usize,
    /// As written, in the whole document.
    pub directives: usize,
    pub root_fields: usize,
    /// Memory of the cache of admitted documents, in bytes.
    pub cached_documents: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 64 * 1024,
            tokens: 4_000,
            expanded_selections: 1_000,
            depth: 15,
            introspection_depth: 18,
            complexity: 10_000,
            aliases: 30,
            directives: 20,
            root_fields: 20,
            cached_documents: 32 * 1024 * 1024,
        }
    }
}

/// A parsed document that keeps every limit which does not depend on variables.
#[derive(Debug)]
pub struct Document {
    pub executable: ExecutableDocument,
    pub operations: Vec<Operation>,
    /// Estimated, in bytes.
    weight: u32,
}

#[derive(Debug)]
pub struct Operation {
    pub kind: OperationType,
    pub name: Option<String>,
    /// Every field of the schema that the operation touches, once each, in the catalogue's order.
    pub fields: Vec<FieldId>,
    /// In the order written, without aliases, repetitions and `__typename` included.
    pub root_fields: Vec<String>,
    pub uses_introspection: bool,
    /// What it is called in statistics: its kind and root fields, of the schema's names alone, so that there are not many.
    pub label: Arc<str>,
    cost: Cost,
}

/// One request's operation, free to be executed once its fields are permitted.
#[derive(Clone, Debug)]
pub struct Admitted {
    pub document: Arc<Document>,
    /// Of the operation with this request's variables.
    pub complexity: usize,
    /// Whether the same request was valid before.
    pub is_known: bool,
    position: usize,
}

impl Admitted {
    pub fn operation(&self) -> &Operation {
        &self.document.operations[self.position]
    }

    /// A copy for `Request::set_parsed_query`, which wants to own it.
    pub fn executable(&self) -> ExecutableDocument {
        self.document.executable.clone()
    }
}

/// Admits documents to one schema.
#[derive(Debug)]
pub struct Admission {
    catalogue: Catalogue,
    weights: Weights,
    limits: Limits,
    admitted: Cache<Digest, Arc<Document>>,
    known: Known,
}

/// SHA-256 of a document, or of a whole request.
pub type Digest = [u8; digest::SHA256_OUTPUT_LEN];

impl Admission {
    /// `sdl`: of the schema that will execute, from `Schema::sdl`.
    ///
    /// # Panics
    /// If it is not SDL; the server prints it itself.
    pub fn new(sdl: &str, limits: Limits) -> Self {
        let catalogue = Catalogue::parse(sdl).expect("a schema prints SDL that parses");
        let weigh = |_: &Digest, document: &Arc<Document>| document.weight;
        let admitted = Cache::builder().max_capacity(limits.cached_documents).weigher(weigh).build();
        Self { weights: Weights::of(&catalogue), catalogue, limits, admitted, known: Known::default() }
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Parses and measures `query`, or finds it among those already admitted, and picks the operation to run.
    ///
    /// # Errors
    /// `invalid_input` at `query` or `operationName`; where a limit is passed, `details` has `limit`, `found` and `allowed`.
    pub fn admit(&self, query: &str, operation_name: Option<&str>, variables: &Variables) -> Result<Admitted> {
        let document = self.document(query)?;
        let position = document.position(operation_name)?;
        let complexity = document.operations[position].cost.total(variables);
        within("complexity", "units of complexity with these variables", complexity, self.limits.complexity)?;
        Ok(Admitted { document, complexity, is_known: false, position })
    }

    /// What was admitted of a request with the same bytes, where it has turned out to be valid.
    pub fn recall(&self, request: &Digest) -> Option<Admitted> {
        self.known.recall(request)
    }

    /// The request with these bytes fits the schema.
    pub fn remember(&self, request: Digest, admitted: &Admitted) {
        if !admitted.is_known {
            self.known.remember(request, admitted);
        }
    }

    fn document(&self, query: &str) -> Result<Arc<Document>> {
        within("document_bytes", "bytes", query.len(), self.limits.document_bytes)?;
        let key = sha256(query.as_bytes());
        if let Some(document) = self.admitted.get(&key) {
            return Ok(document);
        }
        let document = Arc::new(self.measured(query)?);
        self.admitted.insert(key, document.clone());
        Ok(document)
    }

    fn measured(&self, query: &str) -> Result<Document> {
        let scan = scan::scan(query)?;
        within("tokens", "tokens", scan.tokens, self.limits.tokens)?;
        within("depth", "brackets inside each other", scan.nesting, NESTING)?;
        let executable = parse_query(query).map_err(|error| refusal::unparsed(query, &error))?;
        let written = expansion::check(&executable, &self.limits)?;
        let operations = executable.operations.iter();
        let operations =
            operations.map(|(name, operation)| self.operation(&executable, name.map(|name| &**name), &operation.node));
        let operations = operations.collect::<Result<Vec<_>>>()?;
        Ok(Document { weight: weight(query, written, &operations), operations, executable })
    }

    fn operation(
        &self,
        document: &ExecutableDocument,
        name: Option<&str>,
        operation: &OperationDefinition,
    ) -> Result<Operation> {
        let Self { catalogue, weights, limits, .. } = self;
        let found = walk::walk(walk::Ground { catalogue, weights, limits, document }, operation)?;
        Ok(Operation {
            label: label::of(catalogue, operation.ty, &found.root_fields).into(),
            kind: operation.ty,
            name: name.map(str::to_owned),
            fields: found.fields.into_iter().collect(),
            root_fields: found.root_fields,
            uses_introspection: found.introspection > 0,
            cost: found.cost,
        })
    }
}

impl Document {
    fn position(&self, name: Option<&str>) -> Result<usize> {
        match name {
            Some(name) => {
                let position = self.operations.iter().position(|operation| operation.name.as_deref() == Some(name));
                position.ok_or_else(|| Error::invalid("operationName", "names no operation of the document"))
            }
            None if self.operations.len() == 1 => Ok(0),
            None => Err(Error::invalid("operationName", "is required: the document has several operations")),
        }
    }
}

pub fn sha256(bytes: &[u8]) -> Digest {
    let mut found = Digest::default();
    found.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    found
}

/// Names and values are allocated one by one, so text counts several times.
fn weight(query: &str, selections: usize, operations: &[Operation]) -> u32 {
    let fields: usize = operations.iter().map(|operation| operation.fields.len() + operation.root_fields.len()).sum();
    let bytes = 3 * 1_024 + 16 * query.len() + selections * size_of::<Selection>() + 64 * fields;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
