//! Directories that are due are synchronised, each once, whoever looks.

use chrono::TimeDelta;

use super::{
    super::{Directory, store as directories},
    Mode, Trigger,
    run::{TASK, started},
    store,
};
use crate::{
    error::{Kind, Result},
    isolation::{OperatorScope, TenantScope},
    platform::ids::TenantId,
    tenancy::Status,
};

/// Of one look; the next goes on.
const MOST: i64 = 50;

impl Directory {
    /// Starts what is due; answers how many.
    pub async fn sync_due(&self) -> Result<usize> {
        let tx = self.isolation.begin_operator(&OperatorScope::system(TASK)).await?;
        let due = store::due(&tx, MOST).await?;
        tx.commit_unrecorded("a read").await?;
        let mut begun = 0;
        for tenant in due {
            match self.sync_one(tenant).await {
                Ok(true) => begun += 1,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, %tenant, cause = error.cause().map(tracing::field::display), "a directory that is due is not synchronised");
                }
            }
        }
        Ok(begun)
    }

    /// False where another server has taken it, one runs, or the tenant is not active.
    async fn sync_one(&self, tenant: TenantId) -> Result<bool> {
        let scope = TenantScope::system(TASK, tenant);
        let is_active = self.tenancy.get(&scope).await?.status == Status::Active;
        let tx = self.isolation.begin(&scope).await?;
        let configured = directories::find(&tx).await?;
        let interval = configured.and_then(|configured| configured.view.settings.sync_interval_minutes);
        let next = interval.map(|minutes| tx.stamp().at + TimeDelta::minutes(minutes.into()));
        if !store::take_due(&tx, next).await? {
            tx.commit_unrecorded("nothing was changed").await?;
            return Ok(false);
        }
        if !is_active || next.is_none() {
            tx.commit_unrecorded("when it is due is no part of the record").await?;
            return Ok(false);
        }
        let sync = match store::begin(&tx, Mode::Apply, Trigger::Schedule).await {
            Ok(sync) => sync,
            // The time that was taken is given back with the rest of this transaction, so it is looked for again.
            Err(error) if error.kind() == Kind::Conflict => return Ok(false),
            Err(error) => return Err(error),
        };
        tx.commit([started(&sync, Mode::Apply)?]).await?;
        self.go_on(tenant, &sync, Mode::Apply);
        Ok(true)
    }
}
