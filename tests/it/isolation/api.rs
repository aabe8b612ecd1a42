//! Queries and mutations by POST.

use std::{cell::RefCell, collections::BTreeMap};

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::{
    answer::{difference, told},
    neighbours::{Form, Neighbours},
    operation::{Operation, Position, Route, Schema, Verb, anything, no_attempt},
};

/// What was tried, so that nothing cannot pass for everything.
#[derive(Debug, Default)]
struct Tried {
    fields: usize,
    positions: usize,
    comparisons: usize,
    /// Fields that answer B about itself.
    answering: usize,
    /// Codes of the answers.
    codes: BTreeMap<String, usize>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_query_tells_a_tenant_anything_of_another() {
    let (neighbours, schema) = (Neighbours::start().await, Schema::published());
    let tried = try_all(&neighbours, &schema, Verb::Query, 8).await;
    println!("queries: {tried:?}");
    assert!(
        tried.fields >= 12 && tried.positions >= 20 && tried.comparisons >= 200 && tried.answering >= 8,
        "{tried:?}"
    );
    assert!(tried.codes["none"] >= 50 && tried.codes["not_found"] >= 20 && tried.codes["forbidden"] >= 20, "{tried:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mutation_tells_a_tenant_anything_of_another_or_changes_it() {
    let (neighbours, schema) = (Neighbours::start().await, Schema::published());
    let before = rows_of_a(&neighbours).await;
    let tried = try_all(&neighbours, &schema, Verb::Mutation, 1).await;
    println!("mutations: {tried:?}");
    assert!(
        tried.fields >= 15 && tried.positions >= 80 && tried.comparisons >= 800 && tried.answering >= 2,
        "{tried:?}"
    );
    assert!(tried.codes["none"] >= 50 && tried.codes["not_found"] >= 20 && tried.codes["forbidden"] >= 50, "{tried:?}");
    assert_eq!(rows_of_a(&neighbours).await, before, "B changed something of A's");
}

async fn try_all(neighbours: &Neighbours, schema: &Schema, verb: Verb, at_once: usize) -> Tried {
    let mut tried = Tried::default();
    let mut work = Vec::new();
    for route in schema.routes().into_iter().filter(|route| route.verb == verb) {
        let own = settle(neighbours, schema, &route).await;
        tried.fields += 1;
        tried.answering += usize::from(own.is_some());
        let own = own.unwrap_or_default();
        for position in schema.positions(schema.end(&route)) {
            tried.positions += 1;
            work.extend(Form::ALL.map(|form| (route.clone(), own.clone(), position.clone(), form)));
        }
    }
    let compared = stream::iter(work).map(|(route, own, position, form)| async move {
        let case = Case { neighbours, schema, route: &route, own: &own, position: &position };
        case.compare_all(form).await
    });
    let codes: Vec<Vec<String>> = compared.buffer_unordered(at_once).collect().await;
    for code in codes.into_iter().flatten() {
        tried.comparisons += 1;
        *tried.codes.entry(code).or_default() += 1;
    }
    tried
}

/// B's own values for the required arguments, by their places, with which the field answers; `None` where none do, as with
/// what is for operators.
async fn settle(neighbours: &Neighbours, schema: &Schema, route: &Route) -> Option<Own> {
    let needed = RefCell::new(BTreeMap::new());
    let note = |place: &str, argument: &_| {
        needed.borrow_mut().insert(place.to_owned(), own_values(neighbours, place, argument));
        json!(null)
    };
    schema.operation(route, &note, None, 0);
    let needed = needed.into_inner();
    let ways: usize = needed.values().map(Vec::len).product();
    for way in 0..ways.min(64) {
        let mut rest = way;
        let own: Own = needed
            .iter()
            .map(|(place, values)| {
                let value = values[rest % values.len()].clone();
                rest /= values.len();
                (place.clone(), value)
            })
            .collect();
        let choose = |place: &str, argument: &_| {
            own.get(place).cloned().unwrap_or_else(|| own_values(neighbours, place, argument)[0].clone())
        };
        let operation = schema.operation(route, &choose, None, 1);
        let answer = neighbours.service.graphql(&operation.query, operation.variables).await;
        if answer.code() == "none" && answer.status == 200 {
            return Some(own);
        }
    }
    None
}

/// Values by places.
type Own = BTreeMap<String, Value>;

fn own_values(
    neighbours: &Neighbours,
    place: &str,
    argument: &tenantry::edge::admission::catalogue::Argument,
) -> Vec<Value> {
    if let Some(nothing) = no_attempt(place) {
        return vec![nothing];
    }
    match &*argument.named {
        "ID" => vec![json!(neighbours.b.id), json!(neighbours.b_client.id)],
        "String" => vec![json!("settings"), json!("auth:tenant:read"), json!(neighbours.b.slug)],
        _ => vec![anything("", argument)],
    }
}

/// One place where a name is put.
struct Case<'a> {
    neighbours: &'a Neighbours,
    schema: &'a Schema,
    route: &'a Route,
    own: &'a Own,
    position: &'a Position,
}

impl Case<'_> {
    /// Compares each of A's names of this form with two that never existed, and answers the codes that came back.
    async fn compare_all(&self, form: Form) -> Vec<String> {
        // Once more where there is a difference: a schedule may have come in between.
        match self.compare(form).await {
            Ok(codes) => codes,
            Err(_) => self.compare(form).await.unwrap_or_else(|difference| panic!("{difference}")),
        }
    }

