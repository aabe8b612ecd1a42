//! The free sections of a tenant: typed JSON that operators' JSON Schemas may hold to a form.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Tenancy;
use crate::{
    error::{Context as _, Error, Result},
    isolation::{Conditions, OperatorScope},
    journal::Entry,
    platform::db::Tx,
};

/// Bytes of JSON that all free sections of one tenant may have.
const SECTIONS_BYTES: usize = 65_536;
const SCHEMA_BYTES: usize = 65_536;

impl Tenancy {
    /// Registers (or, with `None`, drops) the JSON Schema that a section must satisfy from now on.
    pub async fn register_settings_schema(
        &self,
        scope: &OperatorScope,
        section: &str,
        schema: Option<Value>,
        conditions: &Conditions,
    ) -> Result<i64> {
        if let Some(schema) = &schema {
            compile(schema)?;
        }
        super::declaration::check_section_name("section", section)?;
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        let row = tx
            .row("select version, schema from tenantry.setting_schemas where section = $1 for update", [section.into()])
            .await?;
        let (version, before): (i64, Option<Value>) = match row {
            Some(row) => (row.try_get("", "version")?, Some(row.try_get("", "schema")?)),
            None => (0, None),
        };
        conditions.check_version(version)?;
        match &schema {
            Some(schema) => {
                let upsert = "insert into tenantry.setting_schemas (section, schema, updated_at) values ($1, $2::jsonb, $3)
                    on conflict (section) do update set schema = excluded.schema, version = setting_schemas.version + 1, updated_at = excluded.updated_at";
                tx.execute(upsert, [section.into(), schema.to_string().into(), tx.stamp().at.into()]).await?;
            }
            None => {
                tx.execute("delete from tenantry.setting_schemas where section = $1", [section.into()]).await?;
            }
        }
        let version = version + 1;
        tx.keep_answer(conditions, &version).await?;
        let entry =
            Entry { before, after: schema, ..Entry::new("SettingsSchemaRegistered", "settings_schema", section) };
        tx.commit([entry]).await?;
        Ok(version)
    }
}

/// Holds `sections` to size and to the registered schemas.
pub(super) async fn check(tx: &Tx, sections: Option<&BTreeMap<String, Value>>) -> Result<()> {
    let Some(sections) = sections.filter(|sections| !sections.is_empty()) else { return Ok(()) };
    let bytes: usize = sections.values().map(|section| section.to_string().len()).sum();
    if bytes > SECTIONS_BYTES {
        return Err(Error::invalid(
            "sections",
            format!("have {bytes} bytes of JSON; at most {SECTIONS_BYTES} are kept"),
        ));
    }
    for row in tx.rows("select section, schema from tenantry.setting_schemas", []).await? {
        let (section, schema): (String, Value) = (row.try_get("", "section")?, row.try_get("", "schema")?);
        if let Some(value) = sections.get(&section) {
            validate(&section, &schema, value)?;
        }
    }
    Ok(())
}

fn validate(section: &str, schema: &Value, value: &Value) -> Result<()> {
    let validator = jsonschema::validator_for(schema)
        .map_err(|error| Error::internal(error.to_string()))
        .context("compile a kept schema")?;
    let problems: Vec<_> = validator
        .iter_errors(value)
        .take(10)
        .map(|error| (error.instance_path().to_string(), error.to_string()))
        .collect();
    match problems.first() {
        None => Ok(()),
        Some((path, problem)) => Err(Error::invalid(format!("{section}{}", path.replace('/', ".")), problem.clone())
            .with(json!({ "problems": problems.iter().map(|(path, problem)| json!({ "path": path, "problem": problem })).collect::<Vec<_>>() }))),
    }
}

fn compile(schema: &Value) -> Result<()> {
    if schema.to_string().len() > SCHEMA_BYTES {
        return Err(Error::invalid("schema", format!("must have at most {SCHEMA_BYTES} bytes")));
    }
    jsonschema::validator_for(schema)
        .map(|_| ())
        .map_err(|error| Error::invalid("schema", format!("is no JSON Schema: {error}")))
}
