//! The tenant's account on NATS with JetStream, and its stream: subjects below the tenant's stem.
//!
//! Accounts share nothing: what one publishes another can neither hear nor name. Tenantry holds the operator's seed and tells servers of
//! accounts over their system account; a tenant's key pair is derived from both, so that nothing has to be kept, and a
//! server that has lost everything is filled again with what opens as before.

mod claims;
mod intrusion;
mod line;

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream::{
    self,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};
use async_trait::async_trait;
use aws_lc_rs::hmac;
use futures::TryStreamExt as _;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Map, Value, json};

use self::{
    claims::Claim,
    line::{Line, failed},
};
use super::super::{Credential, Ensured, IssueOrder, Layer, Names, Probe, ProbeTenant, Probed, Removed, Site, Verdict};
use crate::{
    config,
    error::{Context as _, Result},
    isolation::Attempt,
    platform::{clock::Clock, ids::TenantId, secret::Secret},
};

/// JetStream's "stream not found".
const NO_STREAM: jetstream::ErrorCode = jetstream::ErrorCode::STREAM_NOT_FOUND;
/// How much later another server of a cluster may answer than the first.
const OTHER_SERVERS: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct NatsLayer {
    rules: config::Nats,
    operator: KeyPair,
    system: KeyPair,
    clock: Clock,
}

impl NatsLayer {
    /// Errors: `invalid_input` for seeds that are none.
    pub fn new(rules: &config::Nats, clock: &Clock) -> Result<Self> {
        let operator = claims::seed(&rules.operator_seed, "nats.operator_seed", 'O')?;
        let system = claims::seed(&rules.system_seed, "nats.system_seed", 'A')?;
        Ok(Self { rules: rules.clone(), operator, system, clock: clock.clone() })
    }

    /// What a server has to be told (`nats-server -c`) to trust the operator, besides where it listens and stores.
    pub fn server_settings(&self) -> Result<String> {
        let (operator, system) = (self.operator.public_key(), self.system.public_key());
        let now = self.clock.now();
        let trusted = Claim { subject: &operator, name: "tenantry", expires: None, body: claims::operator(&system) };
        let own = Claim { subject: &system, name: "SYS", expires: None, body: claims::system() };
        Ok(format!(
            "operator: {}\nsystem_account: {system}\nresolver_preload: {{ {system}: {} }}\n",
            trusted.signed_by(&self.operator, now)?,
            own.signed_by(&self.operator, now)?
        ))
    }

