//! One connection to a directory, as one user.

use std::time::Duration;

use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, Scope, SearchEntry, SearchOptions, StdStream,
    controls::{ControlType, MakeCritical as _, PagedResults},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};

use super::{
    answer::page_cookie,
    entry::Entry,
    trouble::Trouble,
    wire::{Ended, carry},
};

/// A connection; dropped, it is closed.
#[derive(Debug)]
pub(in crate::directory) struct Session {
    ldap: Ldap,
    ended: Ended,
    patience: Duration,
    tasks: [JoinHandle<()>; 2],
}

/// What is searched, below and with `base`.
#[derive(Clone, Copy, Debug)]
pub(in crate::directory) struct Search<'a> {
    pub(in crate::directory) base: &'a str,
    pub(in crate::directory) filter: &'a str,
    pub(in crate::directory) attributes: &'a [&'a str],
    /// More than these are refused.
    pub(in crate::directory) most: usize,
}

/// The server may take this much longer than is waited for, in seconds, before it gives up by itself.
const SERVER_SECONDS: i32 = 60;

impl Session {
    /// Over a line that is secured. `patience`: for each answer. `most`: bytes of all answers.
    pub(super) async fn over<S>(line: S, patience: Duration, most: usize) -> Result<Self, Trouble>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let lost = |_| Trouble::Closed;
        let (library, ended, carrier) = carry(line, most).map_err(lost)?;
        let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(library));
        let (connection, ldap) =
            LdapConnAsync::with_settings(settings, "ldapi:///").await.map_err(|_| Trouble::Closed)?;
        let driver = tokio::spawn(async move {
            let _ = connection.drive().await; // why it ended is known to who carries
        });
        Ok(Self { ldap, ended, patience, tasks: [carrier, driver] })
    }

    /// Whether the server has ended the connection.
    pub(in crate::directory) fn has_ended(&self) -> bool {
        self.ended.get().is_some() || self.tasks.iter().any(JoinHandle::is_finished)
    }

    /// Simple bind (RFC 4513, section 5.1.3). Without a name or a password it would be a bind of nobody that servers answer with success
    /// (sections 5.1.1 and 5.1.2), so that is refused before anything is sent.
    pub(in crate::directory) async fn bind(&mut self, dn: &str, password: &str) -> Result<(), Trouble> {
        if dn.is_empty() || password.is_empty() || password.contains('\0') {
            return Err(Trouble::Refused { code: INVALID_CREDENTIALS });
        }
        let bound = self.ldap.with_timeout(self.patience).simple_bind(dn, password).await;
        let bound = bound.map_err(|error| self.trouble(&error, "bind"))?;
        match bound.rc {
            0 => Ok(()),
            10 => Err(Trouble::Referral),
            code => Err(Trouble::Refused { code }),
        }
    }

    /// All that is found, in one answer.
    pub(in crate::directory) async fn search(&mut self, search: Search<'_>) -> Result<Vec<Entry>, Trouble> {
        let (found, _) = self.ask(search, None).await?;
        Ok(found)
    }

    /// All that is found, page by page (RFC 2696).
    pub(in crate::directory) async fn pages(&mut self, search: Search<'_>, size: u16) -> Result<Vec<Entry>, Trouble> {
        let (mut all, mut cookie) = (Vec::new(), Vec::new());
        loop {
            let most = search.most.saturating_sub(all.len());
            let (found, next) = self.ask(Search { most, ..search }, Some((size, cookie))).await?;
            all.extend(found);
            match next {
                Some(next) if !next.is_empty() => cookie = next,
                _ => return Ok(all),
            }
        }
    }

    /// References to other servers were left out on the way; a limit of the server's own is an error, as what it found is not all.
    async fn ask(
        &mut self,
        search: Search<'_>,
        page: Option<(u16, Vec<u8>)>,
    ) -> Result<(Vec<Entry>, Option<Vec<u8>>), Trouble> {
        let limit = if page.is_some() { 0 } else { i32::try_from(search.most).unwrap_or(0).saturating_add(1) };
        let options = SearchOptions::new().timelimit(SERVER_SECONDS).sizelimit(limit);
        let ldap = self.ldap.with_timeout(self.patience).with_search_options(options);
        if let Some((size, cookie)) = page {
            ldap.with_controls(PagedResults { size: size.into(), cookie }.critical());
        }
        let stream = ldap.streaming_search(search.base, Scope::Subtree, search.filter, search.attributes).await;
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => return Err(self.trouble(&error, "search")),
        };
        let mut found = Vec::new();
        loop {
            match stream.next().await {
                Ok(Some(entry)) if found.len() < search.most => {
                    found.push(Entry::from(SearchEntry::construct(entry)));
                }
                Ok(Some(_)) => return Err(Trouble::TooMany(search.most)),
                Ok(None) => break,
                Err(error) => return Err(self.trouble(&error, "search")),
            }
        }
        let done = stream.finish().await;
        match done.rc {
            0 => {}
            4 if limit > 0 && found.len() >= search.most => return Err(Trouble::TooMany(search.most)),
            10 => return Err(Trouble::Referral),
            code => return Err(Trouble::Refused { code }),
        }
        let control = done.ctrls.into_iter().find(|control| matches!(control.0, Some(ControlType::PagedResults)));
        let cookie = control.and_then(|control| control.1.val).map(|value| page_cookie(&value)).transpose();
        Ok((found, cookie.map_err(|broken| Trouble::Garbage(broken.0))?))
    }

    fn trouble(&self, error: &ldap3::LdapError, step: &'static str) -> Trouble {
        match error {
            ldap3::LdapError::Timeout { .. } => Trouble::Slow(step),
            // Filters were checked, so nothing else is left but a line that ended.
            _ => self.ended.get().cloned().unwrap_or(Trouble::Closed),
        }
    }
}

const INVALID_CREDENTIALS: u32 = 49;

impl Drop for Session {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
