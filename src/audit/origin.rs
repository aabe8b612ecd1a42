//! The entries behind what stands now: who set it, when.

use sea_orm::FromQueryResult as _;

use super::{
    Audit, Chain,
    record::{COLUMNS, NAMES, Record},
};
use crate::error::{Context as _, Result};

/// The newest entry about something, of those that all conditions hold for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sought {
    pub subject_kind: &'static str,
    pub subject_id: String,
    /// One of these; any where none is named.
    pub events: &'static [&'static str],
    /// A member of the state that was changed.
    pub changed: Option<&'static str>,
    /// A member of the state, and what it must be.
    pub with: Option<(&'static str, String)>,
}

impl Sought {
    pub fn new(subject_kind: &'static str, subject_id: impl ToString) -> Self {
        Self { subject_kind, subject_id: subject_id.to_string(), events: &[], changed: None, with: None }
    }

    pub fn events(self, events: &'static [&'static str]) -> Self {
        Self { events, ..self }
    }

    pub fn changed(self, member: &'static str) -> Self {
        Self { changed: Some(member), ..self }
    }

    pub fn with(self, member: &'static str, value: impl ToString) -> Self {
        Self { with: Some((member, value.to_string())), ..self }
    }
}

impl Audit {
    /// Of each, in one query. What stands since before there was a journal has none.
    pub async fn origins(&self, chain: &Chain, sought: &[Sought]) -> Result<Vec<Option<Record>>> {
        let mut found = vec![None; sought.len()];
        if sought.is_empty() {
            return Ok(found);
        }
        let find = format!(
            "select place, {NAMES}
             from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) with ordinality
               as wanted (of_kind, id, events, changed, member, value, place)
             cross join lateral (
               select {COLUMNS} from tenantry.journal
               where tenant_id = $1 and subject_id = id and subject_kind = of_kind
                 and (events = '' or event = any(string_to_array(events, ' ')))
                 and (changed = '' or (journal.before -> changed)::text is distinct from (journal.after -> changed)::text)
                 and (member = '' or journal.after ->> member = value)
               order by sequence desc limit 1) entry"
        );
        let column = |text: &dyn Fn(&Sought) -> String| sought.iter().map(text).collect::<Vec<_>>().into();
        let values = [
            chain.tenant().into(),
            column(&|sought| sought.subject_kind.to_owned()),
            column(&|sought| sought.subject_id.clone()),
            column(&|sought| sought.events.join(" ")),
            column(&|sought| sought.changed.unwrap_or_default().to_owned()),
            column(&|sought| sought.with.as_ref().map_or_else(String::new, |(member, _)| (*member).to_owned())),
            column(&|sought| sought.with.as_ref().map_or_else(String::new, |(_, value)| value.clone())),
        ];
        let tx = self.read_chain(chain).await?;
        let rows = tx.rows(&find, values).await?;
        tx.end().await?;
        for row in rows {
            let place: i64 = row.try_get("", "place")?;
            let place = usize::try_from(place - 1).context("read the place of an entry")?;
            *found.get_mut(place).context("find the place of an entry")? = Some(Record::from_query_result(&row, "")?);
        }
        Ok(found)
    }
}
