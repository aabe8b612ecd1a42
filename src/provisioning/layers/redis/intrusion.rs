//! What a tenant's Redis user tries on another tenant's keys and channels.

use redis::{Client, Cmd, aio::MultiplexedConnection, cmd};

use super::{super::super::ProbeTenant, RedisLayer, connected, failed};
use crate::{
    error::{Error, Result},
    isolation::Attempt,
};

/// What is tried; `A` is the intruder's stem, `B` the victim's. Nothing that would harm others if it were let through.
const ATTEMPTS: &[(&str, &str)] = &[
    ("read a key", "GET B:secret"),
    ("read what is beside its own keys", "GET Ax:secret"),
    ("write a key", "SET B:planted forged"),
    ("delete a key", "DEL B:secret"),
    ("rename a key", "RENAME B:secret A:taken"),
    ("copy a key", "COPY B:secret A:taken"),
    ("let a key expire", "PEXPIRE B:secret 1"),
    ("ask whether a key is there", "EXISTS B:secret"),
    ("ask what a key is", "TYPE B:secret"),
    ("publish to a channel", "PUBLISH B:news forged"),
    ("publish to everybody's channel", "PUBLISH tenantry-probe forged"),
    ("list keys", "SCAN 0 COUNT 1"),
    ("list keys by pattern", "KEYS B:*"),
    ("draw any key", "RANDOMKEY"),
    ("count all keys", "DBSIZE"),
    ("list channels", "PUBSUB CHANNELS"),
    ("list users", "ACL LIST"),
    ("set a user's rights", "ACL SETUSER B_b off"),
    ("read what was refused", "ACL LOG"),
    ("list clients", "CLIENT LIST"),
    ("read settings", "CONFIG GET maxmemory"),
    ("run a script", "EVAL return'1' 0"),
    ("change to another database", "SELECT 1"),
    // Last: a connection that listens does nothing else.
    ("listen to a channel", "SUBSCRIBE B:news"),
    ("listen to all channels", "PSUBSCRIBE *"),
];

impl RedisLayer {
    async fn as_tenant(&self, tenant: &ProbeTenant) -> Result<MultiplexedConnection> {
        let credential = tenant.credential("redis")?;
        let user =
            credential.details.get("user").ok_or_else(|| Error::internal("a credential of Redis names its user"))?;
        let known = self.client.get_connection_info();
        let settings = known.redis_settings().clone().set_username(user).set_password(credential.secret.expose());
        let client = Client::open(known.clone().set_redis_settings(settings)).map_err(failed)?;
        connected(&client).await
    }

    pub(super) async fn intrude(&self, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        let (a, b) = (intruder.site.names.stem(), victim.site.names.stem());
        let mut theirs = self.as_tenant(victim).await?;
        own(&mut theirs, b).await?;
        let mut db = self.as_tenant(intruder).await?;
        own(&mut db, a).await?;
        let mut attempts = Vec::with_capacity(ATTEMPTS.len() + 1);
        for (what, words) in ATTEMPTS {
            // A connection of its own for what changes what a connection is.
            if words.contains("SUBSCRIBE") || words.starts_with("SELECT") {
                db = self.as_tenant(intruder).await?;
            }
            attempts.push(attempt(&mut db, what, command(words, a, b)).await?);
        }
        let kept: Option<String> =
            cmd("GET").arg(format!("{b}:secret")).query_async(&mut theirs).await.map_err(failed)?;
        let what = "leave the other tenant's key as it was";
        attempts.push(if kept.as_deref() == Some(b) { Attempt::refused(what) } else { Attempt::let_through(what) });
        Ok(attempts)
    }
}

/// What a tenant does with what is its own: without that a refusal says nothing.
async fn own(db: &mut MultiplexedConnection, stem: &str) -> Result<()> {
    let key = format!("{stem}:secret");
    cmd("SET").arg(&key).arg(stem).exec_async(db).await.map_err(failed)?;
    let back: Option<String> = cmd("GET").arg(&key).query_async(db).await.map_err(failed)?;
    if back.as_deref() == Some(stem) {
        return Ok(());
    }
    Err(Error::new(crate::error::Kind::Unavailable, "Redis does not keep what a tenant writes"))
}

async fn attempt(db: &mut MultiplexedConnection, what: &str, command: Cmd) -> Result<Attempt> {
    let Err(error) = command.exec_async(db).await else { return Ok(Attempt::let_through(what)) };
    match error.code() {
        Some("NOPERM") => Ok(Attempt::refused(what)),
        Some(code) => Ok(Attempt::inconclusive(what, format!("Redis answers {code}"))),
        None => Err(failed(error)),
    }
}

fn command(words: &str, a: &str, b: &str) -> Cmd {
    let mut words = words.split(' ').map(|word| match word.split_at_checked(1) {
        Some(("A", rest)) if rest.starts_with([':', 'x']) => format!("{a}{rest}"),
        Some(("B", rest)) if rest.starts_with([':', '_']) => format!("{b}{rest}"),
        _ => word.to_owned(),
    });
    let mut command = cmd(&words.next().unwrap_or_default());
    for word in words {
        command.arg(word);
    }
    command
}
