//! A dry run: what would be done for a tenant now.

use async_graphql::SimpleObject;

use super::{Provisioning, layer::Availability, store};
use crate::{
    error::{Error, Result},
    isolation::TenantScope,
};

/// What would be done for one layer.
#[derive(Clone, Debug, SimpleObject)]
pub struct PlannedLayer {
    /// The layer's name.
    pub layer: String,
    /// Whether the tenant is held back without it.
    pub essential: bool,
    /// Why it cannot be made where the tenant is; null where it can.
    pub unavailable: Option<String>,
    /// One sentence for each thing that would be made or mended; none where all is there.
    pub steps: Vec<String>,
}

impl Provisioning {
    /// What the next turn would do for the tenant; nothing is changed.
    ///
    /// Errors: `unavailable` where the tenant's cell cannot be asked.
    pub async fn plan(&self, scope: &TenantScope) -> Result<Vec<PlannedLayer>> {
        let tenant = self.tenant(scope.tenant()).await?.ok_or_else(Error::not_found)?;
        let tx = self.0.isolation.observe(tenant.id).await?;
        let records = store::records(&tx, tenant.id).await?;
        tx.end().await?;
        let plan = self.0.tenancy.plan(&tenant.plan).await?;
        let mut planned = Vec::new();
        for layer in self.0.layers.iter().filter(|layer| layer.serves(tenant.isolation_tier)) {
            let record = records.iter().find(|record| record.layer == layer.name());
            let site = self.site(&tenant, record).await?;
            let unavailable = match &site.placement {
                None => None,
                Some(_) => match layer.availability(&site).await? {
                    Availability::Here => None,
                    Availability::NotHere(why) => Some(why),
                },
            };
            planned.push(PlannedLayer {
                layer: layer.name().to_owned(),
                essential: self.is_essential(&**layer, &plan),
                steps: if unavailable.is_some() { Vec::new() } else { layer.plan(&site).await? },
                unavailable,
            });
        }
        planned.extend(self.plan_of_planes(&tenant).await?);
        Ok(planned)
    }
}
