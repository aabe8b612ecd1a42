//! Synchronisations in the schema.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::{
    super::graphql::{entered, handle},
    Change, ChangeKind, Mode, Outcome, Phase, Skipped, State, Sync, Trigger, Why, store,
};
use crate::{
    platform::page::{LargestPage, Page, PageInfo, PageRequest},
    tenancy::graphql::conditions,
};

/// One synchronisation of a directory.
#[derive(Debug)]
pub struct SyncObject(Sync);

#[Object(name = "DirectorySync")]
impl SyncObject {
    /// UUIDv7.
    async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Whether it only says what it would do.
    async fn dry_run(&self) -> bool {
        self.0.is_dry_run
    }

    async fn state(&self) -> State {
        self.0.state
    }

    async fn phase(&self) -> Phase {
        self.0.phase
    }

    async fn trigger(&self) -> Trigger {
        self.0.trigger
    }

    /// Subject of who started it.
    async fn started_by(&self) -> &str {
        &self.0.started_by
    }

    async fn people_read(&self) -> i32 {
        self.0.people_read
    }

    /// Changes that were tried so far.
    async fn changes_written(&self) -> i32 {
        self.0.written
    }

    /// What it did, or would do; null before it has compared.
    async fn result(&self) -> Option<OutcomeObject> {
        self.0.result.clone().map(Into::into)
    }

    /// Why it was refused, or failed.
    async fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    async fn started_at(&self) -> DateTime<Utc> {
        self.0.started_at
    }

    async fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.0.ended_at
    }
}

/// What a synchronisation did, or would do.
#[derive(Debug, SimpleObject)]
#[graphql(name = "DirectorySyncResult")]
pub struct OutcomeObject {
    created: usize,
    updated: usize,
    unchanged: usize,
    deactivated: usize,
    /// Entries and members to whom nothing was done.
    skipped: usize,
    /// The first 100 of them.
    changes: Vec<ChangeObject>,
    /// The first 100 of them.
    skips: Vec<SkippedObject>,
}

#[derive(Debug, SimpleObject)]
#[graphql(name = "DirectorySyncChange")]
pub struct ChangeObject {
    kind: ChangeKind,
    email: String,
    /// As they will be; empty for who is deactivated.
    roles: Vec<String>,
}

#[derive(Debug, SimpleObject)]
#[graphql(name = "DirectorySyncSkip")]
pub struct SkippedObject {
    /// The DN in the directory, or a member's address.
    who: String,
    why: Why,
}

impl From<Outcome> for OutcomeObject {
    fn from(outcome: Outcome) -> Self {
        let Outcome { created, updated, unchanged, deactivated, skipped, changes, skips } = outcome;
        let change = |Change { kind, email, roles }| ChangeObject { kind, email, roles };
        let skip = |Skipped { who, why }| SkippedObject { who, why };
        let (changes, skips) = (changes.into_iter().map(change).collect(), skips.into_iter().map(skip).collect());
        Self { created, updated, unchanged, deactivated, skipped, changes, skips }
    }
}

/// One page of synchronisations.
#[derive(Debug, SimpleObject)]
pub struct DirectorySyncConnection {
    edges: Vec<DirectorySyncEdge>,
    page_info: PageInfo,
}

#[derive(Debug, SimpleObject)]
pub struct DirectorySyncEdge {
    cursor: String,
    node: SyncObject,
}

impl From<Page<Sync>> for DirectorySyncConnection {
    fn from(page: Page<Sync>) -> Self {
        let cursors: Vec<_> = page.items.iter().map(store::cursor).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let nodes = page.items.into_iter().map(SyncObject);
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| DirectorySyncEdge { cursor, node }).collect();
        Self { edges, page_info }
    }
}

#[derive(Debug, InputObject)]
pub struct SyncDirectoryInput {
    /// The tenant; the token's own where not given.
    tenant_id: Option<ID>,
    /// Only says what would be done.
    #[graphql(default = true)]
    dry_run: bool,
    /// Deactivates members however many they are.
    #[graphql(default)]
    force: bool,
}

#[derive(Debug, SimpleObject)]
pub struct SyncDirectoryPayload {
    /// As it began; `directorySyncs` tells how it goes on.
    sync: SyncObject,
}

#[derive(Debug, Default)]
pub struct DirectorySyncQuery;

#[Object]
impl DirectorySyncQuery {
    /// The tenant's synchronisations, the latest first.
    ///
    /// Scope: `auth:directory:read`.
    async fn directory_syncs(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(desc = "At most 100; 25 where not given.")] first: Option<i32>,
        #[graphql(desc = "Cursor of the last one of the page before.")] after: Option<String>,
    ) -> Result<DirectorySyncConnection> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        let request = PageRequest::new(first, after, ctx.data::<LargestPage>()?.0)?;
        Ok(handle(ctx)?.syncs(&scope, &request).await?.into())
    }
}

#[derive(Debug, Default)]
pub struct DirectorySyncMutation;

#[Object]
impl DirectorySyncMutation {
    /// Starts to make members of the directory's people, with the roles that their groups give: who is new is created as far as there are
    /// seats, who changed is updated, who is gone or has no role any more is deactivated. It goes on by itself. Without `dryRun: false` it
    /// only says what it would do. Owners who were invited here stay as they are.
    ///
    /// Errors: `not_found` where there is no directory, `conflict` where one runs.
    ///
    /// Scope: `auth:directory:write`.
    async fn sync_directory(&self, ctx: &Context<'_>, input: SyncDirectoryInput) -> Result<SyncDirectoryPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let mode = match (input.dry_run, input.force) {
            (true, _) => Mode::DryRun,
            (false, false) => Mode::Apply,
            (false, true) => Mode::Force,
        };
        let sync = handle(ctx)?.sync(&scope, mode, &conditions(ctx, None)).await?;
        Ok(SyncDirectoryPayload { sync: SyncObject(sync) })
    }
}
