//! Members are changed, some hundreds in a transaction, as far as seats go.

use super::{
    super::Directory,
    Outcome, Phase,
    plan::{Plan, Planned, Why},
    run::Failure,
    store,
};
use crate::{
    error::{Error, Kind, Result},
    isolation::TenantScope,
    members::{self, Applied, Seats, Source},
    platform::ids::DirectorySyncId,
};

const BATCH: usize = 500;

impl Directory {
    /// Makes the changes; answers what became of them. A batch commits with the sign that this run still is the one that runs.
    pub(super) async fn write(
        &self,
        scope: &TenantScope,
        id: DirectorySyncId,
        plan: Plan,
        read: usize,
    ) -> Result<Outcome, Failure> {
        let Plan { changes, mut outcome } = plan;
        (outcome.created, outcome.updated, outcome.deactivated) = (0, 0, 0);
        let mut written = 0;
        for batch in changes.chunks(BATCH) {
            let wanted = batch.iter().filter(|planned| planned.takes_seat).count();
            let seats = self.seats(scope, wanted).await?;
            match self.write_batch(scope, id, batch, &seats, (read, written + batch.len())).await {
                Ok(applied) => {
                    let refused = applied.refused.iter().filter(|(place, _)| batch[*place].takes_seat).count();
                    if wanted <= refused {
                        self.members.give_up_seats(scope, seats).await;
                    }
                    self.members.applied(scope.tenant()).await;
                    outcome.add(batch, &applied);
                }
                Err(failure) => {
                    self.members.give_up_seats(scope, seats).await;
                    return Err(failure);
                }
            }
            written += batch.len();
        }
        Ok(outcome)
    }

    async fn write_batch(
        &self,
        scope: &TenantScope,
        id: DirectorySyncId,
        batch: &[Planned],
        seats: &Seats,
        counts: (usize, usize),
    ) -> Result<Applied, Failure> {
        let changes: Vec<members::Change> = batch.iter().map(|planned| planned.change.clone()).collect();
        let tx = self.isolation.begin(scope).await?;
        if !store::progress(&tx, id, Phase::Writing, counts).await? {
            return Err(Failure::GivenUp);
        }
        let mut applied = self.members.apply(&tx, Source::Directory, &changes, seats).await?;
        let entries = std::mem::take(&mut applied.entries);
        if entries.is_empty() {
            tx.commit_unrecorded("progress; no member was changed").await?;
        } else {
            tx.commit(entries).await?;
        }
        Ok(applied)
    }

    /// As many seats as there are, at most `wanted`.
    async fn seats(&self, scope: &TenantScope, wanted: usize) -> Result<Seats> {
        let amount = |seats: usize| i64::try_from(seats).map_err(Error::internal);
        match self.members.take_seats(scope, amount(wanted)?).await {
            Err(error) if error.kind() == Kind::QuotaExceeded => {}
            taken => return taken,
        }
        // Others may take some meanwhile: then fewer are taken, and the next synchronisation goes on.
        let (mut least, mut most) = (0, wanted.saturating_sub(1));
        while least < most {
            let middle = most - (most - least) / 2;
            match self.members.take_seats(scope, amount(middle)?).await {
                Ok(seats) => {
                    self.members.give_up_seats(scope, seats).await;
                    least = middle;
                }
                Err(error) if error.kind() == Kind::QuotaExceeded => most = middle - 1,
                Err(error) => return Err(error),
            }
        }
        match self.members.take_seats(scope, amount(least)?).await {
            Err(error) if error.kind() == Kind::QuotaExceeded => self.members.take_seats(scope, 0).await,
            taken => taken,
        }
    }
}

impl Outcome {
    fn add(&mut self, batch: &[Planned], applied: &Applied) {
        self.created += applied.created;
        self.updated += applied.updated;
        self.unchanged += applied.unchanged;
        self.deactivated += applied.deactivated;
        for (place, error) in &applied.refused {
            let planned = &batch[*place];
            let why = match (error.kind(), &planned.change) {
                (Kind::QuotaExceeded, _) => Why::NoSeat,
                (Kind::Conflict, members::Change::Deactivate(_)) => Why::LastOwner,
                _ => Why::Refused,
            };
            self.skip(planned.who.clone(), why);
        }
    }
}
