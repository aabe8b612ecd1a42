//! The tenant's roles on its PostgreSQL: one that has the rights and cannot log in, and two logins that become it, so that one
//! can be renewed while the other is in use. They are no members of anything else, and nobody is a member of them but the
//! cell's own login.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::SecondsFormat;
use serde::Deserialize;
use serde_json::{Map, json};

use super::{
    super::{
        Credential, Denials, Ensured, IssueOrder, Layer, Names, ProbeTenant, Probed, Removed, Site, Slot, Verdict,
        literal, quoted,
    },
    postgres::{Difference, alone, close_logins, db_of, denials, intrusion, mend, search_all, sentences, verifier},
};
use crate::{
    cells::Cells,
    config,
    error::Result,
    isolation::Attempt,
    platform::{db::CellTx, random, secret::Secret},
};

/// Values: the role, its two logins. Memberships are found by either side, each of which has an index; a join that may match by both reads
/// those of all tenants.
const OBSERVE: &str = "
    with own as (select oid from pg_roles where rolname in ($1, $2, $3)),
    membership as (
      select a.member, a.roleid, a.admin_option from own join pg_auth_members a on a.member = own.oid
      union all
      select a.member, a.roleid, a.admin_option from own join pg_auth_members a on a.roleid = own.oid
      where a.member <> (select oid from pg_roles where rolname = current_user)
    )
    select jsonb_build_object(
      'roles', (select coalesce(jsonb_agg(jsonb_build_object('name', rolname, 'login', rolcanlogin, 'inherit', rolinherit,
          'limit', rolconnlimit, 'attributes', array_remove(array[
            case when rolsuper then 'SUPERUSER' end, case when rolcreaterole then 'CREATEROLE' end, case when rolcreatedb then 'CREATEDB' end,
            case when rolreplication then 'REPLICATION' end, case when rolbypassrls then 'BYPASSRLS' end], null),
          'ours', pg_has_role(oid, 'USAGE'))), '[]') from pg_roles where rolname in ($1, $2, $3)),
      'memberships', (select coalesce(jsonb_agg(distinct jsonb_build_object(
          'member', pg_get_userbyid(member), 'of', pg_get_userbyid(roleid), 'admin', admin_option)), '[]') from membership)
    )::text";
const RESIDUE: &str =
    "select coalesce(jsonb_agg(thing), '[]')::text from (
      select 'role ' || rolname from pg_roles where starts_with(rolname, $1)
      union all select 'replication slot ' || slot_name from pg_replication_slots where starts_with(slot_name, $1)) as found (thing)";

#[derive(Debug)]
pub struct RoleLayer {
    cells: Cells,
    connections: i32,
}

#[derive(Debug, Default, Deserialize)]
struct Seen {
    roles: Vec<Role>,
    memberships: Vec<Membership>,
}

#[derive(Debug, Deserialize)]
struct Role {
    name: String,
    login: bool,
    inherit: bool,
    limit: i32,
    attributes: Vec<String>,
    /// Whether the cell's login has its rights: without them it could not drop what the role owns.
    ours: bool,
}

#[derive(Debug, Deserialize)]
struct Membership {
    member: String,
    of: String,
    admin: bool,
}

impl RoleLayer {
    pub fn new(cells: Cells, rules: &config::Provisioning) -> Self {
        Self { cells, connections: rules.tenant_connections }
    }

    async fn see(tx: &mut CellTx, names: &Names) -> Result<Seen> {
        tx.json(OBSERVE, &[names.stem(), &names.login(Slot::A), &names.login(Slot::B)]).await
    }

    /// What is to be done so that the roles are as they should be.
    fn differences(&self, seen: &Seen, names: &Names) -> Vec<Difference> {
        let (role, logins) = (names.stem().to_owned(), [names.login(Slot::A), names.login(Slot::B)]);
        let mut found = self.role_differences(seen, &role, false);
        for login in &logins {
            found.extend(self.role_differences(seen, login, true));
            if !seen.memberships.iter().any(|m| m.member == *login && m.of == role) {
                let statement = format!("GRANT {} TO {}", quoted(&role), quoted(login));
                found.push(Difference::mended_by(format!("let {login} become {role}"), statement));
            }
        }
        for membership in &seen.memberships {
            let Membership { member, of, admin } = membership;
            let intended = logins.contains(member) && *of == role && !admin;
            if !intended {
                let what = format!("end the membership of {member} in {of}");
                let again = if logins.contains(member) && *of == role {
                    format!("; GRANT {} TO {}", quoted(of), quoted(member))
                } else {
                    String::new()
                };
                let statement = format!("REVOKE {} FROM {}{again}", quoted(of), quoted(member));
                found.push(Difference::mended_by(what, statement));
            }
        }
        found
    }

