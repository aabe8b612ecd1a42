use std::time::Duration;

use clap::Args;

use super::{House, Output, operator, tenant};
use crate::{
    access::{Role, Scope, ScopeSet},
    error::{Error, Result},
};

#[derive(Debug, Args)]
pub(super) struct Token {
    /// For an operator: admin, support, billing or auditor.
    #[arg(long, required_unless_present = "tenant", conflicts_with = "tenant")]
    role: Vec<String>,
    /// For a service of this tenant (id or slug).
    #[arg(long, requires = "scope")]
    tenant: Option<String>,
    /// What the token is good for, separated by spaces.
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
    /// How long it lives, e.g. 15m; auth.token_ttl where not given.
    #[arg(long, value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
}

impl Token {
    pub(super) async fn run(self, house: &House, output: &Output) -> Result<()> {
        let app = &house.app;
        let ttl = self.ttl.unwrap_or(app.config.auth.token_ttl);
        let token = match &self.tenant {
            Some(named) => {
                let id = tenant::find(house, named).await?;
                let scopes = scopes(self.scope.as_deref().unwrap_or_default())?;
                app.oauth.issue_tenant_token(&operator(), id, scopes, ttl).await?
            }
            None => app.oauth.issue_operator_token(&operator(), &self.roles()?, ttl).await?,
        };
        output.text(&token)
    }

    fn roles(&self) -> Result<Vec<Role>> {
        let role = |name: &String| {
            Role::parse(name)
                .ok_or_else(|| Error::invalid("--role", format!("{name} is none of admin, support, billing, auditor")))
        };
        self.role.iter().map(role).collect()
    }
}

fn scopes(names: &str) -> Result<ScopeSet> {
    let scope = |name: &str| {
        Scope::parse(name)
            .filter(|scope| scope.for_tenants())
            .ok_or_else(|| Error::invalid("--scope", format!("{name} is none of {}", ScopeSet::for_tenants())))
    };
    let scopes = names.split_whitespace().map(scope).collect::<Result<ScopeSet>>()?;
    if scopes.is_empty() {
        Err(Error::invalid("--scope", format!("names none of {}", ScopeSet::for_tenants())))
    } else {
        Ok(scopes)
    }
}
