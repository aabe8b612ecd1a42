use async_graphql::Variables;
use serde_json::json;

use crate::error::{Error, Kind};

use super::{Admission, Admitted, Limits};

mod bombed;
mod limits;

const SDL: &str = r#"
interface Node { id: ID! }
union Party = Tenant | Member
enum Status { ACTIVE "Stopped." SUSPENDED @deprecated }
input Filter { status: Status = ACTIVE, ids: [ID!] }
type Member implements Node { id: ID!, email: String!, tenant: Tenant! }
type Tenant implements Node {
    id: ID!
    "Shown to people."
    name: String!
    status: Status!
    secret: String
    parent: Tenant
    members(first: Int! = 10, after: String): MemberConnection!
}
type TenantEdge { cursor: String!, node: Tenant! }
type TenantConnection { edges: [TenantEdge!]!, totalCount: Int }
type MemberConnection { nodes: [Member!]! }
type Query {
    me: Member
    node(id: ID!): Node
    party(id: ID!): Party
    tenant(id: ID!): Tenant
    tenants(first: Int! = 25, last: Int, filter: Filter): TenantConnection!
    unbounded(first: Int): TenantConnection!
    byIds(ids: [ID!]!): [Tenant]!
}
type Mutation { suspendTenant(id: ID!): Tenant!, name: String }
type Subscription { alerts: Tenant!, usage: Int }
schema { query: Query mutation: Mutation subscription: Subscription }
"#;

/// graphql-js 16.15: `getIntrospectionQuery()`.
const FULL: &str = include_str!("../testdata/introspection-graphql-js-16.graphql");
/// The same with every option on: a superset of what GraphiQL 5.4 asks (`inputValueDeprecation`, `schemaDescription`).
const GRAPHIQL: &str = include_str!("../testdata/introspection-graphiql-5.graphql");

fn admission() -> Admission {
    Admission::new(SDL, Limits::default())
}

fn admit(query: &str) -> Result<Admitted, Error> {
    admission().admit(query, None, &Variables::default())
}

fn refusal(query: &str) -> Error {
    let error = admit(query).expect_err(query);
    assert_eq!(error.kind(), Kind::InvalidInput);
    assert!(error.message().len() < 160 && !error.message().contains(['\n', '\0']), "{}", error.message());
    error
}

/// The limit that refuses a document.
fn limit(query: &str) -> String {
    let error = refusal(query);
    error.details().map_or_else(|| error.message().to_owned(), |details| details["limit"].as_str().unwrap().to_owned())
}

fn touched(query: &str) -> Vec<String> {
    let admission = admission();
    let admitted = admission.admit(query, None, &Variables::default()).unwrap();
    let fields = admitted.operation().fields.iter().map(|id| admission.catalogue().field(*id));
    fields.map(|field| format!("{}.{}", field.parent, field.name)).collect()
}

fn complexity(query: &str, variables: serde_json::Value) -> usize {
    admission().admit(query, None, &Variables::from_json(variables)).unwrap().complexity
}

mod fields {
    use super::*;

    #[test]
    fn each_touched_field_is_listed_once_with_its_type() {
        let query = "{ a: tenant(id: 1) { id parent { id ...T } } __typename } fragment T on Tenant { name }";
        assert_eq!(touched(query), ["Tenant.id", "Tenant.name", "Tenant.parent", "Query.tenant"]);
    }

    #[test]
    fn a_field_of_an_interface_counts_on_every_object_it_may_be() {
        assert_eq!(touched("{ node(id: 1) { id } }"), ["Node.id", "Member.id", "Tenant.id", "Query.node"]);
    }

    #[test]
    fn type_conditions_narrow_interfaces_and_unions() {
        assert_eq!(touched("{ node(id: 1) { ... on Tenant { secret } } }"), ["Tenant.secret", "Query.node"]);
        let query = "{ party(id: 1) { ... on Node { ... on Member { ... on Node { id } } } } }";
        assert_eq!(touched(query), ["Node.id", "Member.id", "Query.party"]);
        assert_eq!(touched("{ me { ... on Tenant { secret } } }"), ["Tenant.secret", "Query.me"]);
    }

