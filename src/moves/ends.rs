//! Both ends of a move, and connections to them.

use serde::Deserialize;

use super::{Moves, beside, order::Move, source};
use crate::{
    cells::{literal, quoted},
    error::{Error, Kind, Result},
    platform::{
        db::{CellDb, CellSession},
        random,
        secret::Secret,
    },
    provisioning::{Provisioning, Site, scram_verifier},
};

/// Where the tenant is, and where it goes.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) source: Site,
    pub(super) target: Site,
    pub(super) source_db: CellDb,
    pub(super) target_db: CellDb,
    pub(super) source_database: String,
    pub(super) target_database: String,
    /// Of schema, role, and of what a move makes.
    pub(super) stem: String,
    pub(super) logins: [String; 2],
    /// The schema of its vectors, beside its own.
    pub(super) vectors: String,
    /// The schema of its graph.
    pub(super) graph: String,
    /// Schemas that a move would leave behind.
    pub(super) left: Vec<String>,
}

/// Operators of a graph's types are found, where nobody but the owner of their schema makes any.
const GRAPH_OPERATORS: &str = "
    SELECT set_config('search_path', 'pg_catalog, extensions, ag_catalog, pg_temp', false) FROM pg_namespace WHERE nspname = 'ag_catalog'
      AND NOT EXISTS (SELECT FROM aclexplode(nspacl) WHERE privilege_type = 'CREATE' AND grantee <> nspowner)";

/// Operators of extensions' types are found, and nothing of the tenant's; texts of both ends are alike, writes are on disk when they are
/// said to be, and nothing waits for ever.
const SETTINGS: &str = "
    SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET extra_float_digits = 3; SET bytea_output = 'hex';
    SET search_path = pg_catalog, extensions, pg_temp;
    SET timezone = 'UTC'; SET xmloption = 'content'; SET synchronous_commit = on; SET row_security = off;
    SET statement_timeout = 0; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = 0";

/// What must hold of the cells' PostgreSQLs.
const SOURCE_FACTS: &str = "
    select jsonb_build_object('walLevel', current_setting('wal_level'),
      'replicates', (select rolsuper or rolreplication from pg_roles where rolname = current_user),
      'room', current_setting('max_replication_slots')::int > (select count(*) from pg_replication_slots where slot_name <> $1),
      'server', case when has_function_privilege('pg_control_system()', 'EXECUTE')
        then (select system_identifier::text from pg_control_system())
        else concat(inet_server_addr(), ':', inet_server_port(), '/', pg_postmaster_start_time()) end)::text";
const TARGET_FACTS: &str = "
    select jsonb_build_object('replays', has_parameter_privilege('session_replication_role', 'SET'),
      'server', case when has_function_privilege('pg_control_system()', 'EXECUTE')
        then (select system_identifier::text from pg_control_system())
        else concat(inet_server_addr(), ':', inet_server_port(), '/', pg_postmaster_start_time()) end)::text";

/// What is there to be moved.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) tables: Vec<source::Table>,
    /// Extensions that it stands on.
    pub(super) uses: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SourceFacts {
    wal_level: String,
    replicates: bool,
    room: bool,
    server: String,
}

#[derive(Debug, Deserialize)]
struct TargetFacts {
    replays: bool,
    server: String,
}

impl Moves {
    pub(super) async fn ends(&self, order: &Move) -> Result<Ends> {
        let source = self.0.provisioning.site_at(order.tenant, order.source()).await?;
        let target = self.0.provisioning.site_at(order.tenant, order.target()).await?;
        Ok(Ends {
            source_db: self.0.cells.open(source.placed()?.1)?,
            target_db: self.0.cells.open(target.placed()?.1)?,
            source_database: order.source_database.clone(),
            target_database: order.target_database.clone(),
            stem: source.names.stem().to_owned(),
            logins: Provisioning::logins(order.tenant),
            vectors: source.names.vectors(),
            graph: source.names.graph(),
            left: self.0.provisioning.left_behind(order.tenant),
            source,
            target,
        })
    }

    /// Refuses what cannot be moved, naming what to change.
    pub(super) async fn check(&self, ends: &Ends) -> Result<Checked> {
        let checked = ends.check().await?;
        self.0.provisioning.check_can_be_at(&ends.target, &checked.uses).await?;
        Ok(checked)
    }
}

impl Ends {
    /// Of the slot, the publication and the schema of bookkeeping that a move has. It begins with the tenant's own name, so that whoever
    /// looks for what is left of the tenant finds it.
    pub(super) fn own(&self) -> String {
        format!("{}_move", self.stem)
    }

    /// The login at the target by which rows are written: it becomes the tenant's role and has no other right, so what of the tenant's own
    /// code is set off has the tenant's rights alone.
    pub(super) fn mover(&self) -> String {
        format!("{}_m", self.stem)
    }

