use std::sync::Arc;

use clap::Args;

use super::{House, Output, operator, tenant};
use crate::{
    access::permission,
    error::{Context as _, Error, Kind, Result},
    isolation::OperatorScope,
};

#[derive(Debug, Args)]
pub(super) struct VerifyAudit {
    /// Id or slug; the platform's own journal where not given.
    tenant: Option<String>,
}

impl VerifyAudit {
    /// Fails where anything was edited, removed or put in between.
    pub(super) async fn run(self, house: &House, output: &Output) -> Result<()> {
        let (app, caller) = (&house.app, Arc::new(operator()));
        let permission = permission("Query", "verifyAudit").context("the permission to verify")?;
        let report = match &self.tenant {
            Some(named) => {
                app.audit
                    .verify(&app.tenancy.enter(&caller, tenant::find(house, named).await?, permission).await?)
                    .await?
            }
            None => app.audit.verify_platform(&OperatorScope::enter(&caller, permission)?).await?,
        };
        let problems: Vec<_> = report.problems.iter().map(|problem| format!("\n  {problem}")).collect();
        let state = if report.valid { "unbroken" } else { "BROKEN" };
        let text = format!(
            "{} entries, {} checkpoints, signed up to {}: {state}{}",
            report.entries,
            report.checkpoints,
            report.signed_up_to,
            problems.concat()
        );
        output.object(&report, &text)?;
        if report.valid { Ok(()) } else { Err(Error::new(Kind::Conflict, "the journal is not what was written")) }
    }
}
