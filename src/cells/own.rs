//! The first cell: a database beside the registry's, so that nothing has to be set up.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;

use super::{Cell, CellHealth, CellNews, CellState, Cells, cell::Address, names::quoted, probe::Probe, purpose, store};
use crate::{
    error::{Error, Result},
    isolation::OperatorScope,
    journal::Entry,
    platform::{
        db::{CellDb, CellLimits, Place},
        ids::{CellId, TenantId},
        secret::Secret,
    },
    tenancy::IsolationTier,
};

const NAME: &str = "own";

impl Cells {
    /// Makes the first cell where there is none, and follows it where its server has moved. Does nothing without the owner's address.
    pub async fn ensure_own(&self, place: &Place, region: &str) -> Result<()> {
        let Some(owner) = place.owner_url.as_ref().filter(|_| self.rules.own) else { return Ok(()) };
        let region = self.region.as_deref().unwrap_or(region);
        let registry = CellDb::connect(owner, CellLimits { connections: 1, ..self.pools.limits() })?;
        let database = format!("{}_cell", registry.address().database);
        keep_out(&registry, &place.login).await?;
        make_database(&registry, &database).await?;
        registry.close().await;
        let url = beside(owner, &database)?;
        let db = CellDb::connect(&url, CellLimits { connections: 1, ..self.pools.limits() })?;
        let probe = Probe::of(&db).await?;
        probe.check(region, IsolationTier::Standard)?;
        probe.prepare(&db, region).await?;
        let address = Address(db.address());
        db.close().await;
        self.keep_own(region, &url, address, &probe).await
    }

    async fn keep_own(&self, region: &str, url: &Secret, address: Address, probe: &Probe) -> Result<()> {
        let tx = self.isolation.begin_operator(&OperatorScope::system("start-up")).await?;
        tx.row("select pg_advisory_xact_lock(hashtextextended('tenantry.cells.own', 0))::text", []).await?;
        let known = store::all(&tx).await?.into_iter().find(|cell| cell.is_own);
        let now = tx.stamp().at;
        let seal = |id: CellId| self.master.seal(&purpose(id), url.expose().as_bytes());
        let entry = match known {
            Some(known) if known.address == address && known.facts == probe.facts() && self.opens(&known, url) => {
                return tx.commit_unrecorded("nothing to do").await;
            }
            Some(known) => {
                let cell = Cell { sealed_url: seal(known.id), address, facts: probe.facts(), ..known.clone() };
                store::relocate(&tx, &cell, &probe.identity, now).await?;
                self.tell(&tx, CellNews::Address(&cell)).await?;
                Entry::new("CellRelocated", "cell", known.id).change(Some(&known.record()), Some(&cell.record()))?
            }
            None => {
                let id = CellId::generate();
                let cell = Cell {
                    id,
                    name: NAME.to_owned(),
                    region: region.to_owned(),
                    tier: IsolationTier::Standard,
                    capacity: self.rules.own_capacity,
                    placed: 0,
                    reserved_for: None,
                    state: CellState::Active,
                    sealed_url: seal(id),
                    address,
                    facts: probe.facts(),
                    health: CellHealth::Healthy,
                    health_reason: String::new(),
                    health_since: now,
                    is_own: true,
                    version: 1,
                    created_at: now,
                    updated_at: now,
                };
                store::insert(&tx, &cell, &probe.identity).await?;
                self.tell(&tx, CellNews::Room).await?;
                Entry::new("CellRegistered", "cell", id).change(None, Some(&cell.record()))?
            }
        };
        tx.commit([entry]).await?;
        self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        Ok(())
    }

    pub(super) fn opens(&self, cell: &Cell, url: &Secret) -> bool {
        let opened = self.master.unseal(&purpose(cell.id), &cell.sealed_url);
        opened.is_ok_and(|known| known.as_slice() == url.expose().as_bytes())
    }
}

/// The registry's database is for the server's login alone. Where another role owns it, that is the owner's to do.
async fn keep_out(registry: &CellDb, login: &str) -> Result<()> {
    let owns: bool = {
        let mut tx = registry.begin().await?;
        let owns = tx
            .json(
                "select to_jsonb(pg_has_role(datdba, 'USAGE'))::text from pg_database where datname = current_database()",
                &[],
            )
            .await?;
        tx.commit().await?;
        owns
    };
    if !owns {
        tracing::warn!(
            "tenants' logins can connect to the registry's database, where they see nothing; its owner should revoke connect from public"
        );
        return Ok(());
    }
    let (database, login) = (quoted(&registry.address().database), quoted(login));
    let mut tx = registry.begin().await?;
    tx.execute("SELECT pg_advisory_xact_lock(7310579703012353)").await?;
    tx.execute(&format!(
        "GRANT CONNECT ON DATABASE {database} TO {login}; REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC"
    ))
    .await?;
    tx.commit().await
}

/// Another replica may be faster.
async fn make_database(registry: &CellDb, database: &str) -> Result<()> {
    if exists(registry, database).await? {
        return Ok(());
    }
    match registry.run(&format!("CREATE DATABASE {} TEMPLATE template0", quoted(database))).await {
        Err(error) if !exists(registry, database).await? => Err(error),
        _ => Ok(()),
    }
}

async fn exists(db: &CellDb, database: &str) -> Result<bool> {
    let mut tx = db.begin().await?;
    let query = "select to_jsonb(exists (select from pg_database where datname = $1))::text";
    let found = tx.json(query, &[database]).await?;
    tx.commit().await?;
    Ok(found)
}

/// The same address with another database in it.
fn beside(url: &Secret, database: &str) -> Result<Secret> {
    let options = PgConnectOptions::from_str(url.expose()).map_err(Error::internal)?;
    let text = url.expose();
    let (address, query) = text.split_once('?').map_or((text, None), |(address, query)| (address, Some(query)));
    let (scheme, rest) = address.split_once("://").ok_or_else(|| Error::internal("an address has a scheme"))?;
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let kept =
        query.map(|query| query.split('&').filter(|pair| !pair.starts_with("dbname=")).collect::<Vec<_>>().join("&"));
    let tail = kept.filter(|kept| !kept.is_empty()).map(|kept| format!("?{kept}")).unwrap_or_default();
    let made = format!("{scheme}://{authority}/{database}{tail}");
    let back = PgConnectOptions::from_str(&made).map_err(Error::internal)?;
    if back.get_username() == options.get_username() && back.get_database() == Some(database) {
        Ok(Secret::new(made))
    } else {
        Err(Error::invalid("database.owner_url", "has a form from which the first cell's address cannot be made"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_database_beside_keeps_everything_else() {
        for (url, expected) in [
            ("postgres:///t1?host=%2Ftmp%2Fx&user=postgres", "postgres:///t1_cell?host=%2Ftmp%2Fx&user=postgres"),
            ("postgres://u:p%40@db:5433/t1", "postgres://u:p%40@db:5433/t1_cell"),
            ("postgresql://u@db/t1?sslmode=require&dbname=t1", "postgresql://u@db/t1_cell?sslmode=require"),
        ] {
            assert_eq!(beside(&Secret::new(url), "t1_cell").unwrap().expose(), expected);
        }
    }
}
