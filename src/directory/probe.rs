//! A directory, tried step by step for who sets it up.

use std::time::Duration;

use async_graphql::Enum;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    Directory, Live, Person, configure, groups,
    ldap::{Entry, Search, Session, Shown, Trouble},
    person::attributes,
    settings::Certificate,
};
use crate::{
    error::{Error, Result},
    isolation::TenantScope,
};

const MOST_BYTES: usize = 16 << 20;

/// Steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Enum)]
#[graphql(name = "DirectoryStep")]
pub enum StepKind {
    /// The server's name is looked up, and its addresses may be connected to.
    NameLookup,
    Connection,
    /// StartTLS where it is used, and the server's certificate.
    Tls,
    /// As the directory's reader.
    Bind,
    /// Somebody is found by `userFilter` below `baseDn`.
    Search,
    /// The one entry with the login that was given, and what a member needs of it.
    User,
    /// The groups that the person is in, and the roles that they give.
    Groups,
}

/// How one step went.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeStep {
    /// Which server, for what is tried with each.
    pub server: Option<String>,
    pub kind: StepKind,
    pub took: Duration,
    /// Why it failed.
    pub failure: Option<String>,
    /// The result code of RFC 4511 where the server gave one.
    pub code: Option<u32>,
    /// Of TLS: what the server showed, its own certificate first, trusted or not.
    pub certificates: Vec<Certificate>,
}

#[derive(Clone, Debug)]
pub struct ProbeReport {
    pub steps: Vec<ProbeStep>,
    /// Who has the login that was given.
    pub person: Option<Person>,
}

impl ProbeReport {
    pub fn is_good(&self) -> bool {
        self.steps.iter().all(|step| step.failure.is_none())
    }
}

/// Steps of one server, and what they came to.
#[derive(Default)]
struct Walk {
    server: Option<String>,
    steps: Vec<ProbeStep>,
}

impl Walk {
    async fn step<T>(&mut self, kind: StepKind, work: impl Future<Output = Result<T, Trouble>>) -> Option<T> {
        let began = Instant::now();
        let done = work.await;
        let (failure, code) = match &done {
            Ok(_) => (None, None),
            Err(trouble) => (Some(trouble.to_string()), trouble.code()),
        };
        let (server, took) = (self.server.clone(), began.elapsed());
        self.steps.push(ProbeStep { server, kind, took, failure, code, certificates: Vec::new() });
        done.ok()
    }

    fn fail_last(&mut self, why: impl Into<String>) {
        if let Some(step) = self.steps.last_mut() {
            step.failure = Some(why.into());
        }
    }
}

impl Directory {
    /// Tries the tenant's directory step by step: each server up to the bind, and with the first that works the search and, for a
    /// login, the person with groups and roles. Nothing is changed, no breaker is asked, and no secret is in the answer.
    pub async fn probe(&self, scope: &TenantScope, login: Option<&str>) -> Result<ProbeReport> {
        let live = self.live(scope).await?.ok_or_else(configure::none)?;
        if login.is_some_and(|login| login.is_empty() || login.len() > 256 || login.contains(char::is_control)) {
            return Err(Error::invalid("login", "has 1 to 256 bytes, and no control characters"));
        }
        let crowded = |trouble: Trouble| Error::conflict(trouble.to_string());
        let _place = live.gate.enter(self.limits.patience).await.map_err(crowded)?;
        let walks = join_all((0..live.settings.servers.len()).map(|server| self.walk(&live, server))).await;
        let (mut steps, mut session) = (Vec::new(), None);
        for (walk, bound) in walks {
            steps.extend(walk.steps);
            session = session.or(bound);
        }
        let mut walk = Walk { server: None, steps };
        let mut person = None;
        if let Some(mut session) = session {
            person = read(&mut walk, &mut session, &live, login).await;
        }
        Ok(ProbeReport { steps: walk.steps, person })
    }

    async fn walk(&self, live: &Live, server: usize) -> (Walk, Option<Session>) {
        let way = self.way(live, server, MOST_BYTES);
        let mut walk = Walk { server: Some(way.server.to_string()), ..Walk::default() };
        let bound = async {
            let addresses = walk.step(StepKind::NameLookup, way.resolve()).await?;
            let line = walk.step(StepKind::Connection, way.dial(&addresses)).await?;
            let shown = Shown::default();
            let secured = walk.step(StepKind::Tls, way.secure(line, &shown)).await;
            if let Some(step) = walk.steps.last_mut() {
                step.certificates = shown.chain();
            }
            let mut session = secured?;
            let (dn, secret) = (live.settings.bind_dn.text(), live.secret.expose());
            walk.step(StepKind::Bind, session.bind(dn, secret)).await?;
            Some(session)
        }
        .await;
        (walk, bound)
    }
}

async fn read(walk: &mut Walk, session: &mut Session, live: &Live, login: Option<&str>) -> Option<Person> {
    let everybody = live.settings.user_filter.of_everybody();
    let anybody = walk.step(StepKind::Search, find(session, live, &everybody)).await?;
    if anybody == Found::Nobody {
        walk.fail_last("nobody is found by userFilter below baseDn");
        return None;
    }
    let filter = live.settings.user_filter.of_login(login?);
    let entry = match walk.step(StepKind::User, find(session, live, &filter)).await? {
        Found::One(entry) => entry,
        Found::Nobody => {
            walk.fail_last("nobody has this login");
            return None;
        }
        Found::Several => {
            walk.fail_last("several entries have this login, so none of them can sign in; narrow userFilter");
            return None;
        }
    };
    let mut person = match Person::read(&entry, &live.settings) {
        Ok(person) => person,
        Err(lacking) => {
            walk.fail_last(format!("the entry {} lacks {}", entry.dn, lacking.attribute(&live.settings)));
            return None;
        }
    };
    let found = walk.step(StepKind::Groups, groups::of_entry(session, &live.settings, &person.dn)).await?;
    person.roles = groups::roles(&live.settings, found.keys());
    person.groups = found.into_values().collect();
    person.groups.sort_unstable();
    Some(person)
}

#[derive(Debug, PartialEq)]
enum Found {
    Nobody,
    One(Box<Entry>),
    Several,
}

async fn find(session: &mut Session, live: &Live, filter: &str) -> Result<Found, Trouble> {
    let names = attributes(&live.settings);
    let search = Search { base: live.settings.base_dn.text(), filter, attributes: &names, most: 1 };
    match session.search(search).await {
        Ok(mut found) => Ok(found.pop().map_or(Found::Nobody, |entry| Found::One(Box::new(entry)))),
        Err(Trouble::TooMany(_)) => Ok(Found::Several),
        Err(trouble) => Err(trouble),
    }
}
