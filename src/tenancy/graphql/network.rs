//! Network rules in the schema.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};

use super::{conditions, enter, handle};
use crate::{
    error::Error,
    isolation::NetworkRules as Rules,
    tenancy::{NetworkOrder, graphql::enter_own_or},
};

#[derive(Debug, InputObject)]
pub struct NetworkRangeInput {
    /// What people call it, such as the VPN that ends there; 1 to 100 characters.
    name: String,
    /// An address, or a range in CIDR notation (RFC 4632, RFC 4291) without bits beyond its prefix: `203.0.113.0/24`, `2001:db8::/32`.
    network: String,
}

#[derive(Debug, InputObject)]
pub struct SetNetworkRulesInput {
    /// The tenant; the caller's own where it is not given.
    tenant_id: Option<ID>,
    /// From where the tenant is reached, at most 200 ranges. Empty: from everywhere.
    allowed: Vec<NetworkRangeInput>,
    /// Addresses and ranges of the tenant's own proxies, whose `X-Forwarded-For` is believed for these rules.
    #[graphql(default)]
    trusted_proxies: Vec<String>,
    /// Sets the rules though they lock out who sets them.
    #[graphql(default)]
    force: bool,
    /// The tenant's version that you saw last: `conflict` if there is another.
    expected_version: Option<i64>,
}

#[derive(Debug, SimpleObject)]
pub struct NetworkRange {
    name: String,
    network: String,
}

/// From where a tenant is reached with tokens of its own, and of tenants that act on it. Operators come from everywhere.
#[derive(Debug, SimpleObject)]
pub struct NetworkRules {
    /// Empty: from everywhere.
    allowed: Vec<NetworkRange>,
    trusted_proxies: Vec<String>,
    /// The tenant's version.
    version: i64,
}

#[derive(Debug, SimpleObject)]
pub struct NetworkRulesPayload {
    network_rules: NetworkRules,
}

#[derive(Debug, Default)]
pub struct NetworkQuery;

#[Object]
impl NetworkQuery {
    /// The tenant's network rules.
    ///
    /// Scope: `auth:network:read`.
    async fn network_rules(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<NetworkRules> {
        let scope = enter_own_or(ctx, "Query", tenant_id.as_ref()).await?;
        let scope = scope.ok_or_else(|| Error::invalid("tenantId", "is needed: the caller is bound to no tenant"))?;
        let tenant = handle(ctx)?.get(&scope).await?;
        Ok(told(&tenant.network, tenant.version))
    }
}

#[derive(Debug, Default)]
pub struct NetworkMutation;

#[Object]
impl NetworkMutation {
    /// Sets from where a tenant is reached: with its own tokens and with those of tenants that act on it, at every interface, and where tokens
    /// are given out. It holds on every server when it is answered, for what is open, too. Elsewhere the answer is `forbidden`, with the
    /// `address` that was seen.
    ///
    /// Errors: `conflict` at `allowed` where it would lock out who sets it, unless forced; `invalid_input` at the range.
    ///
    /// Scope: `auth:network:write`.
    async fn set_network_rules(&self, ctx: &Context<'_>, input: SetNetworkRulesInput) -> Result<NetworkRulesPayload> {
        let scope = match &input.tenant_id {
            Some(tenant) => enter(ctx, "Mutation", tenant).await?,
            None => enter_own_or(ctx, "Mutation", None)
                .await?
                .ok_or_else(|| Error::invalid("tenantId", "is needed: the caller is bound to no tenant"))?,
        };
        let conditions = conditions(ctx, input.expected_version);
        let order = NetworkOrder {
            allowed: input.allowed.into_iter().map(|range| (range.name, range.network)).collect(),
            trusted_proxies: input.trusted_proxies,
            force: input.force,
        };
        let tenant = handle(ctx)?.set_network_rules(&scope, order, &conditions).await?;
        Ok(NetworkRulesPayload { network_rules: told(&tenant.network, tenant.version) })
    }
}

fn told(rules: &Rules, version: i64) -> NetworkRules {
    let range = |known: &crate::isolation::NamedNetwork| NetworkRange {
        name: known.name.clone(),
        network: known.network.to_string(),
    };
    NetworkRules {
        allowed: rules.allowed.iter().map(range).collect(),
        trusted_proxies: rules.trusted_proxies.iter().map(ToString::to_string).collect(),
        version,
    }
}
