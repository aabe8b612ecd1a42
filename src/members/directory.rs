//! What a source of identities (a directory, single sign-on, SCIM) does to members: many at once, in one transaction of its own.
//!
//! The order: [`Members::find_known`] in a transaction, decide, [`Members::take_seats`] for those that will be new, then
//! [`Members::apply`] in the transaction that writes, commit with its entries, and then [`Members::applied`]. What is applied is looked
//! at again under locks, so that nothing has to hold in between.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Members,
    member::{self, Member, Source, Status, check_owners},
    role, role_store,
    seats::{self, Seats},
    store,
};
use crate::{
    error::{Error, Kind, Result},
    isolation::TenantTx,
    journal::Entry,
    platform::ids::{MemberId, TenantId},
};

/// A person as a source tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub external_id: String,
    pub email: String,
    pub name: String,
    /// Keys of roles; each must be a role of the tenant.
    pub roles: Vec<String>,
}

/// One change that a source asks for.
#[derive(Clone, Debug)]
pub enum Change {
    /// Somebody who is no member yet: active at once. Takes a seat.
    Create(Known),
    /// A member becomes what the source tells, and the source's own: also one that was invited here. Active from then on; takes a seat
    /// where it was deactivated.
    Update { id: MemberId, known: Known },
    /// The source has it no more. Frees the seat.
    Deactivate(MemberId),
}

/// What became of changes.
#[derive(Debug, Default)]
pub struct Applied {
    /// To be committed with.
    pub entries: Vec<Entry>,
    pub created: usize,
    pub updated: usize,
    pub unchanged: usize,
    pub deactivated: usize,
    /// By the place of the change: why it was not made. The others were.
    pub refused: Vec<(usize, Error)>,
}

/// What is to be written.
#[derive(Default)]
struct Plan {
    insert: Vec<Member>,
    update: Vec<Member>,
    taken: i64,
    given_back: i64,
    ends_sessions: bool,
    applied: Applied,
}

impl Members {
    /// Those that the source knows by these ids, or that have these addresses, whatever the case of their letters.
    pub async fn find_known(
        &self,
        tx: &TenantTx,
        source: Source,
        external_ids: &[String],
        emails: &[String],
    ) -> Result<Vec<Member>> {
        let keys: Vec<_> = emails.iter().map(|email| email.trim().to_lowercase()).collect();
        store::find_known(tx, source, external_ids, &keys).await
    }

    /// Everybody whom the source is answerable for.
    pub async fn of_source(&self, tx: &TenantTx, source: Source) -> Result<Vec<Member>> {
        store::of_source(tx, source).await
    }

    /// Makes the changes that can be made. `seats` must be enough for those that take one: a change without a seat is refused with
    /// `quota_exceeded`. The last active owner stays.
    pub async fn apply(&self, tx: &TenantTx, source: Source, changes: &[Change], seats: &Seats) -> Result<Applied> {
        store::lock_sources(tx).await?;
        let own = role_store::share(tx).await?;
        let ids: Vec<MemberId> = changes.iter().filter_map(Change::id).collect();
        let store::Locked { members, mut owners } = store::lock(tx, &ids).await?;
        let known: BTreeMap<MemberId, Member> = members.into_iter().map(|member| (member.id, member)).collect();
        let mut taken = self.addresses(tx, source, changes).await?;
        let mut plan = Plan::default();
        for (place, change) in changes.iter().enumerate() {
            let step = Step { source, roles: own.roles(), known: &known, seats: seats.amount(), now: tx.stamp().at };
            if let Err(error) = step.plan(change, &mut plan, &mut owners, &mut taken) {
                plan.applied.refused.push((place, error));
            }
        }
        store::insert(tx, &plan.insert).await?;
        store::update(tx, &plan.update).await?;
        seats::note_taken(tx, seats, plan.taken).await?;
        seats::note_given_back(tx, plan.given_back).await?;
        if !plan.update.is_empty() || plan.ends_sessions {
            store::announce(tx).await?;
        }
        Ok(plan.applied)
    }

    /// After the commit: what was applied holds in sessions that run, and its seats are counted.
    pub async fn applied(&self, tenant: TenantId) {
        self.changed(tenant);
        self.settle_seats(tenant).await;
    }

    /// Addresses and ids of the changes that somebody has already, and who.
    async fn addresses(&self, tx: &TenantTx, source: Source, changes: &[Change]) -> Result<Taken> {
        let known: Vec<&Known> = changes.iter().filter_map(Change::known).collect();
        let ids: Vec<String> = known.iter().map(|known| known.external_id.clone()).collect();
        let emails: Vec<String> = known.iter().map(|known| known.email.clone()).collect();
        let found = self.find_known(tx, source, &ids, &emails).await?;
        let mut taken = Taken::default();
        for member in found {
            taken.note(&member);
        }
        Ok(taken)
    }
}

impl Change {
    fn id(&self) -> Option<MemberId> {
        match self {
            Self::Create(_) => None,
            Self::Update { id, .. } | Self::Deactivate(id) => Some(*id),
        }
    }

