//! Operations generated from the published schema: a field that is added later is covered without being listed anywhere.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
};

use serde_json::{Map, Value, json};
use tenantry::{
    access::{Audience, permission},
    edge::{
        self,
        admission::catalogue::{Argument, Catalogue, Field, FieldId, Kind},
    },
};
use uuid::Uuid;

/// Scalars that no text fits into.
const NOT_TEXT: [&str; 5] = ["Boolean", "DateTime", "Decimal", "Float", "Int"];

pub struct Schema(pub Catalogue);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Query,
    Mutation,
    Subscription,
}

/// The way from a root to one field.
#[derive(Clone, Debug)]
pub struct Route {
    pub verb: Verb,
    pub fields: Vec<FieldId>,
}

/// A place in a field's arguments that takes text: the argument and the input fields that lead to it.
#[derive(Clone, Debug)]
pub struct Position(Vec<Argument>);

/// What is put into a required argument: where it is (`tenant.id`, `updateTenant.input.id`), and what.
pub type Choose<'a> = &'a dyn Fn(&str, &Argument) -> Value;

/// What is sent, and the fields that it selects.
#[derive(Clone, Debug)]
pub struct Operation {
    pub query: String,
    pub variables: Value,
    pub selected: BTreeSet<FieldId>,
}

impl Schema {
    pub fn published() -> Self {
        Self(Catalogue::parse(&edge::schema::sdl()).unwrap())
    }

    fn roots(&self) -> [(Verb, &str); 3] {
        [
            (Verb::Query, self.0.query()),
            (Verb::Subscription, self.0.subscription()),
            (Verb::Mutation, self.0.mutation()),
        ]
    }

    /// To every root field, and to the fields below that take arguments or ask for a permission of their own: the shortest
    /// way, and one that services can go where there is one.
    pub fn routes(&self) -> Vec<Route> {
        let (mut routes, mut ahead, mut seen) = (Vec::new(), VecDeque::new(), BTreeSet::new());
        for (verb, root) in self.roots() {
            let mut fields: Vec<_> = self.0.find_type(root).into_iter().flat_map(|ty| self.0.fields_of(ty)).collect();
            fields.sort_by_key(|(_, field)| !self.for_services(field));
            for (id, field) in fields {
                let route = Route { verb, fields: vec![id] };
                ahead.push_back((field.named.clone(), route.clone()));
                routes.push(route);
            }
        }
        while let Some((name, route)) = ahead.pop_front() {
            let Some(ty) = self.0.find_type(&name) else { continue };
            for object in ty.possible.iter().filter_map(|name| self.0.find_type(name)) {
                if !seen.insert(object.name.clone()) {
                    continue;
                }
                for (id, field) in self.0.fields_of(object) {
                    let further = Route { verb: route.verb, fields: [route.fields.as_slice(), &[id]].concat() };
                    ahead.push_back((field.named.clone(), further.clone()));
                    if !field.arguments.is_empty() || permission(&field.parent, &field.name).is_some() {
                        routes.push(further);
                    }
                }
            }
        }
        routes
    }

    /// The field that a route leads to.
    pub fn end(&self, route: &Route) -> &Field {
        self.0.field(*route.fields.last().unwrap())
    }

    /// `Query.tenant.audit`
    pub fn name(&self, route: &Route) -> String {
        let names = route.fields.iter().map(|id| self.0.field(*id).name.to_string());
        format!("{:?}.{}", route.verb, names.collect::<Vec<_>>().join("."))
    }

    /// Whether a service can hold what the field asks for.
    pub fn for_services(&self, field: &Field) -> bool {
        permission(&field.parent, &field.name).is_none_or(|permission| permission.audience != Audience::Platform)
    }

    /// Every place in the field's arguments that takes text.
    pub fn positions(&self, field: &Field) -> Vec<Position> {
        let mut found = Vec::new();
        self.walk(&field.arguments, &mut Vec::new(), &mut found);
        found
    }