    fn account(&self, tenant: TenantId) -> Result<KeyPair> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.rules.operator_seed.expose().trim().as_bytes());
        let derived = hmac::sign(&key, format!("tenantry account {tenant}").as_bytes());
        let raw = derived.as_ref().try_into().context("derive a key pair")?;
        KeyPair::new_from_raw(KeyPairType::Account, raw).context("derive a key pair")
    }

    /// All rights within the tenant's account, for who has to look after it by hand: the file of credentials of a new user.
    pub fn keeper_credentials(&self, tenant: TenantId) -> Result<Secret> {
        self.keeper(&self.account(tenant)?)
    }

    /// It has no end, for servers' clocks may differ; but it is kept nowhere.
    fn keeper(&self, account: &KeyPair) -> Result<Secret> {
        let user = claims::fresh_user()?;
        let own = user.public_key();
        let claim = Claim { subject: &own, name: "tenantry", expires: None, body: claims::keeper() };
        claims::credentials_file(&claim.signed_by(account, self.clock.now())?, &user)
    }

    /// A connection within the account, as a user that exists for it alone.
    async fn connect(&self, account: &KeyPair) -> Result<Line> {
        let line = Line::open(&self.rules.url, &self.keeper(account)?).await?;
        line.ok_or_else(|| failed("NATS refuses Tenantry; look at nats.operator_seed and at what the server trusts"))
    }

    /// What the servers know of the account; `None` where they know nothing. Asked for one that they do not know they are
    /// silent; but they let nobody into it.
    async fn known(&self, system: &Line, account: &KeyPair) -> Result<Option<Value>> {
        if Line::open(&self.rules.url, &self.keeper(account)?).await?.is_none() {
            return Ok(None);
        }
        Ok(claims::read(&system.ask(lookup(account), String::new()).await?))
    }

    /// The same for whoever makes the account where it seems not to be known, which does no harm where it is: a server takes two seconds to let
    /// nobody into an account that it does not know, as it asks other servers first. It answers in order, so what is asked
    /// behind this says when it has been silent.
    async fn seems_known(&self, system: &Line, account: &KeyPair) -> Result<Option<Value>> {
        let mut asked = std::pin::pin!(system.ask(lookup(account), String::new()));
        let behind = std::pin::pin!(system.ask(lookup(&self.system), String::new()));
        tokio::select! {
            biased;
            answer = &mut asked => return Ok(claims::read(&answer?)),
            behind = behind => behind?,
        };
        match tokio::time::timeout(OTHER_SERVERS, asked).await {
            Ok(answer) => Ok(claims::read(&answer?)),
            Err(_) => Ok(None),
        }
    }

    async fn tell(system: &Line, subject: &str, token: String) -> Result<()> {
        let answer = system.ask(subject.to_owned(), token).await?;
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        if answer["data"]["code"] == 200 {
            return Ok(());
        }
        let cause = answer["error"]["description"].as_str().unwrap_or_default().to_owned();
        Err(failed("NATS refuses an account; look at nats.operator_seed and at the server's resolver").because(cause))
    }

    async fn tell_account(&self, system: &Line, names: &Names, account: &KeyPair) -> Result<()> {
        let own = account.public_key();
        let body = claims::account(&self.rules);
        let claim = Claim { subject: &own, name: names.stem(), expires: None, body };
        Self::tell(system, "$SYS.REQ.CLAIMS.UPDATE", claim.signed_by(&self.operator, self.clock.now())?).await
    }

    async fn delete_account(&self, system: &Line, account: &KeyPair) -> Result<()> {
        let operator = self.operator.public_key();
        let body = claims::deletion(&[account.public_key()]);
        let claim = Claim { subject: &operator, name: "tenantry", expires: None, body };
        Self::tell(system, "$SYS.REQ.CLAIMS.DELETE", claim.signed_by(&self.operator, self.clock.now())?).await
    }

    fn differs(&self, known: Option<&Value>, names: &Names) -> Option<String> {
        let Some(known) = known else { return Some(format!("make account {}", names.stem())) };
        let wanted = claims::account(&self.rules);
        // The server keeps what it was told, word for word.
        let same = known["nats"] == wanted && known["name"] == names.stem();
        (!same).then(|| format!("set the limits of account {} back", names.stem()))
    }

    /// What the stream is to be, whatever else a version of the server says of it.
    fn stream(&self, names: &Names, known: Config) -> Config {
        Config {
            name: names.stem().to_owned(),
            subjects: vec![format!("{}.>", names.stem())],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            max_bytes: self.rules.stream_bytes,
            max_age: self.rules.stream_age,
            num_replicas: usize::try_from(self.rules.replicas).unwrap_or(1),
            no_ack: false,
            deny_delete: false,
            deny_purge: false,
            republish: None,
            mirror: None,
            sources: None,
            ..known
        }
    }

    async fn find_stream(line: &Line, names: &Names) -> Result<Option<Config>> {
        let api = line.jetstream();
        match line.within(api.get_stream(names.stem())).await? {
            Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
            Err(error) => match error.kind() {
                jetstream::context::GetStreamErrorKind::JetStream(error) if error.error_code() == NO_STREAM => Ok(None),
                _ => Err(failed("JetStream does not answer").because(error)),
            },
        }
    }

    async fn look(&self, names: &Names) -> Result<Vec<String>> {
        let account = self.account(names.tenant())?;
        let known = self.known(&self.connect(&self.system).await?, &account).await?;
        let mut found: Vec<_> = self.differs(known.as_ref(), names).into_iter().collect();
        if known.is_none() {
            found.push(format!("make stream {}", names.stem()));
            return Ok(found);
        }
        match Self::find_stream(&self.connect(&account).await?, names).await? {
            None => found.push(format!("make stream {}", names.stem())),
            Some(known) if self.stream(names, known.clone()) != known => {
                found.push(format!("set stream {} back", names.stem()));
            }
            Some(_) => {}
        }
        Ok(found)
    }

    async fn ensure_stream(&self, line: &Line, names: &Names) -> Result<Option<String>> {
        let api = line.jetstream();
        let refused = |cause: String| failed("JetStream refuses the stream; look at its limits").because(cause);
        match Self::find_stream(line, names).await? {
            None => {
                let wanted = self.stream(names, Config::default());
                line.within(api.create_stream(wanted)).await?.map_err(|error| refused(error.to_string()))?;
                Ok(Some(format!("make stream {}", names.stem())))
            }
            Some(known) => {
                let wanted = self.stream(names, known.clone());
                if wanted == known {
                    return Ok(None);
                }
                line.within(api.update_stream(&wanted)).await?.map_err(|error| refused(error.to_string()))?;
                Ok(Some(format!("set stream {} back", names.stem())))
            }
        }
    }

    /// All streams of the account, whoever made them, and how many messages were in them.
    async fn remove_streams(line: &Line) -> Result<(u64, u64)> {
        let api = line.jetstream();
        let broken = |cause: String| failed("JetStream does not answer").because(cause);
        let streams: Vec<_> =
            line.within(api.streams().try_collect()).await?.map_err(|error| broken(error.to_string()))?;
        let (mut gone, mut messages) = (0, 0);
        for stream in streams {
            match line.within(api.delete_stream(&stream.config.name)).await? {
                Ok(_) => (gone, messages) = (gone + 1, messages + stream.state.messages),
                // Another worker was faster.
                Err(error) if matches!(error.kind(), jetstream::context::DeleteStreamErrorKind::JetStream(ref error) if error.error_code() == NO_STREAM) =>
                    {}
                Err(error) => return Err(broken(error.to_string())),
            }
        }
        Ok((gone, messages))
    }
}

