//! The database of a tenant that has its own: enterprise and premium. Nobody may connect but its logins.

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, json};

use super::{
    super::{Ensured, Layer, Names, ProbeTenant, Probed, Removed, Site, Slot, Verdict, quoted},
    postgres::{Difference, alone, close_logins, database_exists, db_of, intrusion, mend, search_all, sentences},
};
use crate::{
    cells::Cells,
    error::{Error, Result},
    isolation::Attempt,
    platform::db::{CellDb, CellTx},
    tenancy::IsolationTier,
};

/// Values: the database.
const OBSERVE: &str = "
    select coalesce((select jsonb_build_object('ours', d.datdba = (select oid from pg_roles where rolname = current_user),
      'connects', d.datallowconn,
      'grants', (select coalesce(jsonb_agg(jsonb_build_object('to', coalesce(r.rolname, ''), 'what', g.privilege_type, 'option', g.is_grantable)), '[]')
        from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) g left join pg_roles r on r.oid = g.grantee where g.grantee <> d.datdba))
    from pg_database d where d.datname = $1), 'null')::text";
const RESIDUE: &str =
    "select coalesce(jsonb_agg('database ' || datname), '[]')::text from pg_database where datname = $1";
/// What goes with the database, counted in it.
const COUNT: &str = "
    select jsonb_build_object('tables', count(*) filter (where relkind in ('r', 'p')), 'others', count(*) filter (where relkind not in ('r', 'p', 'i', 'I', 't')))::text
    from pg_class where relnamespace not in (select oid from pg_namespace where nspname in ('pg_catalog', 'information_schema', 'pg_toast'))";

#[derive(Debug)]
pub struct DatabaseLayer {
    cells: Cells,
}

#[derive(Debug, Deserialize)]
struct Seen {
    ours: bool,
    connects: bool,
    grants: Vec<Grant>,
}

#[derive(Debug, Deserialize)]
struct Grant {
    /// Empty: PUBLIC.
    to: String,
    what: String,
    option: bool,
}

/// What of a dedicated database is in its own tables.
#[derive(Debug, Deserialize)]
struct Count {
    tables: u64,
    others: u64,
}

impl DatabaseLayer {
    pub fn new(cells: Cells) -> Self {
        Self { cells }
    }

    async fn see(tx: &mut CellTx, names: &Names) -> Result<Option<Seen>> {
        tx.json(OBSERVE, &[names.stem()]).await
    }

    /// PostgreSQL makes databases outside of transactions only, so another worker may come in between.
    async fn make(db: &CellDb, names: &Names) -> Result<bool> {
        let look = async || {
            let mut tx = db.begin().await?;
            let seen = Self::see(&mut tx, names).await?;
            tx.commit().await?;
            Ok::<_, Error>(seen.is_some())
        };
        if look().await? {
            return Ok(false);
        }
        match db.run(&format!("CREATE DATABASE {} TEMPLATE template0", quoted(names.stem()))).await {
            Ok(()) => Ok(true),
            Err(error) => {
                if look().await? {
                    Ok(false)
                } else {
                    Err(error)
                }
            }
        }
    }
}

fn differences(seen: Option<&Seen>, names: &Names) -> Vec<Difference> {
    let database = quoted(names.stem());
    let logins = [names.login(Slot::A), names.login(Slot::B)];
    let Some(seen) = seen else {
        return vec![Difference::for_a_person(format!("make database {}", names.stem()))];
    };
    let mut found = Vec::new();
    if !seen.ours {
        found.push(Difference::mended_by(
            "take the database back",
            format!("ALTER DATABASE {database} OWNER TO CURRENT_USER"),
        ));
    }
    if !seen.connects {
        found.push(Difference::mended_by(
            "let it be connected to",
            format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true"),
        ));
    }
    for grant in &seen.grants {
        let intended = logins.contains(&grant.to) && ["CONNECT", "TEMPORARY"].contains(&&*grant.what) && !grant.option;
        if !intended {
            let (who, role) = match grant.to.as_str() {
                "" => ("everybody".to_owned(), "PUBLIC".to_owned()),
                role => (role.to_owned(), quoted(role)),
            };
            let what = format!("take {} on the database from {who}", grant.what);
            found
                .push(Difference::mended_by(what, format!("REVOKE {} ON DATABASE {database} FROM {role}", grant.what)));
        }
    }
    for login in &logins {
        let has =
            |what: &str| seen.grants.iter().any(|grant| grant.to == *login && grant.what == what && !grant.option);
        if !has("CONNECT") || !has("TEMPORARY") {
            let statement = format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {}", quoted(login));
            found.push(Difference::mended_by(format!("let {login} connect"), statement));
        }
    }
    found
}