    #[test]
    fn a_skipped_field_is_touched() {
        assert_eq!(touched("{ tenant(id: 1) { secret @skip(if: true) } }"), ["Tenant.secret", "Query.tenant"]);
    }

    #[test]
    fn introspection_is_noted_and_touches_nothing() {
        let admitted = admit("{ __type(name: \"Tenant\") { name } }").unwrap();
        assert!(admitted.operation().uses_introspection && admitted.operation().fields.is_empty());
        assert!(!admit("{ me { __typename } }").unwrap().operation().uses_introspection);
    }

    #[test]
    fn unknown_fields_are_left_to_validation() {
        assert_eq!(touched("{ nothing { like { this } } me { email nor } }"), ["Member.email", "Query.me"]);
        assert_eq!(complexity("{ nothing { like { this } } }", json!({})), 3);
    }
}

mod operations {
    use super::*;

    #[test]
    fn one_of_several_is_chosen_by_name() {
        let query = "query A { me { id } } mutation B { suspendTenant(id: 1) { id } name }";
        let admitted = admission().admit(query, Some("B"), &Variables::default()).unwrap();
        assert_eq!(admitted.operation().root_fields, ["suspendTenant", "name"]);
        assert_eq!(refusal(query).field(), Some("operationName"));
        for query in [query, "{ me { id } }"] {
            let error = admission().admit(query, Some("C"), &Variables::default()).unwrap_err();
            assert_eq!(error.to_string(), "operationName: names no operation of the document");
        }
    }

    #[test]
    fn a_subscription_has_one_root_field() {
        assert!(admit("subscription { alerts { id } }").is_ok());
        assert!(
            limit("subscription { alerts { id } ...S } fragment S on Subscription { usage }").contains("more than one")
        );
    }
}

mod costs {
    use super::*;

    #[test]
    fn children_cost_times_their_page() {
        assert_eq!(complexity("{ me { id tenant { name } } }", json!({})), 4);
        assert_eq!(complexity("{ tenants { edges { node { id } } } }", json!({})), 1 + 25 * 3);
        assert_eq!(complexity("{ tenants(first: 2, last: 7) { edges { node { id } } } }", json!({})), 1 + 7 * 3);
        assert_eq!(complexity("{ unbounded { totalCount } }", json!({})), 1 + 100);
        assert_eq!(complexity("{ byIds(ids: [1, 2, 3]) { id } }", json!({})), 1 + 3);
    }

    #[test]
    fn variables_decide_page_sizes() {
        let query =
            "query($n: Int! = 5) { tenants(first: $n) { edges { node { members(first: $m) { nodes { id } } } } } }";
        let nested = |n: usize, m: usize| 1 + n * (2 + 1 + m * 2);
        assert_eq!(complexity(query, json!({})), nested(5, 10));
        assert_eq!(complexity(query, json!({ "n": 2, "m": 3 })), nested(2, 3));
        assert_eq!(complexity(query, json!({ "n": null, "m": -1 })), nested(5, 10));
        assert_eq!(complexity("query($i: [ID!]!) { byIds(ids: $i) { id } }", json!({ "i": [1, 2] })), 1 + 2);
    }

    #[test]
    fn one_document_is_refused_or_not_by_its_variables() {
        let (admission, query) = (admission(), "query($n: Int) { tenants(first: $n) { totalCount } }");
        for (n, passes) in [(100, true), (9_999, true), (10_000, false), (i64::MAX, false)] {
            let variables = Variables::from_json(json!({ "n": n }));
            assert_eq!(admission.admit(query, None, &variables).is_ok(), passes, "{n}");
        }
    }
}

mod legitimate {
    use super::*;

    #[test]
    fn introspection_of_the_usual_tools_passes() {
        for query in [FULL, GRAPHIQL] {
            assert!(admit(query).unwrap().operation().uses_introspection);
        }
        assert_eq!(
            limit(&format!("{{ __type(name: \"A\") {} }}", "{ ofType ".repeat(18) + "{ name }" + &"}".repeat(18))),
            "introspection_depth"
        );
    }

