//! What plans require of the data plane: layers that stand on an extension of the cell's PostgreSQL.

use std::sync::Arc;

use futures::FutureExt as _;

use super::{Layer, Provisioning};
use crate::{
    error::{Error, Result},
    tenancy::Plan,
};

impl Provisioning {
    /// The extensions that tenants of the plan cannot do without.
    pub fn extensions_of(&self, plan: &Plan) -> Vec<&'static str> {
        extensions(&self.0.layers, plan)
    }

    /// From now on a plan, a new tenant and a change of plan are refused where what is required cannot be had.
    pub(super) fn check_what_plans_require(&self) {
        // The layers know the tenants: held here, neither would ever be let go of.
        let inner = Arc::downgrade(&self.0);
        self.0.tenancy.check_requirements_with(Arc::new(move |tx, plan, tenant| {
            let inner = inner.clone();
            async move {
                let inner = inner.upgrade().ok_or_else(|| Error::unavailable("the server is shutting down"))?;
                check_names(&inner.layers, plan, if tenant.is_some() { "plan" } else { "requiredLayers" })?;
                match tenant {
                    Some(tenant) => inner.cells.check_extensions(tx, tenant, &extensions(&inner.layers, plan)).await,
                    None => Ok(()),
                }
            }
            .boxed()
        }));
    }
}

fn extensions(layers: &[Arc<dyn Layer>], plan: &Plan) -> Vec<&'static str> {
    let required = layers.iter().filter(|layer| plan.required_layers.0.iter().any(|name| name == layer.name()));
    required.filter_map(|layer| layer.extension()).collect()
}

fn check_names(layers: &[Arc<dyn Layer>], plan: &Plan, field: &'static str) -> Result<()> {
    let can_be_required: Vec<_> =
        layers.iter().filter(|layer| layer.extension().is_some()).map(|layer| layer.name()).collect();
    let strange = plan.required_layers.0.iter().find(|name| !can_be_required.contains(&name.as_str()));
    let Some(strange) = strange else { return Ok(()) };
    let there = if can_be_required.is_empty() {
        "this server makes none; see provisioning.layers".to_owned()
    } else {
        format!("there are {}", can_be_required.join(", "))
    };
    Err(Error::invalid(field, format!("requires the layer {strange:?}, which cannot be required here: {there}")))
}