/// Where servers say what they know of an account.
fn lookup(account: &KeyPair) -> String {
    format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP", account.public_key())
}

#[async_trait]
impl Layer for NatsLayer {
    fn name(&self) -> &'static str {
        "nats"
    }

    async fn plan(&self, site: &Site) -> Result<Vec<String>> {
        self.look(&site.names).await
    }

    async fn ensure(&self, site: &Site) -> Result<Ensured> {
        let account = self.account(site.tenant.id)?;
        let system = self.connect(&self.system).await?;
        let known = self.seems_known(&system, &account).await?;
        let mut changes: Vec<_> = self.differs(known.as_ref(), &site.names).into_iter().collect();
        if !changes.is_empty() {
            self.tell_account(&system, &site.names, &account).await?;
        }
        changes.extend(self.ensure_stream(&self.connect(&account).await?, &site.names).await?);
        let mut facts = Map::new();
        facts.insert("account".to_owned(), json!(account.public_key()));
        facts.insert("stream".to_owned(), json!(site.names.stem()));
        Ok(Ensured { changes, facts })
    }

    async fn verify(&self, site: &Site) -> Result<Verdict> {
        Ok(Verdict::of(self.look(&site.names).await?))
    }

    async fn remove(&self, site: &Site) -> Result<Removed> {
        let account = self.account(site.tenant.id)?;
        let system = self.connect(&self.system).await?;
        let was_known = self.known(&system, &account).await?.is_some();
        // A server may have streams of an account that it was told to forget: it is told again, to get at them.
        self.tell_account(&system, &site.names, &account).await?;
        let (streams, messages) = Self::remove_streams(&self.connect(&account).await?).await?;
        self.delete_account(&system, &account).await?;
        Ok(Removed::of([("accounts", u64::from(was_known)), ("streams", streams), ("messages", messages)]))
    }

    async fn residue(&self, site: &Site) -> Result<Vec<String>> {
        let account = self.account(site.tenant.id)?;
        let known = self.known(&self.connect(&self.system).await?, &account).await?;
        Ok(known.map(|_| format!("account {}", site.names.stem())).into_iter().collect())
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

    /// A user's claims with an end, which servers look at by themselves; they also close what was opened with it.
    async fn issue(&self, site: &Site, order: &IssueOrder) -> Result<Option<Credential>> {
        let (account, user) = (self.account(site.tenant.id)?, claims::fresh_user()?);
        let (own, login) = (user.public_key(), site.names.login(order.slot));
        let body = claims::service(&site.names);
        let claim = Claim { subject: &own, name: &login, expires: Some(order.valid_until), body };
        let token = claim.signed_by(&account, self.clock.now())?;
        let secret = claims::credentials_file(&token, &user)?;
        let address = if self.rules.address.is_empty() { &self.rules.url } else { &self.rules.address };
        let details = [
            ("address", address.clone()),
            ("stream", site.names.stem().to_owned()),
            ("subjectPrefix", format!("{}.", site.names.stem())),
            ("user", login),
        ];
        let details: BTreeMap<_, _> = details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Some(Credential { details, secret, valid_until: order.valid_until }))
    }

    async fn probe(&self) -> Result<Probe> {
        let line = self.connect(&self.system).await?;
        Ok(Probe::Alive { mark: line.server() })
    }
}