    async fn compare(&self, form: Form) -> Result<Vec<String>, String> {
        let (mut codes, place) = (Vec::new(), format!("{} at `{}`", self.schema.name(self.route), self.position));
        let [first, second] = form.phantoms();
        let (first, second) = (self.ask(&first).await, self.ask(&second).await);
        assert_eq!(first.1, second.1, "{place}");
        for name in self.neighbours.names.iter().filter(|name| name.form == form) {
            let (foreign, code) = self.ask(&name.text).await;
            codes.push(code);
            if let Some(difference) = difference(&foreign, [&first.0, &second.0]) {
                return Err(format!("{place} tells B of A's {}: answer{difference}", name.what));
            }
        }
        Ok(codes)
    }

    async fn ask(&self, text: &str) -> (Value, String) {
        let depth = if self.route.verb == Verb::Query { 3 } else { 2 };
        let choose = |place: &str, argument: &_| {
            let own = self.own.get(place).cloned();
            own.unwrap_or_else(|| own_values(self.neighbours, place, argument)[0].clone())
        };
        let Operation { query, variables, .. } =
            self.schema.operation(self.route, &choose, Some((self.position, text)), depth);
        let mut answer = self.neighbours.service.graphql(&query, variables).await;
        assert!(
            answer.code() != "internal",
            "{} at `{}` of {text:?}: {}",
            self.schema.name(self.route),
            self.position,
            answer.text
        );
        let code = answer.code().to_owned();
        if self.route.verb == Verb::Query || code != "none" {
            self.neighbours.nothing_of_a_in(&answer.text, text);
        } else {
            // Names that B has written into its own rows are told again by every answer after that.
            let written = self.neighbours.names.iter();
            answer.text = written.fold(answer.text, |told, name| told.replace(&name.text, "<sent>"));
        }
        (told(&answer, text), code)
    }
}

/// Every row of A's, table by table.
async fn rows_of_a(neighbours: &Neighbours) -> BTreeMap<String, String> {
    let mut database = super::database::Session::superuser(&neighbours.app).await;
    let mut rows = BTreeMap::new();
    for table in database.tenant_tables().await {
        let sql = format!(
            "select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from tenantry.{table} t where tenant_id = '{}'",
            neighbours.a.id
        );
        rows.insert(table, database.text(&sql).await.unwrap());
    }
    rows
}

#[tokio::test]
async fn a_batch_of_aliases_tells_no_more_than_one_of_them() {
    let (neighbours, schema) = (Neighbours::start().await, Schema::published());
    let mut tried = 0;
    for route in schema.routes().into_iter().filter(|route| route.verb == Verb::Query && route.fields.len() == 1) {
        let field = schema.end(&route);
        for position in schema
            .positions(field)
            .iter()
            .filter(|position| position.scalar() == "ID" && !position.to_string().contains('.'))
        {
            if !schema.for_services(field)
                || field
                    .arguments
                    .iter()
                    .any(|argument| !argument.optional() && *argument.name != *position.to_string())
            {
                continue;
            }
            let selection = if schema.0.find_type(&field.named).is_some() { "{__typename}" } else { "" };
            let call = |alias: &str, id: &str| format!("{alias}:{}({position}:\"{id}\"){selection} ", field.name);
            let batch = |ids: [&str; 3]| {
                let own = neighbours.b.id.to_string();
                format!("{{{}{}{}{}}}", call("a", ids[0]), call("own", &own), call("b", ids[1]), call("c", ids[2]))
            };
            let ask = async |ids: [&str; 3]| {
                let answer = neighbours.service.graphql(&batch(ids), json!({})).await;
                neighbours.nothing_of_a_in(&answer.text, &ids.concat());
                super::answer::without_request_ids(answer.body)
            };
            let phantoms = [Form::Id.phantoms(), Form::Id.phantoms()];
            let ids: Vec<_> =
                neighbours.names.iter().filter(|name| name.form == Form::Id).map(|name| name.text.as_str()).collect();
            let foreign = ask([ids[0], ids[1], ids[2]]).await;
            let never = ask([&phantoms[0][0], &phantoms[0][1], &phantoms[1][0]]).await;
            assert_eq!(foreign, never, "{} with aliases", field.name);
            tried += 1;
        }
    }
    assert!(tried >= 5, "only {tried} fields were tried");
    // Batches of operations are not taken at all.
    let request = neighbours
        .service
        .post("/graphql")
        .json(&json!([{ "query": format!("{{tenant(id:\"{}\"){{id}}}}", neighbours.a.id) }]));
    assert_eq!(neighbours.service.send(request).await.code(), "invalid_input");
}