#[async_trait]
impl Layer for DatabaseLayer {
    fn name(&self) -> &'static str {
        "database"
    }

    fn serves(&self, tier: IsolationTier) -> bool {
        tier != IsolationTier::Standard
    }

    async fn plan(&self, site: &Site) -> Result<Vec<String>> {
        if site.placement.is_none() {
            return Ok(sentences(&differences(None, &site.names)));
        }
        match self.verify(site).await? {
            Verdict::InPlace => Ok(Vec::new()),
            Verdict::Drifted(differences) | Verdict::Told(differences) => Ok(differences),
        }
    }

    async fn ensure(&self, site: &Site) -> Result<Ensured> {
        let db = db_of(&self.cells, site)?;
        let mut changes = Vec::new();
        if Self::make(&db, &site.names).await? {
            changes.push(format!("made database {}", site.names.stem()));
        }
        let mut tx = db.begin().await?;
        alone(&mut tx, &site.names).await?;
        let found = differences(Self::see(&mut tx, &site.names).await?.as_ref(), &site.names);
        mend(&mut tx, &found).await?;
        tx.commit().await?;
        changes.extend(sentences(&found));
        let mut facts = Map::new();
        facts.insert("database".to_owned(), json!(site.names.stem()));
        Ok(Ensured { changes, facts })
    }

    async fn verify(&self, site: &Site) -> Result<Verdict> {
        let mut tx = db_of(&self.cells, site)?.begin().await?;
        let seen = Self::see(&mut tx, &site.names).await?;
        tx.commit().await?;
        Ok(Verdict::of(sentences(&differences(seen.as_ref(), &site.names))))
    }

    async fn remove(&self, site: &Site) -> Result<Removed> {
        if site.placement.is_none() {
            return Ok(Removed::default());
        }
        let db = db_of(&self.cells, site)?;
        let mut tx = db.begin().await?;
        let is_there = Self::see(&mut tx, &site.names).await?.is_some();
        tx.commit().await?;
        if !is_there {
            return Ok(Removed::default());
        }
        close_logins(&db, &site.names).await?;
        let count = count(&db, &site.names).await?;
        db.run(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(site.names.stem()))).await?;
        Ok(Removed::of([("databases", 1), ("tables", count.tables), ("other relations", count.others)]))
    }

    fn probed(&self) -> Probed {
        Probed::InCells
    }

    async fn probe_isolation(&self, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        intrusion::into_database(&db_of(&self.cells, &intruder.site)?, intruder, victim).await
    }

    async fn residue(&self, site: &Site) -> Result<Vec<String>> {
        search_all(&self.cells, RESIDUE, site.names.stem()).await
    }
}

/// Another worker may have dropped it a moment ago.
async fn count(db: &CellDb, names: &Names) -> Result<Count> {
    let counted = async {
        let mut tx = db.begin_in(names.stem()).await?;
        let count = tx.json(COUNT, &[]).await?;
        tx.commit().await?;
        Ok::<_, Error>(count)
    };
    match counted.await {
        Err(_) if !database_exists(db, names.stem()).await? => Ok(Count { tables: 0, others: 0 }),
        counted => counted,
    }
}
