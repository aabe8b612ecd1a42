//! The layers that this binary has, one file each.

mod database;
mod placement;
mod postgres;
mod role;
mod schema;
mod template;

use std::sync::Arc;

pub use self::{
    database::DatabaseLayer, placement::PlacementLayer, role::RoleLayer, schema::SchemaLayer, template::TemplateLayer,
};
use super::Layer;
use crate::{cells::Cells, config, templates::Templates};

/// All of them, in no order; the configuration says which are used, and in what order.
pub fn known(cells: &Cells, templates: &Templates, rules: &config::Provisioning) -> Vec<Arc<dyn Layer>> {
    vec![
        Arc::new(PlacementLayer::new(cells.clone())),
        Arc::new(RoleLayer::new(cells.clone(), rules)),
        Arc::new(DatabaseLayer::new(cells.clone())),
        Arc::new(SchemaLayer::new(cells.clone(), rules)),
        Arc::new(TemplateLayer::new(cells.clone(), templates.clone())),
    ]
}
