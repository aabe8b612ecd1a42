//! One tenant's template, for the layer of provisioning that applies it: made, looked at, taken away.

use serde::Deserialize;

use super::{
    Templates,
    catalogue::Objects,
    mark::{self, Mark, Seen},
    migration::Migration,
    refusal::{Meaning, meaning},
    rollout::Rules,
    script::{self, Place},
    store,
    template::{SchemaState, Sentences, Template, choose},
};
use crate::{
    cells::{literal, quoted, stem},
    error::{Error, Kind, Result},
    isolation::OperatorScope,
    platform::{
        db::{CellDb, CellTx, ScriptFailure},
        ids::TenantId,
        random,
    },
    tenancy::Tenant,
};

/// Where the schema of one tenant is.
#[derive(Clone, Debug)]
pub struct Home<'a> {
    pub tenant: &'a Tenant,
    pub db: CellDb,
    pub database: &'a str,
    /// `server_version_num`.
    pub server: i32,
}

/// What a look at a tenant's schema came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The template that it is to have and has not.
    pub missing: Option<String>,
    /// What is not as its template has it: for a person.
    pub drift: Vec<String>,
}

/// What went with a schema's template.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Emptied {
    pub tables: u64,
    pub others: u64,
}

/// Of a schema's relations; found by `pg_depend`, which has an index by schema.
const COUNT: &str = "
    select jsonb_build_object('tables', count(*) filter (where relkind in ('r', 'p')), 'others', count(*) filter (where relkind not in ('r', 'p', 'i', 'I', 't')))::text
    from pg_depend d join pg_class on pg_class.oid = case d.classid when 'pg_class'::regclass then d.objid
      else (select typrelid from pg_type t where t.oid = d.objid) end
    where d.refclassid = 'pg_namespace'::regclass and d.refobjid = to_regnamespace(quote_ident($1)) and d.classid in ('pg_class'::regclass, 'pg_type'::regclass)";

impl Templates {
    /// What [`Templates::provide`] would do for a tenant whose schema is not there yet.
    pub async fn outlook(&self, tenant: &Tenant) -> Result<Vec<String>> {
        let template = self.template_for(tenant).await?;
        Ok(template.map(|template| applied(&template.name, template.released)).into_iter().collect())
    }

    /// Gives a schema that has no template yet the one that its tenant is to have, in the version that new tenants get. One that
    /// has a template is left as it is: new versions are for rollouts.
    ///
    /// Errors: `unavailable` where it may pass by itself; otherwise the sentence names file, line and what is wrong.
    pub async fn provide(&self, home: &Home<'_>) -> Result<Vec<String>> {
        let tenant = home.tenant.id;
        let mut tx = home.db.begin_in(home.database).await?;
        let seen: Seen = tx.json(mark::READ, &[&stem(tenant)]).await?;
        if !seen.exists {
            return Err(Error::new(Kind::Unavailable, "the tenant has no schema yet"));
        }
        if let Some(mark) = seen.mark() {
            tx.commit().await?;
            self.note_version(tenant, &mark).await?;
            return Ok(Vec::new());
        }
        let Some((template, migrations)) = self.enlist(home.tenant).await? else {
            tx.commit().await?;
            return Ok(Vec::new());
        };
        let mark = Mark { template: template.name, version: template.released };
        let name = stem(tenant);
        let place = Place { schema: &name, role: &name };
        let body = script::body(place, (None, &mark), &migrations);
        let rules = Rules { lock_timeout_ms: 10_000, ..Rules::default() };
        run(&mut tx, &format!("{}{body}", script::limits(&rules)), &migrations).await?;
        tx.commit().await?;
        self.note_version(tenant, &mark).await?;
        Ok(vec![applied(&mark.template, mark.version)])
    }

    /// Looks at the schema and compares it with what its template makes; what is different is kept and shown, and not changed.
    pub async fn inspect(&self, home: &Home<'_>) -> Result<Inspection> {
        let name = stem(home.tenant.id);
        let mut tx = home.db.begin_in(home.database).await?;
        let seen: Seen = tx.json(mark::READ, &[&name]).await?;
        let Some(mark) = seen.mark() else {
            tx.commit().await?;
            let missing = self.template_for(home.tenant).await?.map(|template| template.name);
            return Ok(Inspection { missing, drift: Vec::new() });
        };
        let objects = Objects::read(&mut tx, &name, &name).await?;
        tx.commit().await?;
        let drift = match self.reference(home, &mark).await? {
            Some(reference) => objects.differences(&reference),
            None => {
                vec![format!("the schema is at version {} of {}, which is not registered", mark.version, mark.template)]
            }
        };
        self.note_drift(home.tenant.id, &mark, objects.hash(), &drift).await?;
        Ok(Inspection { missing: None, drift })
    }

    /// Empties a schema that has a template; `None` where it has none.
    pub async fn withdraw(&self, home: &Home<'_>) -> Result<Option<Emptied>> {
        let name = stem(home.tenant.id);
        let (schema, rules) = (quoted(&name), Rules::default());
        let mut tx = home.db.begin_in(home.database).await?;
        tx.execute(&format!(
            "{}SELECT pg_advisory_xact_lock(hashtextextended({}, 0))",
            script::limits(&rules),
            literal(&name)
        ))
        .await?;
        let seen: Seen = tx.json(mark::READ, &[&name]).await?;
        if seen.mark().is_none() {
            tx.commit().await?;
            self.forget(home.tenant.id).await?;
            return Ok(None);
        }
        let count = tx.json(COUNT, &[&name]).await?;
        let anew = format!(
            "DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}; GRANT USAGE, CREATE ON SCHEMA {schema} TO {schema}"
        );
        tx.execute(&anew).await?;
        tx.commit().await?;
        self.forget(home.tenant.id).await?;
        Ok(Some(count))
    }

