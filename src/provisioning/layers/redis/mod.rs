//! The tenant's users on a shared Redis (7.0 or newer): two, so that one can be renewed while the other is in use, each limited
//! to keys and channels below the tenant's stem, and to commands that show nothing of others (Redis documentation, "ACL").
//!
//! Whether a user is as it should be is told by comparing it with a pattern: a user without access that has the same
//! commands. Redis shows them in words of its own, which differ by version.

mod intrusion;

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_lc_rs::digest;
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue as _, Pipeline, Value, aio::MultiplexedConnection, cmd, pipe,
};
use serde_json::{Map, json};

use super::super::{
    Credential, Denial, Denials, Ensured, IssueOrder, Layer, Names, Probe, ProbeTenant, Probed, Removed, Site, Slot,
    Verdict,
};
use crate::{
    config,
    error::{Error, Kind, Result},
    isolation::Attempt,
    platform::{ids::TenantId, random, secret::Secret},
};

/// Shuts the door to what other tenants are called or how many there are: KEYS, SCAN, RANDOMKEY, DBSIZE, PUBSUB, MONITOR, CLIENT LIST and
/// TRACKING are no part of it. No scripts and functions, which all share; one database alone, so that nothing is left in another.
const COMMANDS: &str = "-@all +@string +@hash +@list +@set +@sortedset +@stream +@bitmap +@hyperloglog +@geo +@transaction \
    +del +unlink +exists +expire +pexpire +expireat +pexpireat +persist +ttl +pttl +expiretime +pexpiretime +type +rename +renamenx +touch \
    +dump +object|encoding +object|idletime +publish +subscribe +psubscribe +unsubscribe +punsubscribe +spublish +ssubscribe +sunsubscribe \
    +ping +echo +auth +hello +quit +reset +client|id +client|setname +client|getname +command +acl|whoami -@dangerous -@admin";
const PATTERN: &str = "tenantry-pattern";
/// Keys that one round of a removal looks at.
const BATCH: usize = 1000;
const LONGEST_LOG: usize = 1000;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

#[derive(Debug)]
pub struct RedisLayer {
    client: Client,
    address: String,
}

/// What Redis says of a user; `None` where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    flags: Vec<String>,
    passwords: usize,
    commands: String,
    keys: String,
    channels: String,
    has_selectors: bool,
}

impl RedisLayer {
    /// Errors: `invalid_input` for an address that is none.
    pub fn new(settings: &config::Redis) -> Result<Self> {
        let refused = |rule: &'static str| Error::invalid("redis.url", rule);
        // Not the library's own words: they could show the password.
        let client = Client::open(settings.url.expose())
            .map_err(|_| refused("must be an address such as redis://user:password@host:6379"))?;
        if client.get_connection_info().redis_settings().db() != 0 {
            return Err(refused("must name database 0: tenants have no other"));
        }
        let address = match settings.address.as_str() {
            "" => client.get_connection_info().addr().to_string(),
            address => address.to_owned(),
        };
        Ok(Self { client, address })
    }

    /// A connection for one verb: nothing rests on what became of an earlier one.
    async fn connect(&self) -> Result<MultiplexedConnection> {
        connected(&self.client).await
    }

    async fn see(db: &mut MultiplexedConnection, names: &Names) -> Result<Vec<Option<Seen>>> {
        let mut ask = pipe();
        for user in [PATTERN.to_owned(), names.login(Slot::A), names.login(Slot::B)] {
            ask.cmd("ACL").arg("GETUSER").arg(user);
        }
        let answers: Vec<Value> = ask.query_async(db).await.map_err(failed)?;
        answers.into_iter().map(seen).collect()
    }

    async fn look(&self, names: &Names) -> Result<Vec<String>> {
        let seen = Self::see(&mut self.connect().await?, names).await?;
        Ok(differences(&seen, names).into_iter().map(|(_, what)| what).collect())
    }

