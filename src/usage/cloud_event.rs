//! CloudEvents 1.0 (github.com/cloudevents/spec): its JSON format, structured and in batches, and its HTTP binding's binary mode.
//!
//! `source` and `id` together are the key, as the specification has it. The extension `tenantid` names the tenant; `type` is the
//! dimension, unless the data has a member `dimension`; `quantity`, `labels` and `adjustment_reason` are members of the data.

use std::borrow::Cow;

use axum::http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{event::RawEvent, http::quantity_text};
use crate::error::{Error, Result};

/// Attributes of an event. Extensions that are not known are let pass, as are members of the data: they are for others.
#[derive(Debug, Default, Deserialize)]
struct Attributes<'a> {
    #[serde(borrow)]
    specversion: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tenantid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Data<'a> {
    dimension: Option<String>,
    #[serde(borrow)]
    quantity: Option<&'a RawValue>,
    subject: Option<String>,
    #[serde(default)]
    labels: Map<String, Value>,
    adjustment_reason: Option<String>,
}

/// One event of the JSON format.
pub(super) fn structured(text: &str) -> Result<RawEvent> {
    let attributes = serde_json::from_str(text);
    event(attributes.map_err(|error| Error::invalid("event", format!("is no CloudEvent: {error}")))?)
}

/// Whether a request is one event in binary mode.
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

pub(super) fn binary(headers: &HeaderMap, body: &str) -> Result<RawEvent> {
    let attribute = |name: &str| -> Result<Option<Cow<'static, str>>> {
        let Some(value) = headers.get(name) else { return Ok(None) };
        let text =
            value.to_str().ok().and_then(|text| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned));
        let rule = "must be UTF-8 in percent-encoding (CloudEvents HTTP binding, 3.1.3.2)";
        text.map(|text| Some(Cow::Owned(text))).ok_or_else(|| Error::invalid(name.to_owned(), rule))
    };
    let data = body.trim();
    let data = (!data.is_empty()).then(|| serde_json::from_str(data)).transpose();
    event(Attributes {
        specversion: attribute("ce-specversion")?,
        id: attribute("ce-id")?,
        source: attribute("ce-source")?,
        kind: attribute("ce-type")?,
        time: attribute("ce-time")?,
        subject: attribute("ce-subject")?,
        tenantid: attribute("ce-tenantid")?,
        data: data.map_err(|error| Error::invalid("data", format!("must be JSON: {error}")))?,
        data_base64: None,
    })
}

fn event(attributes: Attributes<'_>) -> Result<RawEvent> {
    if attributes.specversion.as_deref() != Some("1.0") {
        return Err(Error::invalid("specversion", "must be 1.0"));
    }
    let needed = |name: &str, value: Option<Cow<'_, str>>| {
        let value = value.filter(|value| !value.is_empty());
        value.map(Cow::into_owned).ok_or_else(|| Error::invalid(name.to_owned(), "is needed, and is not empty"))
    };
    if attributes.data_base64.is_some() {
        return Err(Error::invalid("data_base64", "is not read: usage is JSON, in `data`"));
    }
    let data = match attributes.data {
        None => Data::default(),
        Some(data) => serde_json::from_str(data.get())
            .map_err(|error| Error::invalid("data", format!("must be a JSON object with usage: {error}")))?,
    };
    let kind = needed("type", attributes.kind)?;
    let sent_quantity = data.quantity.map(quantity_text).transpose()?;
    // Only what says no quantity may have to be searched for one.
    let body = attributes.data.filter(|_| sent_quantity.is_none()).map(ToOwned::to_owned);
    Ok(RawEvent {
        tenant: attributes.tenantid.map(Cow::into_owned),
        key: Some(needed("id", attributes.id)?),
        source: Some(needed("source", attributes.source)?),
        dimension: data.dimension.unwrap_or(kind),
        quantity: sent_quantity,
        subject: data.subject.or(attributes.subject.map(Cow::into_owned)),
        labels: data.labels,
        timestamp: attributes.time.map(Cow::into_owned),
        adjustment_reason: data.adjustment_reason,
        data: body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{ "specversion": "1.0", "id": "1", "source": "/gateway", "type": "api_calls", "tenantid": "t",
        "time": "2026-11-26T09:00:00Z", "data": { "quantity": 1.10, "other": true }, "extension": 7 }"#;

    #[test]
    fn both_modes_say_the_same() {
        let structured = structured(EVENT).unwrap();
        assert_eq!(structured.quantity.as_deref(), Some("1.10"));
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "%2Fgateway"),
            ("ce-type", "api_calls"),
            ("ce-tenantid", "t"),
            ("ce-time", "2026-11-26T09:00:00Z"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        assert!(is_binary(&headers));
        let binary = binary(&headers, r#" { "quantity": 1.10, "other": true } "#).unwrap();
        assert_eq!(format!("{binary:?}"), format!("{structured:?}"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (from, to, field) in [
            ("\"1.0\"", "\"0.3\"", "specversion"),
            ("\"id\": \"1\"", "\"id\": \"\"", "id"),
            ("\"source\"", "\"sauce\"", "source"),
            ("\"type\"", "\"kind\"", "type"),
            ("\"data\"", "\"data_base64\"", "data_base64"),
            ("{ \"quantity\": 1.10, \"other\": true }", "[1]", "data"),
            ("{ \"quantity\": 1.10, \"other\": true }", "{ \"quantity\": [] }", "quantity"),
        ] {
            assert!(EVENT.contains(from));
            assert_eq!(structured(&EVENT.replace(from, to)).unwrap_err().field(), Some(field), "{from}");
        }
    }
}