    /// Only what differs is mentioned: a login that is no superuser may not so much as name some attributes.
    fn role_differences(&self, seen: &Seen, name: &str, login: bool) -> Vec<Difference> {
        let quoted_name = quoted(name);
        let ours = format!("GRANT {quoted_name} TO CURRENT_USER");
        let limit = if login { self.connections } else { -1 };
        let Some(role) = seen.roles.iter().find(|role| role.name == name) else {
            let kind = if login { "LOGIN" } else { "NOLOGIN" };
            let statement = format!(
                "CREATE ROLE {quoted_name} {kind} NOINHERIT NOCREATEDB NOCREATEROLE CONNECTION LIMIT {limit};
                 DO $$ BEGIN IF NOT pg_has_role({}, 'USAGE') THEN {ours}; END IF; END $$",
                literal(name)
            );
            let what = if login { "make login" } else { "make role" };
            return vec![Difference::mended_by(format!("{what} {name}"), statement)];
        };
        let mut wrong: Vec<_> = role.attributes.iter().map(|attribute| format!("NO{attribute}")).collect();
        if role.login != login {
            wrong.push(if login { "LOGIN" } else { "NOLOGIN" }.to_owned());
        }
        if role.inherit {
            wrong.push("NOINHERIT".to_owned());
        }
        if role.limit != limit {
            wrong.push(format!("CONNECTION LIMIT {limit}"));
        }
        let mut found = Vec::new();
        if !wrong.is_empty() {
            let attributes = wrong.join(" ");
            found.push(Difference::mended_by(
                format!("set {name} to {attributes}"),
                format!("ALTER ROLE {quoted_name} {attributes}"),
            ));
        }
        if !role.ours {
            found.push(Difference::mended_by(format!("let the cell's login have the rights of {name}"), ours));
        }
        found
    }
}

#[async_trait]
impl Layer for RoleLayer {
    fn name(&self) -> &'static str {
        "role"
    }

    async fn plan(&self, site: &Site) -> Result<Vec<String>> {
        if site.placement.is_none() {
            return Ok(sentences(&self.differences(&Seen::default(), &site.names)));
        }
        match self.verify(site).await? {
            Verdict::InPlace => Ok(Vec::new()),
            Verdict::Drifted(differences) | Verdict::Told(differences) => Ok(differences),
        }
    }

    async fn ensure(&self, site: &Site) -> Result<Ensured> {
        let mut tx = db_of(&self.cells, site)?.begin().await?;
        alone(&mut tx, &site.names).await?;
        let differences = self.differences(&Self::see(&mut tx, &site.names).await?, &site.names);
        mend(&mut tx, &differences).await?;
        tx.commit().await?;
        let mut facts = Map::new();
        facts.insert("role".to_owned(), json!(site.names.stem()));
        Ok(Ensured { changes: sentences(&differences), facts })
    }

    async fn verify(&self, site: &Site) -> Result<Verdict> {
        let mut tx = db_of(&self.cells, site)?.begin().await?;
        let seen = Self::see(&mut tx, &site.names).await?;
        tx.commit().await?;
        Ok(Verdict::of(sentences(&self.differences(&seen, &site.names))))
    }

    async fn remove(&self, site: &Site) -> Result<Removed> {
        if site.placement.is_none() {
            return Ok(Removed::default());
        }
        let db = db_of(&self.cells, site)?;
        close_logins(&db, &site.names).await?;
        let mut tx = db.begin().await?;
        alone(&mut tx, &site.names).await?;
        let seen = Self::see(&mut tx, &site.names).await?;
        // Logins first: they are members of the role.
        let mut there: Vec<_> = seen.roles.iter().map(|role| role.name.as_str()).collect();
        there.sort_unstable_by_key(|name| std::cmp::Reverse(name.len()));
        let drops: Vec<_> =
            there.iter().map(|name| format!("DROP OWNED BY {0}; DROP ROLE {0}", quoted(name))).collect();
        if !drops.is_empty() {
            tx.execute(&drops.join(";")).await?;
        }
        tx.commit().await?;
        Ok(Removed::of([("roles", there.len() as u64)]))
    }

    async fn residue(&self, site: &Site) -> Result<Vec<String>> {
        search_all(&self.cells, RESIDUE, site.names.stem()).await
    }

    fn probed(&self) -> Probed {
        Probed::InCells
    }

    async fn probe_isolation(&self, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        intrusion::by_role(&db_of(&self.cells, &intruder.site)?, intruder, victim).await
    }

    fn has_credentials(&self) -> bool {
        true
    }

    async fn issue(&self, site: &Site, order: &IssueOrder) -> Result<Option<Credential>> {
        let (placement, cell) = site.placed()?;
        let password = Secret::new(random::token());
        self.reinstate(site, order, &password).await?;
        let address = &cell.address.0;
        let details = [
            ("host", address.host.clone()),
            ("port", address.port.to_string()),
            ("database", placement.database_name.clone()),
            ("schema", site.names.stem().to_owned()),
            ("user", site.names.login(order.slot)),
        ];
        let details: BTreeMap<_, _> = details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Some(Credential { details, secret: password, valid_until: order.valid_until }))
    }

    async fn reinstate(&self, site: &Site, order: &IssueOrder, secret: &Secret) -> Result<()> {
        let until = order.valid_until.to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut tx = db_of(&self.cells, site)?.begin().await?;
        alone(&mut tx, &site.names).await?;
        tx.execute(&format!(
            "ALTER ROLE {} PASSWORD {} VALID UNTIL {}",
            quoted(&site.names.login(order.slot)),
            literal(&verifier(secret.expose())),
            literal(&until)
        ))
        .await?;
        tx.commit().await
    }

    /// From the logs of cells' servers, where those can be read.
    async fn denials(&self) -> Result<Vec<Denials>> {
        denials::read(&self.cells).await
    }
}