    fn known(&self) -> Option<&Known> {
        match self {
            Self::Create(known) | Self::Update { known, .. } => Some(known),
            Self::Deactivate(_) => None,
        }
    }
}

/// Who has which address, and which id of a source.
#[derive(Default)]
struct Taken {
    emails: BTreeMap<String, MemberId>,
    external: BTreeMap<(&'static str, String), MemberId>,
}

impl Taken {
    fn note(&mut self, member: &Member) {
        self.emails.insert(member.email.to_lowercase(), member.id);
        if let Some(external_id) = &member.external_id {
            self.external.insert((member.source.name(), external_id.clone()), member.id);
        }
    }

    /// Refuses what another member has.
    fn check(&self, member: &Member) -> Result<()> {
        let other = |found: Option<&MemberId>| found.is_some_and(|id| *id != member.id);
        if other(self.emails.get(&member.email.to_lowercase())) {
            return Err(Error::conflict("another member has this address").at("email"));
        }
        let external = member.external_id.clone().map(|id| (member.source.name(), id));
        if external.is_some_and(|external| other(self.external.get(&external))) {
            return Err(Error::conflict("another member has this id of the source").at("externalId"));
        }
        Ok(())
    }
}

/// What a single change is decided on.
struct Step<'a> {
    source: Source,
    roles: role::Roles<'a>,
    known: &'a BTreeMap<MemberId, Member>,
    seats: i64,
    now: chrono::DateTime<chrono::Utc>,
}

impl Step<'_> {
    fn plan(&self, change: &Change, plan: &mut Plan, owners: &mut Vec<Member>, taken: &mut Taken) -> Result<()> {
        let before = change.id().map(|id| self.known.get(&id).ok_or_else(Error::not_found)).transpose()?;
        let touched: BTreeSet<_> = plan.insert.iter().chain(&plan.update).map(|member| member.id).collect();
        if before.is_some_and(|before| touched.contains(&before.id)) {
            return Err(Error::conflict("the member is changed twice"));
        }
        let after = match (change, before) {
            (Change::Create(known), _) => self.created(known)?,
            (Change::Update { known, .. }, Some(before)) => self.updated(before, known)?,
            (Change::Deactivate(_), Some(before)) if before.status == Status::Deactivated => before.clone(),
            (Change::Deactivate(_), Some(before)) => before.with_status(Status::Deactivated, self.now),
            (_, None) => return Err(Error::not_found()),
        };
        if before == Some(&after) {
            plan.applied.unchanged += 1;
            return Ok(());
        }
        taken.check(&after)?;
        let takes = after.status.takes_seat() && !before.is_some_and(|before| before.status.takes_seat());
        if takes && plan.taken >= self.seats {
            return Err(Error::new(Kind::QuotaExceeded, "the tenant has no seat left"));
        }
        if let Some(before) = before {
            check_owners(before, Some(&after), owners)?;
        }
        owners.retain(|owner| owner.id != after.id);
        owners.extend(after.is_active_owner().then(|| after.clone()));
        taken.note(&after);
        plan.note(before, after, takes)
    }

    fn created(&self, known: &Known) -> Result<Member> {
        let blank = Member {
            id: MemberId::generate(),
            email: String::new(),
            name: String::new(),
            status: Status::Active,
            source: self.source,
            external_id: None,
            roles: Vec::new(),
            access_epoch: 1,
            version: 1,
            created_at: self.now,
            updated_at: self.now,
        };
        self.told(blank, known)
    }

    fn updated(&self, before: &Member, known: &Known) -> Result<Member> {
        let told = self.told(Member { status: Status::Active, source: self.source, ..before.clone() }, known)?;
        if told == *before {
            return Ok(told);
        }
        Ok(Member { version: before.version + 1, updated_at: self.now, ..told })
    }

    fn told(&self, member: Member, known: &Known) -> Result<Member> {
        Ok(Member {
            email: member::email("email", &known.email)?.0,
            name: member::name("name", &known.name)?,
            external_id: Some(member::external_id("externalId", &known.external_id)?),
            roles: self.roles.check("roles", &known.roles)?,
            ..member
        })
    }
}

impl Plan {
    fn note(&mut self, before: Option<&Member>, after: Member, takes: bool) -> Result<()> {
        self.taken += i64::from(takes);
        let ends = after.status == Status::Deactivated;
        self.given_back += i64::from(ends);
        self.ends_sessions |= ends;
        let (event, counted) = match before {
            None => ("MemberCreated", &mut self.applied.created),
            Some(_) if ends => ("MemberDeactivated", &mut self.applied.deactivated),
            Some(_) => ("MemberUpdated", &mut self.applied.updated),
        };
        *counted += 1;
        self.applied.entries.push(Entry::new(event, "member", after.id).change(before, Some(&after))?);
        match before {
            None => self.insert.push(after),
            Some(_) => self.update.push(after),
        }
        Ok(())
    }
}