    fn walk(&self, inputs: &[Argument], steps: &mut Vec<Argument>, found: &mut Vec<Position>) {
        for input in inputs {
            let kind = self.0.find_type(&input.named).map(|ty| ty.kind);
            if kind == Some(Kind::Input) && steps.iter().any(|step| step.named == input.named) {
                continue; // a type inside itself
            }
            steps.push(input.clone());
            match kind {
                Some(Kind::Input) => self.walk(&self.0.find_type(&input.named).unwrap().inputs, steps, found),
                Some(Kind::Enum) => {}
                _ if NOT_TEXT.contains(&&*input.named) => {}
                _ => found.push(Position(steps.clone())),
            }
            steps.pop();
        }
    }

    /// An operation that asks for the end of `route` and, `depth` objects deep, for what is below it. `placed` is put into
    /// the end's arguments; of all others only the required are there.
    pub fn operation(
        &self,
        route: &Route,
        choose: Choose<'_>,
        placed: Option<(&Position, &str)>,
        depth: usize,
    ) -> Operation {
        let mut writer = Writer {
            schema: self,
            choose,
            place: Vec::new(),
            declared: Vec::new(),
            variables: Map::new(),
            selected: BTreeSet::new(),
        };
        let (mut text, mut open) = (String::new(), 0);
        for (index, id) in route.fields.iter().enumerate() {
            if index > 0 {
                let (parent, field) = (self.0.field(route.fields[index - 1]), self.0.field(*id));
                let several = parent.named != field.parent;
                text += &if several { format!("{{...on {}{{", field.parent) } else { "{".to_owned() };
                open += 1 + usize::from(several);
            }
            text += &writer.call(*id, placed.filter(|_| index + 1 == route.fields.len()));
        }
        text += &writer.below(&self.end(route).named, depth);
        text += &"}".repeat(open);
        let verb = format!("{:?}", route.verb).to_lowercase();
        let declared =
            if writer.declared.is_empty() { String::new() } else { format!("({})", writer.declared.join(" ")) };
        Operation {
            query: format!("{verb}{declared}{{{text}}}"),
            variables: Value::Object(writer.variables),
            selected: writer.selected,
        }
    }
}

struct Writer<'a> {
    schema: &'a Schema,
    choose: Choose<'a>,
    /// Names of the field and the inputs that are being written.
    place: Vec<String>,
    declared: Vec<String>,
    variables: Map<String, Value>,
    selected: BTreeSet<FieldId>,
}

