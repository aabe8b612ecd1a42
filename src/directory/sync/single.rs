//! Who signs in: one person, made a member as a synchronisation would make it.

use super::{
    super::{Directory, Person},
    plan::{Plan, Planned, plan},
};
use crate::{
    error::{Error, Kind, Result},
    isolation::{TenantScope, TenantTx},
    members::{Change, Member, Seats, Source, Status},
};

/// The person is there, and is no member.
fn no_role() -> Error {
    Error::forbidden("no group that the directory has this person in gives a role of the tenant")
}

impl Directory {
    /// The member that this person is: made, or brought to what the directory says now; `None` where it is deactivated, and stays so. It is
    /// found by the directory's id alone. An address is what whoever keeps the entry writes there, so another member who has it is left
    /// alone.
    ///
    /// `forbidden` where no role is given, which deactivates who had one; `quota_exceeded` where there is no seat; `conflict` where another
    /// member has the address, or where this is the last owner and the directory gives it less.
    pub async fn member_of(&self, scope: &TenantScope, person: &Person) -> Result<Option<Member>> {
        match Box::pin(self.follow(scope, person)).await {
            // Somebody else may have made the same member meanwhile: then it is there now.
            Err(error) if error.kind() == Kind::Conflict => Box::pin(self.follow(scope, person)).await,
            done => done,
        }
    }

    async fn follow(&self, scope: &TenantScope, person: &Person) -> Result<Option<Member>> {
        let tx = self.isolation.begin(scope).await?;
        let known = self.known(&tx, person).await?;
        tx.commit_unrecorded("a read").await?;
        if known.as_ref().is_some_and(|member| member.status == Status::Deactivated) {
            return Ok(None);
        }
        let Plan { changes, .. } = plan(std::slice::from_ref(person), Vec::new(), known.as_slice());
        let Some(planned) = changes.first() else {
            return if person.roles.is_empty() { Err(no_role()) } else { Ok(known) };
        };
        let seats = self.members.take_seats(scope, i64::from(planned.takes_seat)).await?;
        match self.write_one(scope, person, planned, &seats).await {
            Ok(member) => {
                self.members.applied(scope.tenant()).await;
                if matches!(planned.change, Change::Deactivate(_)) { Err(no_role()) } else { Ok(Some(member)) }
            }
            Err(error) => {
                self.members.give_up_seats(scope, seats).await;
                Err(error)
            }
        }
    }

    async fn write_one(
        &self,
        scope: &TenantScope,
        person: &Person,
        planned: &Planned,
        seats: &Seats,
    ) -> Result<Member> {
        let tx = self.isolation.begin(scope).await?;
        let change = std::slice::from_ref(&planned.change);
        let mut applied = self.members.apply(&tx, Source::Directory, change, seats).await?;
        if let Some((_, refused)) = applied.refused.pop() {
            return Err(refused);
        }
        let member = self.known(&tx, person).await?.ok_or_else(Error::not_found)?;
        if applied.entries.is_empty() {
            tx.commit_unrecorded("somebody else has written the same").await?;
        } else {
            tx.commit(applied.entries).await?;
        }
        Ok(member)
    }

    async fn known(&self, tx: &TenantTx, person: &Person) -> Result<Option<Member>> {
        let ids = std::slice::from_ref(&person.external_id);
        Ok(self.members.find_known(tx, Source::Directory, ids, &[]).await?.pop())
    }
}