    /// Where Redis keeps its users in a file, they are to outlive its restart.
    async fn save(db: &mut MultiplexedConnection) -> Result<()> {
        match cmd("ACL").arg("SAVE").exec_async(db).await {
            Err(error) if error.to_string().contains("not configured to use an ACL file") => Ok(()),
            saved => saved.map_err(failed),
        }
    }

    /// One password alone opens the slot from now on, and whoever came with another is sent away.
    async fn set_password(&self, user: &str, password: Option<&Secret>) -> Result<()> {
        let mut db = self.connect().await?;
        let mut set = cmd("ACL");
        set.arg("SETUSER").arg(user).arg("resetpass");
        if let Some(password) = password {
            // Its hash: the password itself is in no log of Redis.
            let hash = digest::digest(&digest::SHA256, password.expose().as_bytes());
            set.arg(format!("#{}", hex(hash.as_ref())));
        }
        let mut change = pipe();
        change.atomic().add_command(set).cmd("CLIENT").arg("KILL").arg("USER").arg(user);
        change.exec_async(&mut db).await.map_err(failed)?;
        Self::save(&mut db).await
    }

    /// Keys are counted as they go; none comes after them, for the users went before.
    async fn remove_keys(db: &mut MultiplexedConnection, stem: &str) -> Result<u64> {
        let (mut cursor, mut gone) = (0_u64, 0);
        loop {
            let (next, keys): (u64, Vec<Vec<u8>>) = scan(cursor, stem).query_async(db).await.map_err(failed)?;
            if !keys.is_empty() {
                gone += cmd("UNLINK").arg(keys).query_async::<u64>(db).await.map_err(failed)?;
            }
            cursor = next;
            if cursor == 0 {
                return Ok(gone);
            }
        }
    }
}

async fn connected(client: &Client) -> Result<MultiplexedConnection> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)
}

fn scan(cursor: u64, stem: &str) -> Cmd {
    let mut scan = cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(format!("{stem}:*")).arg("COUNT").arg(BATCH);
    scan
}

/// Users of theirs that are not as they should be, and what is to be done.
fn differences(seen: &[Option<Seen>], names: &Names) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let pattern = seen.first().cloned().flatten();
    if pattern.is_none() {
        found.push((PATTERN.to_owned(), "make the user that others are compared with".to_owned()));
    }
    for (slot, user) in [Slot::A, Slot::B].into_iter().zip(seen.iter().skip(1)) {
        let name = names.login(slot);
        match user {
            None => found.push((name.clone(), format!("make user {name}"))),
            Some(user) if !user.is_as(pattern.as_ref(), names.stem()) => {
                found.push((name.clone(), format!("set the rights of user {name} back")));
            }
            Some(_) => {}
        }
    }
    found
}

impl Seen {
    fn is_as(&self, pattern: Option<&Self>, stem: &str) -> bool {
        let has = |flag: &str| self.flags.iter().any(|one| one == flag);
        has("on")
            && !has("nopass")
            && self.passwords <= 1
            && self.keys == format!("~{stem}:*")
            && self.channels == format!("&{stem}:*")
            && !self.has_selectors
            && pattern.is_none_or(|pattern| pattern.commands == self.commands)
    }
}

/// Whatever it was before, passwords included.
fn make(into: &mut Pipeline, user: &str, stem: Option<&str>) {
    into.cmd("ACL").arg("SETUSER").arg(user).arg("reset");
    if let Some(stem) = stem {
        into.arg("on").arg(format!("~{stem}:*")).arg(format!("&{stem}:*"));
    }
    into.arg(COMMANDS.split_whitespace().collect::<Vec<_>>());
}