    /// Whether the registry knows anything of the tenant's schema.
    pub async fn is_known(&self, tenant: TenantId) -> Result<bool> {
        Ok(self.state_of(tenant).await?.is_some())
    }

    /// Forgets what was known of a schema that is gone.
    pub async fn forget(&self, tenant: TenantId) -> Result<bool> {
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("templates")).await?;
        let was_known = store::forget(&tx, tenant).await?;
        tx.commit_unrecorded("what was seen of a schema that is gone").await?;
        Ok(was_known)
    }

    pub(super) async fn state_of(&self, tenant: TenantId) -> Result<Option<SchemaState>> {
        let tx = self.0.isolation.observe(tenant).await?;
        let state = store::state(&tx, tenant).await?;
        tx.end().await?;
        Ok(state)
    }

    async fn template_for(&self, tenant: &Tenant) -> Result<Option<Template>> {
        let tx = self.0.isolation.observe_platform().await?;
        let all = store::all(&tx).await?;
        tx.end().await?;
        let known = self.state_of(tenant.id).await?.map(|state| state.template);
        let found = match known {
            Some(name) => all.iter().find(|template| template.name == name),
            None => choose(&all, &tenant.plan),
        };
        Ok(found.cloned())
    }

    /// From here on no rollout that ends leaves the tenant out, so that what is read here is not too old afterwards.
    async fn enlist(&self, tenant: &Tenant) -> Result<Option<(Template, Vec<Migration>)>> {
        let Some(Template { name, .. }) = self.template_for(tenant).await? else { return Ok(None) };
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("templates")).await?;
        let template = store::share(&tx, &name).await?.ok_or_else(Error::not_found)?;
        store::enlist(&tx, tenant.id, &name, tx.stamp().at).await?;
        let migrations = store::migrations(&tx, &name, 1, template.released).await?;
        tx.commit_unrecorded("what is about to be seen").await?;
        Ok(Some((template, migrations)))
    }

    async fn note_version(&self, tenant: TenantId, mark: &Mark) -> Result<()> {
        let known = self.state_of(tenant).await?;
        if known.is_some_and(|known| known.template == mark.template && known.version == mark.version) {
            return Ok(());
        }
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("templates")).await?;
        let state = SchemaState { version: mark.version, ..store::nothing_seen(tenant, &mark.template, tx.stamp().at) };
        store::save_state(&tx, &state).await?;
        tx.commit_unrecorded("what was seen").await
    }

    async fn note_drift(&self, tenant: TenantId, mark: &Mark, hash: String, drift: &[String]) -> Result<()> {
        let tx = self.0.isolation.begin_operator(&OperatorScope::system("templates")).await?;
        if store::share(&tx, &mark.template).await?.is_none() {
            return tx.rollback().await;
        }
        let now = tx.stamp().at;
        let state = SchemaState {
            version: mark.version,
            schema_hash: Some(hash),
            drift: Sentences(drift.iter().take(100).cloned().collect()),
            verified_at: Some(now),
            ..store::nothing_seen(tenant, &mark.template, now)
        };
        store::save_state(&tx, &state).await?;
        tx.commit_unrecorded("what was seen").await
    }

    /// What the template makes, tried in a schema that is never committed, with the rights of the tenant's role; remembered.
    async fn reference(&self, home: &Home<'_>, mark: &Mark) -> Result<Option<Objects>> {
        let key = (mark.template.clone(), mark.version, home.server);
        if let Some(known) = self.0.references.get(&key) {
            return Ok(Some(known));
        }
        let tx = self.0.isolation.observe_platform().await?;
        let migrations = store::migrations(&tx, &mark.template, 1, mark.version).await?;
        tx.end().await?;
        if i32::try_from(migrations.len()).ok() != Some(mark.version) {
            return Ok(None);
        }
        let role = stem(home.tenant.id);
        // Of digits, so that PostgreSQL prints it without quotes, as it does the tenant's.
        let name = format!("tenantry_reference_{:016x}", u64::from_le_bytes(random::bytes()));
        let schema = quoted(&name);
        let mut tx = home.db.begin_in(home.database).await?;
        let make = format!("CREATE SCHEMA {schema}; GRANT USAGE, CREATE ON SCHEMA {schema} TO {}", quoted(&role));
        tx.execute(&make).await?;
        let script = script::trial(Place { schema: &name, role: &role }, &migrations);
        run(&mut tx, &format!("{}{script}", script::limits(&Rules::default())), &migrations).await?;
        tx.execute("SET LOCAL search_path = pg_catalog, pg_temp").await?;
        let objects = Objects::read(&mut tx, &name, &role).await?;
        tx.rollback().await?;
        self.0.references.insert(key, objects.clone());
        Ok(Some(objects))
    }
}

/// Runs a script, and tells in a sentence what of the migrations was refused.
async fn run(tx: &mut CellTx, script: &str, migrations: &[Migration]) -> Result<()> {
    let refusal = match tx.script(script).await {
        Ok(()) => return Ok(()),
        Err(ScriptFailure::Broken(error)) => return Err(error),
        Err(ScriptFailure::Refused(refusal)) => refusal,
    };
    let (kind, sentence) = match meaning(&refusal, migrations) {
        Meaning::OtherMark => {
            (Kind::Unavailable, "somebody else is at the tenant's schema; it is tried again".to_owned())
        }
        Meaning::Again(sentence) => (Kind::Unavailable, sentence),
        Meaning::Failed(sentence) => (Kind::Internal, sentence),
    };
    Err(Error::new(kind, sentence).because(refusal.cause))
}

fn applied(template: &str, version: i32) -> String {
    format!("apply template {template} up to version {version}")
}
