//! A rollout as it goes on, for who watches it.

use std::time::Duration;

use futures::{Stream, stream};
use tokio::time::sleep;

use super::{Progress, Templates};
use crate::{
    error::Result,
    isolation::OperatorScope,
    platform::{ids::RolloutId, task::in_task},
};

/// Between two looks: of a rollout of ten thousand, one costs a few milliseconds.
const EVERY: Duration = Duration::from_secs(1);

/// Where a watcher is.
enum Turn {
    First,
    Next(Box<Progress>),
    Over,
}

impl Templates {
    /// How far the rollout is: now, whenever that has changed, and at last how it has ended. Each says all there is to say, so
    /// who comes back has missed nothing.
    pub async fn watch(
        &self,
        scope: OperatorScope,
        id: RolloutId,
    ) -> Result<impl Stream<Item = Result<Progress>> + use<>> {
        self.look(&scope, id).await?; // one that is not there is said at once
        let templates = self.clone();
        Ok(stream::unfold(Turn::First, move |turn| {
            let (templates, scope) = (templates.clone(), scope.clone());
            async move {
                let told = match turn {
                    Turn::Over => return None,
                    Turn::First => templates.look(&scope, id).await,
                    Turn::Next(last) => templates.changed(&scope, &last).await,
                };
                let next = match &told {
                    Ok(progress) if progress.rollout.state.is_open() => Turn::Next(Box::new(progress.clone())),
                    Ok(_) | Err(_) => Turn::Over,
                };
                Some((told, next))
            }
        }))
    }

    async fn look(&self, scope: &OperatorScope, id: RolloutId) -> Result<Progress> {
        let (templates, scope) = (self.clone(), scope.clone());
        in_task(async move { templates.progress(&scope, id).await }).await
    }

    async fn changed(&self, scope: &OperatorScope, last: &Progress) -> Result<Progress> {
        loop {
            sleep(EVERY).await;
            let now = self.look(scope, last.rollout.rollout_id).await?;
            if (&now.rollout, &now.waves) != (&last.rollout, &last.waves) {
                return Ok(now);
            }
        }
    }
}