fn seen(answer: Value) -> Result<Option<Seen>> {
    if answer == Value::Nil {
        return Ok(None);
    }
    let unreadable = |_| Error::internal("Redis describes a user in words that are not known");
    let members: BTreeMap<String, Value> = BTreeMap::from_redis_value(answer).map_err(unreadable)?;
    let texts = |name: &str| Vec::<String>::from_redis_value(members.get(name).cloned().unwrap_or_default());
    let text = |name: &str| String::from_redis_value(members.get(name).cloned().unwrap_or_default());
    let selectors = Vec::<Value>::from_redis_value(members.get("selectors").cloned().unwrap_or_default());
    Ok(Some(Seen {
        flags: texts("flags").map_err(unreadable)?,
        passwords: texts("passwords").map_err(unreadable)?.len(),
        commands: text("commands").map_err(unreadable)?,
        keys: text("keys").map_err(unreadable)?,
        channels: text("channels").map_err(unreadable)?,
        has_selectors: !selectors.map_err(unreadable)?.is_empty(),
    }))
}

fn failed(error: redis::RedisError) -> Error {
    let passing = error.is_io_error() || error.is_timeout() || error.is_connection_dropped();
    let sentence = match error.code() {
        _ if passing => "Redis cannot be reached".to_owned(),
        // A word of the protocol, never a sentence of the server.
        Some(code) => format!("Redis refuses what Tenantry asks ({code}); look at the rights of redis.url's user"),
        None => "Redis cannot be used".to_owned(),
    };
    Error::new(Kind::Unavailable, sentence).because(error)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One line of ACL LOG; none where it is not about a tenant's user.
fn denial(entry: &BTreeMap<String, Value>) -> Option<Denial> {
    let text = |name: &str| String::from_redis_value(entry.get(name).cloned().unwrap_or_default()).ok();
    let client = text("client-info").unwrap_or_default();
    let part = |name: &str| client.split(' ').find_map(|part| part.strip_prefix(name)).unwrap_or_default();
    let named = text("username")?;
    // Who guesses at another's password may have come in with a credential of its own.
    let (tenant, user) = tenants_user(part("user=")).or_else(|| tenants_user(&named))?;
    let object = text("object").unwrap_or_default();
    let (what, other) = match text("reason")?.as_str() {
        "command" => (format!("command {object}"), None),
        "key" => ("a key that is not its own".to_owned(), Names::owner(&object)),
        "channel" => ("a channel that is not its own".to_owned(), Names::owner(&object)),
        "auth" => ("a wrong password".to_owned(), Names::owner(&named)),
        _ => return None,
    };
    let times = entry.get("count").cloned().and_then(|count| u64::from_redis_value(count).ok()).unwrap_or(1);
    let other = other.filter(|other| *other != tenant);
    Some(Denial { tenant, user, what, other, from: part("addr=").to_owned(), times })
}

/// Whose user this is. Of one that is merely called like a tenant's nothing is made up.
fn tenants_user(name: &str) -> Option<(TenantId, String)> {
    let tenant = Names::owner(name)?;
    let names = Names::of(tenant);
    [Slot::A, Slot::B]
        .into_iter()
        .map(|slot| names.login(slot))
        .find(|login| login == name)
        .map(|login| (tenant, login))
}

#[async_trait]
impl Layer for RedisLayer {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn plan(&self, site: &Site) -> Result<Vec<String>> {
        self.look(&site.names).await
    }

    async fn ensure(&self, site: &Site) -> Result<Ensured> {
        let mut db = self.connect().await?;
        // All tenants' users are compared with the pattern: it is set, whatever it was, before it is looked at.
        let mut pattern = pipe();
        make(&mut pattern, PATTERN, None);
        pattern.exec_async(&mut db).await.map_err(failed)?;
        let differences = differences(&Self::see(&mut db, &site.names).await?, &site.names);
        if !differences.is_empty() {
            let mut change = pipe();
            for (user, _) in &differences {
                make(&mut change, user, Some(site.names.stem()));
            }
            change.atomic().exec_async(&mut db).await.map_err(failed)?;
        }
        Self::save(&mut db).await?;
        let mut facts = Map::new();
        facts.insert("prefix".to_owned(), json!(format!("{}:", site.names.stem())));
        Ok(Ensured { changes: differences.into_iter().map(|(_, what)| what).collect(), facts })
    }

    async fn verify(&self, site: &Site) -> Result<Verdict> {
        Ok(Verdict::of(self.look(&site.names).await?))
    }

    async fn remove(&self, site: &Site) -> Result<Removed> {
        let mut db = self.connect().await?;
        let logins = [site.names.login(Slot::A), site.names.login(Slot::B)];
        let users: u64 = cmd("ACL").arg("DELUSER").arg(&logins).query_async(&mut db).await.map_err(failed)?;
        Self::save(&mut db).await?;
        let keys = Self::remove_keys(&mut db, site.names.stem()).await?;
        Ok(Removed::of([("users", users), ("keys", keys)]))
    }

    async fn residue(&self, site: &Site) -> Result<Vec<String>> {
        let mut db = self.connect().await?;
        let users: Vec<String> = cmd("ACL").arg("USERS").query_async(&mut db).await.map_err(failed)?;
        let own = users.into_iter().filter(|user| Names::owner(user) == Some(site.tenant.id));
        let mut found: Vec<_> = own.map(|user| format!("user {user}")).collect();
        let (mut cursor, mut keys) = (0, 0);
        loop {
            let (next, some): (u64, Vec<Vec<u8>>) =
                scan(cursor, site.names.stem()).query_async(&mut db).await.map_err(failed)?;
            (cursor, keys) = (next, keys + some.len());
            if cursor == 0 {
                break;
            }
        }
        found.extend((keys > 0).then(|| format!("{keys} keys")));
        Ok(found)
    }

    fn probed(&self) -> Probed {
        Probed::ByItself
    }

    async fn probe_isolation(&self, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        self.intrude(intruder, victim).await
    }

    fn has_credentials(&self) -> bool {
        true
    }

    async fn issue(&self, site: &Site, order: &IssueOrder) -> Result<Option<Credential>> {
        let (user, secret) = (site.names.login(order.slot), Secret::new(random::token()));
        self.set_password(&user, Some(&secret)).await?;
        let details = [
            ("address", self.address.clone()),
            ("user", user),
            ("keyPrefix", format!("{}:", site.names.stem())),
            ("channelPrefix", format!("{}:", site.names.stem())),
        ];
        let details = details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Some(Credential { details, secret, valid_until: order.valid_until }))
    }

    async fn reinstate(&self, site: &Site, order: &IssueOrder, secret: &Secret) -> Result<()> {
        self.set_password(&site.names.login(order.slot), Some(secret)).await
    }

    async fn retire(&self, site: &Site, slot: Slot) -> Result<()> {
        // A user that somebody deleted is made anew, without a password, by the next verification.
        let seen = Self::see(&mut self.connect().await?, &site.names).await?;
        let index = if slot == Slot::A { 1 } else { 2 };
        if seen.get(index).is_none_or(Option::is_none) {
            return Ok(());
        }
        self.set_password(&site.names.login(slot), None).await
    }

    async fn probe(&self) -> Result<Probe> {
        let mut db = self.connect().await?;
        let told: String = cmd("INFO").arg("server").query_async(&mut db).await.map_err(failed)?;
        let mark = told.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default();
        Ok(Probe::Alive { mark: mark.trim().to_owned() })
    }

    /// The oldest first. Redis adds equal refusals up, and forgets the oldest beyond `acllog-max-len`. They are taken out of its log as they are
    /// read, so each is told once, by whichever replica comes first; who dies before they are journaled takes them along. Numbers by
    /// which they could be told apart without that are Redis 7.2's.
    async fn denials(&self) -> Result<Vec<Denials>> {
        let mut db = self.connect().await?;
        let mut take = pipe();
        take.atomic().cmd("ACL").arg("LOG").arg(LONGEST_LOG).cmd("ACL").arg("LOG").arg("RESET").ignore();
        let (entries,): (Vec<BTreeMap<String, Value>>,) = take.query_async(&mut db).await.map_err(failed)?;
        Ok(vec![Denials { told: entries.iter().rev().filter_map(denial).collect(), step: None }])
    }
}
