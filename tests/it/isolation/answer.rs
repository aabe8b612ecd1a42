use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::Answer;

/// What a client can tell from an answer: status, names of headers, body. What it sent itself is taken out.
pub fn told(answer: &Answer, sent: &str) -> Value {
    let headers: BTreeMap<_, _> = answer.headers.keys().map(|name| (name.to_string(), ())).collect();
    let text = if sent.is_empty() { answer.text.clone() } else { answer.text.replace(sent, "<sent>") };
    let body = serde_json::from_str(&text)
        .unwrap_or_else(|_| Value::String(text.chars().filter(|letter| !letter.is_ascii_digit()).collect()));
    json!({ "status": answer.status, "headers": headers.into_keys().collect::<Vec<_>>(), "body": without_request_ids(body) })
}

pub fn without_request_ids(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            members.remove("requestId");
            // How far journals were when a snapshot was read, which may happen at any moment.
            members.retain(|key, value| key != "version" || !value.is_string());
            for member in members.values_mut() {
                *member = without_request_ids(member.take());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_request_ids(item.take())),
        _ => {}
    }
    value
}

/// Where the answer about something that exists differs from both about what never did; where those differ from each other
/// is noise.
pub fn difference(foreign: &Value, phantoms: [&Value; 2]) -> Option<String> {
    let [first, second] = phantoms;
    if first == second {
        return (foreign != first).then(|| format!(": {foreign} instead of {first}"));
    }
    match (foreign, first, second) {
        (Value::Object(foreign), Value::Object(first), Value::Object(second)) if first.keys().eq(second.keys()) => {
            if !foreign.keys().eq(first.keys()) {
                return Some(format!(" has {:?} instead of {:?}", foreign.keys(), first.keys()));
            }
            foreign.iter().find_map(|(key, value)| {
                difference(value, [&first[key], &second[key]]).map(|found| format!(".{key}{found}"))
            })
        }
        (Value::Array(foreign), Value::Array(first), Value::Array(second)) if first.len() == second.len() => {
            if foreign.len() != first.len() {
                return Some(format!(" has {} items instead of {}", foreign.len(), first.len()));
            }
            (0..first.len()).find_map(|index| {
                difference(&foreign[index], [&first[index], &second[index]]).map(|found| format!("[{index}]{found}"))
            })
        }
        _ => None,
    }
}

#[test]
fn a_difference_is_found_and_noise_is_not() {
    let told = |code: &str, time: u32| json!({ "errors": [{ "code": code, "time": time }], "data": null });
    let phantoms = (told("not_found", 1), told("not_found", 2));
    assert_eq!(difference(&told("not_found", 3), [&phantoms.0, &phantoms.1]), None);
    let found = difference(&told("forbidden", 3), [&phantoms.0, &phantoms.1]);
    assert_eq!(found.as_deref(), Some(".errors[0].code: \"forbidden\" instead of \"not_found\""));
    let longer = json!({ "errors": [{ "code": "not_found", "time": 1 }, {}], "data": null });
    assert!(difference(&longer, [&phantoms.0, &phantoms.1]).is_some());
}