    #[test]
    fn introspection_costs_at_most_two_full_queries() {
        let types: String = (0..100)
            .map(|ty| {
                format!(
                    "type T{ty} {{ {} }} ",
                    (0..12).map(|field| format!("f{field}(a: Int): Query ")).collect::<String>()
                )
            })
            .collect();
        let admission = Admission::new(&format!("{types} type Query {{ me: T1 }}"), Limits::default());
        let admit = |query: &str| admission.admit(query, None, &Variables::default());
        assert!(admit(FULL).is_ok() && admit(GRAPHIQL).is_ok());
        assert!(admit("{ __schema { types { fields { type { fields { name } } } } } }").is_ok());
        let thrice = FULL.replacen("...FullType", "...FullType ...FullType ...FullType", 1);
        for query in
            ["{ __schema { types { fields { type { fields { type { fields { type { name } } } } } } } } }", &thrice]
        {
            assert_eq!(admit(query).unwrap_err().details().unwrap()["limit"], "introspection");
        }
    }

    #[test]
    fn a_page_of_fifty_tenants_with_nested_objects_passes() {
        let query = "query Fleet($first: Int!) { tenants(first: $first, filter: { status: ACTIVE }) { totalCount edges { cursor node {
            ...Row parent { ...Row parent { id name } } members(first: 10) { nodes { id email tenant { id } } } } } } }
            fragment Row on Tenant { id name status }";
        let admitted = admission().admit(query, Some("Fleet"), &Variables::from_json(json!({ "first": 50 }))).unwrap();
        assert_eq!(admitted.complexity, 1 + 50 * (1 + 2 + 1 + 3 + 1 + 3 + 1 + 2 + 1 + 10 * 5));
    }
}

mod cache {
    use super::*;

    #[test]
    fn an_admitted_document_is_parsed_once_and_a_refused_one_not_kept() {
        let admission = admission();
        let admit = |query| admission.admit(query, None, &Variables::default());
        let (first, second) = (admit("{ me { id } }").unwrap(), admit("{ me { id } }").unwrap());
        assert!(std::sync::Arc::ptr_eq(&first.document, &second.document));
        assert!(admit("{ ...F }").is_err());
        admission.admitted.run_pending_tasks();
        assert_eq!(admission.admitted.entry_count(), 1);
    }

    #[test]
    fn the_cache_keeps_to_its_bytes() {
        let admission = Admission::new(SDL, Limits { cached_documents: 100_000, ..Limits::default() });
        for document in 0..1_000 {
            admission.admit(&format!("query Q{document} {{ me {{ id }} }}"), None, &Variables::default()).unwrap();
        }
        admission.admitted.run_pending_tasks();
        assert!((1..100).contains(&admission.admitted.entry_count()));
        assert!(admission.admitted.weighted_size() <= 100_000);
    }
}

mod catalogues {
    use super::*;
    use crate::edge::admission::catalogue;

    #[test]
    fn a_catalogue_lists_the_whole_schema() {
        let catalogue = catalogue::Catalogue::parse(SDL).unwrap();
        assert_eq!(catalogue.fields().len(), 26);
        let field = catalogue.field(catalogue.find_field("Query", "tenants").unwrap());
        let arguments: Vec<_> =
            field.arguments.iter().map(|argument| (&*argument.name, &*argument.ty, argument.optional())).collect();
        assert_eq!((&*field.ty, &*field.named, field.list), ("TenantConnection!", "TenantConnection", false));
        assert_eq!(arguments, [("first", "Int!", true), ("last", "Int", true), ("filter", "Filter", true)]);
        assert_eq!(field.arguments[0].default.as_ref().unwrap().to_string(), "25");
        let tenant = catalogue.find_type("Tenant").unwrap();
        assert_eq!(catalogue.fields_of(tenant).nth(1).unwrap().1.description.as_deref(), Some("Shown to people."));
        let status = catalogue.find_type("Status").unwrap();
        assert_eq!(
            status.values.iter().map(|value| (&*value.name, value.deprecated)).collect::<Vec<_>>(),
            [("ACTIVE", false), ("SUSPENDED", true)]
        );
        assert_eq!(catalogue.find_type("Filter").unwrap().inputs[1].ty, "[ID!]");
        let possible =
            |name| catalogue.find_type(name).unwrap().possible.iter().map(|name| &**name).collect::<Vec<_>>();
        assert_eq!((possible("Node"), possible("Party")), (vec!["Member", "Tenant"], vec!["Tenant", "Member"]));
    }
}
