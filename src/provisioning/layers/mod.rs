//! The layers that this binary has, one file each.

mod database;
mod graph;
mod keys;
mod nats;
mod placement;
mod postgres;
mod redis;
mod role;
mod schema;
mod storage;
mod template;
mod vectors;

use std::sync::Arc;

pub use self::{
    database::DatabaseLayer, graph::GraphLayer, keys::KeysLayer, nats::NatsLayer, placement::PlacementLayer,
    postgres::verifier as scram_verifier, redis::RedisLayer, role::RoleLayer, schema::SchemaLayer,
    storage::StorageLayer, template::TemplateLayer, vectors::VectorsLayer,
};
use super::Layer;
use crate::{
    cells::Cells, config::Config, error::Result, platform::clock::Clock, templates::Templates, tenant_keys::TenantKeys,
};

/// All that are set up, in no order; the configuration says which are used, and in what order.
pub fn known(
    keys: &TenantKeys,
    (cells, templates): (&Cells, &Templates),
    config: &Config,
    clock: &Clock,
) -> Result<Vec<Arc<dyn Layer>>> {
    let rules = &config.provisioning;
    let mut layers: Vec<Arc<dyn Layer>> = vec![
        Arc::new(KeysLayer::new(keys.clone())),
        Arc::new(PlacementLayer::new(cells.clone())),
        Arc::new(RoleLayer::new(cells.clone(), rules)),
        Arc::new(DatabaseLayer::new(cells.clone())),
        Arc::new(SchemaLayer::new(cells.clone(), rules)),
        Arc::new(TemplateLayer::new(cells.clone(), templates.clone())),
        Arc::new(VectorsLayer::new(cells.clone())),
        Arc::new(GraphLayer::new(cells.clone())),
    ];
    if config.redis.is_on() {
        layers.push(Arc::new(RedisLayer::new(&config.redis)?));
    }
    if config.nats.is_on() {
        layers.push(Arc::new(NatsLayer::new(&config.nats, clock)?));
    }
    if config.storage.is_on() {
        layers.push(Arc::new(StorageLayer::new(&config.storage, clock)?));
    }
    Ok(layers)
}