    /// The schemas that `pg_dump` knows how to make.
    pub(super) fn own_schemas(&self) -> [&str; 2] {
        [&self.stem, &self.vectors]
    }

    /// Of the source's PostgreSQL.
    pub(super) fn version(&self) -> Result<i32> {
        Ok(self.source.placed()?.1.facts.version)
    }

    pub(super) async fn source_session(&self) -> Result<CellSession> {
        set_up(self.source_db.session(&self.source_database).await?).await
    }

    /// As the cell's login, in the database where the tenant comes to be.
    pub(super) async fn target_session(&self) -> Result<CellSession> {
        set_up(self.target_db.session(&self.target_database).await?).await
    }

    /// As the tenant's role at the target, with triggers and foreign keys at rest.
    pub(super) async fn mover_session(&self) -> Result<CellSession> {
        let (mover, role) = (self.mover(), quoted(&self.stem));
        let (name, database) = (quoted(&mover), quoted(&self.target_database));
        let password = Secret::new(random::token());
        let mut owner = self.target_session().await?;
        let connect = if self.target_database == self.stem {
            format!("GRANT CONNECT ON DATABASE {database} TO {name};")
        } else {
            String::new()
        };
        run(
            &mut owner,
            &format!(
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {0}) THEN
                   CREATE ROLE {name} LOGIN NOINHERIT NOCREATEDB NOCREATEROLE CONNECTION LIMIT 8; END IF;
                   IF NOT pg_has_role({0}, 'USAGE') THEN GRANT {name} TO CURRENT_USER; END IF; END $$;
                 ALTER ROLE {name} PASSWORD {1}; GRANT {role} TO {name}; {connect}
                 ALTER ROLE {name} IN DATABASE {database} SET role = {2};
                 ALTER ROLE {name} IN DATABASE {database} SET session_replication_role = 'replica'",
                literal(&mover),
                literal(&scram_verifier(password.expose())),
                literal(&self.stem),
            ),
        )
        .await?;
        set_up(self.target_db.session_as(&self.target_database, &mover, &password).await?).await
    }

    async fn check(&self) -> Result<Checked> {
        let mut session = self.source_session().await?;
        let facts: SourceFacts = session.json(SOURCE_FACTS, &[&self.own()]).await?;
        let mut beside = self.target_db.session(&self.target_db.address().database).await?;
        let target: TargetFacts = beside.json(TARGET_FACTS, &[]).await?;
        let problem = [
            (facts.wal_level != "logical", "the source's PostgreSQL has wal_level = ".to_owned() + &facts.wal_level + "; set it to logical and restart it"),
            (!facts.replicates, "the login of the source's cell may not replicate; alter role … replication".to_owned()),
            (!facts.room, "the source's PostgreSQL has no replication slot left; raise max_replication_slots".to_owned()),
            (!target.replays, "the login of the target's cell may not set session_replication_role; grant set on parameter session_replication_role to it".to_owned()),
            (facts.server == target.server, "source and target are on one PostgreSQL server; a move goes to another".to_owned()),
        ];
        if let Some((_, problem)) = problem.into_iter().find(|(is, _)| *is) {
            return Err(Error::invalid("cell", problem));
        }
        beside::check_nothing_is_left_behind(&mut session, &self.left).await?;
        let in_the_way = source::in_the_way(&mut session, self).await?;
        match in_the_way.first() {
            None => Ok(Checked {
                tables: source::tables(&mut session, self).await?,
                uses: beside::uses(&mut session, &self.source.names).await?,
            }),
            Some(first) => {
                let rule = format!("{first}; that cannot be moved");
                Err(Error::invalid("tenantId", rule).with(serde_json::json!({ "inTheWay": in_the_way })))
            }
        }
    }
}

async fn set_up(mut session: CellSession) -> Result<CellSession> {
    run(&mut session, &format!("{SETTINGS}; {GRAPH_OPERATORS}")).await?;
    Ok(session)
}

/// Statements of ours, in one round trip.
pub(super) async fn run(session: &mut CellSession, statements: &str) -> Result<()> {
    use crate::platform::db::ScriptFailure::{Broken, Refused};
    session.script(statements).await.map_err(|failure| match failure {
        Broken(error) => error,
        Refused(refusal) => {
            let rule = format!("the cell's PostgreSQL refused a statement with code {}", refusal.code);
            let is_passing = ["40", "53", "55", "57", "58"].iter().any(|class| refusal.code.starts_with(class));
            let kind = if is_passing { Kind::Unavailable } else { Kind::Internal };
            Error::new(kind, rule).because(refusal.cause)
        }
    })
}
