//! Signing in by a directory: search for the person as its reader, then bind as the person, on a connection of its own.

use super::{
    Directory, Lacking, Live, Person, configure,
    gate::Gate,
    groups,
    ldap::{Search, Session, Trouble, within},
    person::attributes,
};
use crate::{
    error::{Error, Kind, Result},
    isolation::TenantScope,
    platform::{random, secret::Secret},
};

const LONGEST_LOGIN: usize = 256;
const LONGEST_PASSWORD: usize = 1024;
/// Bytes of all answers of a connection for sign-ins.
const MOST_BYTES: usize = 16 << 20;

/// Why nobody was signed in.
#[derive(Debug)]
enum Refused {
    /// There is no such person, there are several, or the password is another.
    Wrong,
    Lacking(Lacking),
    Trouble(Trouble),
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Directory {
    /// Whose login and password these are in the tenant's directory, with groups and roles. Whether that is a member who may sign in is
    /// for who asks to say.
    ///
    /// `unauthenticated` for an unknown login, several people with it, or a wrong password, all in the same words; `forbidden` for
    /// a person whose entry lacks what a member needs; `not_found` where no directory is configured; `unavailable` where it cannot be
    /// asked.
    pub async fn authenticate(&self, scope: &TenantScope, login: &str, password: &Secret) -> Result<Person> {
        let live = self.live(scope).await?.ok_or_else(configure::none)?;
        let outcome = if can_be(login, password.expose()) {
            self.sign_in(&live, login, password.expose()).await
        } else {
            // Before anything is sent: servers answer a bind without a password with success (RFC 4513, section 5.1.2).
            Err(Refused::Wrong)
        };
        let counted = match &outcome {
            Ok(_) => "ok",
            Err(Refused::Wrong) => "wrong",
            Err(Refused::Lacking(_)) => "lacking",
            Err(Refused::Trouble(_)) => "trouble",
        };
        metrics::counter!("tenantry_directory_sign_ins_total", "outcome" => counted).increment(1);
        outcome.map_err(|refused| match refused {
            Refused::Wrong => Error::new(Kind::Unauthenticated, "login or password is wrong"),
            Refused::Lacking(lacking) => {
                Error::forbidden("the directory's entry of this person lacks what a member needs")
                    .with(serde_json::json!({ "lacking": lacking }))
            }
            Refused::Trouble(trouble) => {
                tracing::warn!(tenant = %scope.tenant(), %trouble, "a directory cannot be asked");
                Error::new(Kind::Unavailable, "the tenant's directory cannot be asked right now").because(trouble)
            }
        })
    }

    async fn sign_in(&self, live: &Live, login: &str, password: &str) -> Result<Person, Refused> {
        let _place = live.gate.enter(self.limits.patience).await?;
        let work = async { Ok(self.search_then_bind(live, login, password).await) };
        within(self.limits.deadline, "sign-in", work).await?
    }

    async fn search_then_bind(&self, live: &Live, login: &str, password: &str) -> Result<Person, Refused> {
        let (server, mut reader, found) = self.look_up(live, login).await?;
        let Some(entry) = found else {
            // As long as for a person who is there; what comes back is of no interest.
            let nobody = format!("cn={},{}", random::uuid_v4(), live.settings.base_dn);
            let _ = self.bind_as(live, server, &nobody, password).await;
            live.gate.keep(server, reader, self.isolation.clock().now(), &self.limits);
            return Err(Refused::Wrong);
        };
        let person = Person::read(&entry, &live.settings);
        self.bind_as(live, server, &entry.dn, password).await?;
        let mut person = person.map_err(Refused::Lacking)?;
        let found = self.noting(&live.gate, server, groups::of_entry(&mut reader, &live.settings, &person.dn)).await?;
        person.roles = groups::roles(&live.settings, found.keys());
        person.groups = found.into_values().collect();
        person.groups.sort_unstable();
        live.gate.keep(server, reader, self.isolation.clock().now(), &self.limits);
        Ok(person)
    }

    /// The one entry with this login, and who found it where. A connection that was kept may have ended without notice: then another one
    /// is made.
    async fn look_up(&self, live: &Live, login: &str) -> Result<(usize, Session, Option<super::ldap::Entry>), Refused> {
        if let Some((server, mut reader)) = live.gate.take(self.isolation.clock().now(), &self.limits)
            && let Ok(found) = find(&mut reader, live, login).await
        {
            return Ok((server, reader, found));
        }
        let (server, mut reader) = self.connect(live, MOST_BYTES).await?;
        let found = self.noting(&live.gate, server, find(&mut reader, live, login)).await?;
        Ok((server, reader, found))
    }

    /// A connection bound as the directory's reader, to the first server that does.
    pub(super) async fn connect(&self, live: &Live, most: usize) -> Result<(usize, Session), Trouble> {
        let mut last = Trouble::Resting;
        for server in 0..live.settings.servers.len() {
            if !live.gate.may_try(server, self.isolation.clock().now(), &self.limits) {
                continue;
            }
            let opened = self.noting(&live.gate, server, async {
                let mut session = self.way(live, server, most).open().await?;
                session.bind(live.settings.bind_dn.text(), live.secret.expose()).await?;
                Ok(session)
            });
            match opened.await {
                Ok(session) => {
                    live.gate.succeeded(server);
                    return Ok((server, session));
                }
                Err(trouble) if trouble.is_of_server() => last = trouble,
                Err(trouble) => return Err(trouble),
            }
        }
        Err(last)
    }

    async fn bind_as(&self, live: &Live, server: usize, dn: &str, password: &str) -> Result<(), Refused> {
        let way = self.way(live, server, MOST_BYTES);
        let mut session = self.noting(&live.gate, server, way.open()).await?;
        match self.noting(&live.gate, server, session.bind(dn, password)).await {
            Ok(()) => Ok(()),
            Err(trouble) if trouble.is_of_server() => Err(trouble.into()),
            // Wrong, locked, expired: who may not sign in is not told why.
            Err(trouble) => {
                tracing::debug!(%trouble, "a directory refuses a person's bind");
                Err(Refused::Wrong)
            }
        }
    }

    /// Notes a failure of the server in its breaker, also where nobody waits for the work any more.
    async fn noting<T>(
        &self,
        gate: &Gate,
        server: usize,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let attempt = gate.attempt(server, self.isolation.clock());
        let done = work.await;
        if !done.as_ref().is_err_and(Trouble::is_of_server) {
            attempt.ended_well();
        }
        done
    }
}

/// The one entry with this login; none where there are several, too.
async fn find(reader: &mut Session, live: &Live, login: &str) -> Result<Option<super::ldap::Entry>, Trouble> {
    let (filter, names) = (live.settings.user_filter.of_login(login), attributes(&live.settings));
    let search = Search { base: live.settings.base_dn.text(), filter: &filter, attributes: &names, most: 1 };
    match reader.search(search).await {
        Ok(mut found) => Ok(found.pop().filter(|entry| !entry.dn.is_empty())),
        Err(Trouble::TooMany(_)) => {
            tracing::warn!("a login finds several entries of a directory, so it is nobody's; narrow its userFilter");
            Ok(None)
        }
        Err(trouble) => Err(trouble),
    }
}

fn can_be(login: &str, password: &str) -> bool {
    let is_login = (1..=LONGEST_LOGIN).contains(&login.len()) && !login.contains(char::is_control);
    is_login && (1..=LONGEST_PASSWORD).contains(&password.len()) && !password.contains('\0')
}
