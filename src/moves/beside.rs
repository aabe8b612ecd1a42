//! What the tenant has that stands on an extension of its cell's PostgreSQL, and what of that would stay behind.

use super::Moves;
use crate::{
    error::Result,
    platform::{db::CellSession, ids::TenantId},
    provisioning::{Names, Provisioning},
};

/// Values: those of `home!`. A schema of vectors with nothing in it stands on nothing.
const USES: &str = concat!(
    "with ",
    home!(),
    " select coalesce(jsonb_agg(distinct name), '[]')::text from (
      select 'vector' where exists (select from pg_class join home on relnamespace = home.oid where nspname = $2)
        or exists (select from pg_type join home on typnamespace = home.oid where nspname = $2)
        or exists (select from pg_proc join home on pronamespace = home.oid where nspname = $2)
      union all select 'age' from home where nspname = $3
      union all select e.extname::text from pg_class c join home on c.relnamespace = home.oid join pg_attribute a on a.attrelid = c.oid
        join pg_type t on t.oid = a.atttypid join pg_depend d on d.classid = 'pg_type'::regclass and d.objid in (t.oid, t.typelem, t.typbasetype)
          and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
        join pg_extension e on e.oid = d.refobjid where a.attnum > 0 and not a.attisdropped and e.extname in ('vector', 'age')
    ) as found (name)"
);
/// Values: schemas, as a list of JSON.
const EXISTS: &str = "
    select to_jsonb(exists (select from pg_namespace where nspname in (select jsonb_array_elements_text($1::text::jsonb))))::text";

/// The extensions that things of the tenant stand on.
pub(super) async fn uses(session: &mut CellSession, names: &Names) -> Result<Vec<String>> {
    session.json(USES, &[names.stem(), &names.vectors(), &names.graph()]).await
}

impl Moves {
    /// As of now, before it is known where the tenant goes; nothing where it has nothing yet.
    pub(super) async fn uses(&self, tenant: TenantId) -> Result<Vec<String>> {
        if !self.0.provisioning.is_ready(tenant).await? {
            return Ok(Vec::new());
        }
        let Some(placement) = self.0.cells.find_placement(tenant).await? else { return Ok(Vec::new()) };
        let site = self.0.provisioning.site_at(tenant, placement).await?;
        let (placement, cell) = site.placed()?;
        let mut session = self.0.cells.open(cell)?.session(&placement.database_name).await?;
        check_nothing_is_left_behind(&mut session, &self.0.provisioning.left_behind(tenant)).await?;
        uses(&mut session, &site.names).await
    }
}

/// Refuses what would be lost with the source.
pub(super) async fn check_nothing_is_left_behind(session: &mut CellSession, left: &[String]) -> Result<()> {
    if session.json::<bool>(EXISTS, &[&serde_json::json!(left).to_string()]).await? {
        return Err(Provisioning::would_be_lost());
    }
    Ok(())
}