impl Writer<'_> {
    /// `name(argument: $v0 …)`, its values declared as variables.
    fn call(&mut self, id: FieldId, placed: Option<(&Position, &str)>) -> String {
        let field = self.schema.0.field(id);
        self.selected.insert(id);
        self.place.push(field.name.to_string());
        let values = self.object(&field.arguments, placed.map(|(position, text)| (position.0.as_slice(), text)));
        self.place.pop();
        let mut arguments = Vec::new();
        for (name, value) in values {
            let variable = format!("v{}", self.variables.len());
            let ty = &field.arguments.iter().find(|argument| *argument.name == *name).unwrap().ty;
            arguments.push(format!("{name}:${variable}"));
            self.declared.push(format!("${variable}:{ty}"));
            self.variables.insert(variable, value);
        }
        if arguments.is_empty() { field.name.to_string() } else { format!("{}({})", field.name, arguments.join(" ")) }
    }

    /// The required members, and the one that leads to where something is placed.
    fn object(&mut self, inputs: &[Argument], placed: Option<(&[Argument], &str)>) -> Map<String, Value> {
        let mut members = Map::new();
        for input in inputs {
            let inner = placed.filter(|(steps, _)| steps[0].name == input.name);
            if inner.is_some() || !input.optional() {
                self.place.push(input.name.to_string());
                let value = self.value(input, inner.map(|(steps, text)| (&steps[1..], text)));
                self.place.pop();
                members.insert(input.name.to_string(), value);
            }
        }
        members
    }

    fn value(&mut self, input: &Argument, placed: Option<(&[Argument], &str)>) -> Value {
        let ty = self.schema.0.find_type(&input.named);
        let item = match (ty.map(|ty| ty.kind), placed) {
            (Some(Kind::Input), placed) => Value::Object(self.object(&ty.unwrap().inputs, placed)),
            (Some(Kind::Enum), _) => json!(*ty.unwrap().values[0].name),
            (_, Some((_, text))) if &*input.named == "JSON" => json!({ "settings": { "of": text } }),
            (_, Some((_, text))) => json!(text),
            (_, None) => (self.choose)(&self.place.join("."), input),
        };
        (0..input.ty.matches('[').count()).fold(item, |item, _| json!([item]))
    }

    /// ` {…}` with all that needs nothing more than its parents, or nothing for a scalar.
    fn below(&mut self, name: &str, depth: usize) -> String {
        let Some(ty) = self.schema.0.find_type(name) else { return String::new() };
        match ty.kind {
            Kind::Object => {
                let fields = self.selection(name, depth);
                if fields.is_empty() { "{__typename}".to_owned() } else { format!("{{{fields}}}") }
            }
            Kind::Interface | Kind::Union => {
                let parts = ty
                    .possible
                    .clone()
                    .into_iter()
                    .map(|object| format!("...on {object}{{__typename {}}}", self.selection(&object, depth)));
                format!("{{{}}}", parts.collect::<Vec<_>>().join(" "))
            }
            _ => String::new(),
        }
    }

    fn selection(&mut self, name: &str, depth: usize) -> String {
        let ty = self.schema.0.find_type(name).unwrap();
        let mut parts = Vec::new();
        for (id, field) in self.schema.0.fields_of(ty) {
            let composite =
                self.schema.0.find_type(&field.named).is_some_and(|ty| !matches!(ty.kind, Kind::Scalar | Kind::Enum));
            if !self.schema.for_services(field)
                || (composite && (depth == 0 || !self.has_leaves(&field.named, depth - 1)))
            {
                continue;
            }
            let call = self.call(id, None);
            let below = if composite { self.below(&field.named, depth - 1) } else { String::new() };
            parts.push(call + &below);
        }
        parts.join(" ")
    }

    /// Whether there is anything to select within `depth`.
    fn has_leaves(&self, name: &str, depth: usize) -> bool {
        let Some(ty) = self.schema.0.find_type(name) else { return true };
        let leaf = |field: &Field| match self.schema.0.find_type(&field.named) {
            Some(ty) if !matches!(ty.kind, Kind::Scalar | Kind::Enum) => {
                depth > 0 && self.has_leaves(&field.named, depth - 1)
            }
            _ => true,
        };
        ty.kind != Kind::Object || self.schema.0.fields_of(ty).any(|(_, field)| leaf(field))
    }
}

impl Position {
    /// Name of the scalar that stands there.
    pub fn scalar(&self) -> &str {
        &self.0.last().unwrap().named
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|step| format!("{}{}", step.name, if step.list { "[0]" } else { "" }));
        f.write_str(&names.collect::<Vec<_>>().join("."))
    }
}

/// What can be no login or no password: one that could be would be counted as an attempt on the tenant, and change how the next is answered.
pub fn no_attempt(place: &str) -> Option<Value> {
    let is_counted = matches!(place, "signInByDirectory.input.login" | "signInByDirectory.input.password");
    is_counted.then(|| json!(""))
}

/// The least that a required scalar takes: ids that were never given to anything.
pub fn anything(place: &str, argument: &Argument) -> Value {
    if let Some(nothing) = no_attempt(place) {
        return nothing;
    }
    match &*argument.named {
        "ID" => json!(phantom_id()),
        "String" => json!("example"),
        "Int" => json!(1),
        "Float" => json!(1.5),
        "Boolean" => json!(false),
        "Decimal" | "UsageQuantity" => json!("1"),
        "DateTime" => json!("2026-01-01T00:00:00Z"),
        "JSON" => json!({}),
        other => panic!("operation.rs does not know what a {other} looks like: add it to `anything`"),
    }
}

/// A UUID that nothing has.
#[expect(clippy::disallowed_methods, reason = "nothing is made with it")]
pub fn phantom_id() -> String {
    Uuid::new_v4().to_string()
}

/// Whether execution got as far as a resolver: else the document itself was at fault, and the generator is.
pub fn reached(body: &Value) -> bool {
    body["data"].is_object() || body["errors"][0]["path"].as_array().is_some_and(|path| !path.is_empty())
}
