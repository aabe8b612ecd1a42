//! What every layer is held to, over the list of layers: a new one is covered without being named here.

use std::sync::Arc;

use tenantry::{
    app::App,
    platform::ids::TenantId,
    provisioning::{Layer, Verdict, layers},
    tenancy::IsolationTier,
};

use super::{
    clusters::{Cluster, register},
    create,
    proxy::{Cuts, Fault, Proxy},
    tcp_proxy::TcpProxy,
};
use crate::support::{self, TestApp, moto::Moto, nats::NatsServer, redis::RedisServer};

/// All layers that there are, in an order that they can be made in.
const LAYERS: &[&str] =
    &["placement", "role", "database", "schema", "template", "vectors", "graph", "redis", "nats", "storage"];

/// How many of them are on cells.
const ON_CELLS: usize = 7;

/// A server on which nobody provisions, every other server behind a proxy, and the layers in their order.
struct Bench {
    app: TestApp,
    postgres: Proxy,
    redis: TcpProxy,
    nats: TcpProxy,
    /// None where there is no moto: objects are then kept in a folder, to which no call can be cut.
    storage: Option<TcpProxy>,
    layers: Vec<Arc<dyn Layer>>,
    tenants: u32,
    _servers: (Cluster, RedisServer, NatsServer, Option<Moto>),
}

impl Bench {
    async fn start() -> Self {
        let (redis_server, nats_server) = (RedisServer::keeping_users(), NatsServer::start());
        let extended = Cluster::with_extensions();
        let has_extensions = extended.is_some();
        if !has_extensions {
            support::again::missing("scripts/postgres-extensions: vectors and graphs");
        }
        let cluster = extended.unwrap_or_else(Cluster::start);
        let moto = Moto::with_storage().await;
        let (postgres, redis) = (Proxy::before(&cluster.socket()), TcpProxy::before(redis_server.address).await);
        let nats = TcpProxy::before(nats_server.address).await;
        let (storage, objects) = match &moto {
            Some(moto) => {
                let proxy = TcpProxy::before(moto.address.trim_start_matches("http://").parse().unwrap()).await;
                let settings = moto.storage_settings(&format!("http://{}", proxy.address));
                (Some(proxy), settings)
            }
            None => {
                println!("moto could not be had here: the storage's calls are not cut");
                (None, format!("[storage]\nurl = \"file://{}\"\n", support::folder().join("objects").display()))
            }
        };
        let url = redis_server.url_at(redis.address);
        let streams = nats_server.settings_at(nats.address);
        let settings = format!("{objects}{streams}[redis]\nurl = \"{url}\"\n[cells]\nacquire_timeout = \"5s\"\n");
        let app = TestApp::with(&settings).await;
        let admin = app.admin().await;
        register(&admin, "behind-a-proxy", "STANDARD", &postgres.url("postgres")).await;
        let template = "mutation { registerSchemaTemplate(input: {name: \"shop\", files: [
            {name: \"V1__items.sql\", sql: \"create table items (id bigint primary key)\"}]}) { template { version } } }";
        admin.ok(template, serde_json::json!({})).await;
        let App { tenant_keys, cells, templates, config, clock, .. } = &app.app;
        let mut known = layers::known(tenant_keys, (cells, templates), config, clock).unwrap();
        // Destroyed keys are not made again: they have a test of their own.
        known.retain(|layer| layer.name() != "keys");
        assert_eq!(known.len(), LAYERS.len(), "every layer that there is is tried");
        let order = |layer: &Arc<dyn Layer>| LAYERS.iter().position(|name| *name == layer.name()).unwrap();
        let mut layers = known;
        layers.retain(|layer| has_extensions || layer.extension().is_none());
        layers.sort_by_key(order);
        let servers = (cluster, redis_server, nats_server, moto);
        Self { app, postgres, redis, nats, storage, layers, tenants: 0, _servers: servers }
    }

    /// What stands between the layer and its server.
    fn line(&self, layer: &Arc<dyn Layer>) -> &dyn Cuts {
        match (layer.name(), &self.storage) {
            ("redis", _) => &self.redis,
            ("nats", _) => &self.nats,
            ("storage", Some(proxy)) => proxy,
            _ => &self.postgres,
        }
    }

    fn layers_of(&self, tier: IsolationTier) -> Vec<Arc<dyn Layer>> {
        self.layers.iter().filter(|layer| layer.serves(tier)).cloned().collect()
    }

    /// A tenant that has every layer before the `index`-th.
    async fn tenant(&mut self, tier: IsolationTier, index: usize) -> TenantId {
        self.tenants += 1;
        let name = if tier == IsolationTier::Standard { "STANDARD" } else { "ENTERPRISE" };
        let admin = self.app.admin().await;
        let tenant = create(&admin, &format!("bench-{}", self.tenants), name).await;
        for layer in &self.layers_of(tier)[..index] {
            self.ensure(layer, tenant).await.unwrap();
        }
        tenant
    }

    async fn ensure(&self, layer: &Arc<dyn Layer>, tenant: TenantId) -> tenantry::error::Result<Vec<String>> {
        let site = self.app.app.provisioning.site_of(tenant).await?;
        Ok(layer.ensure(&site).await?.changes)
    }

    async fn verify(&self, layer: &Arc<dyn Layer>, tenant: TenantId) -> Verdict {
        let site = self.app.app.provisioning.site_of(tenant).await.unwrap();
        layer.verify(&site).await.unwrap()
    }

    async fn remove(&self, layer: &Arc<dyn Layer>, tenant: TenantId) -> tenantry::error::Result<bool> {
        let site = self.app.app.provisioning.site_of(tenant).await?;
        Ok(!layer.remove(&site).await?.is_nothing())
    }

    async fn residue(&self, layer: &Arc<dyn Layer>, tenant: TenantId) -> Vec<String> {
        let site = self.app.app.provisioning.site_of(tenant).await.unwrap();
        layer.residue(&site).await.unwrap()
    }
}

/// One of two workers may be thrown out by the other, as from a database that is dropped; it is then told to try again.
fn at_least_one(name: &str, one: tenantry::error::Result<()>, other: tenantry::error::Result<()>) {
    assert!(one.is_ok() || other.is_ok(), "{name}: {one:?} {other:?}");
    for error in [one, other].into_iter().filter_map(Result::err) {
        assert!(error.kind().retryable(), "{name}: {error:?}");
    }
}

const TIERS: [IsolationTier; 2] = [IsolationTier::Standard, IsolationTier::Enterprise];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_layer_can_be_repeated_removed_twice_and_run_by_two_workers_at_once() {
    let mut bench = Bench::start().await;
    for tier in TIERS {
        for (index, layer) in bench.layers_of(tier).iter().enumerate() {
            let name = format!("{} of {tier:?}", layer.name());
            let tenant = bench.tenant(tier, index).await;
            assert!(!bench.remove(layer, tenant).await.unwrap(), "{name}: nothing is there to remove");
            let site = bench.app.app.provisioning.site_of(tenant).await.unwrap();
            assert!(!layer.plan(&site).await.unwrap().is_empty(), "{name}: a plan says what is to be made");
            assert!(!bench.ensure(layer, tenant).await.unwrap().is_empty(), "{name}: it is made");
            assert_eq!(bench.verify(layer, tenant).await, Verdict::InPlace, "{name}");
            assert_eq!(bench.ensure(layer, tenant).await.unwrap(), [""; 0], "{name}: it is there already");
            assert!(!bench.residue(layer, tenant).await.is_empty(), "{name}: it bears the tenant's id");
            assert!(bench.remove(layer, tenant).await.unwrap(), "{name}: something is removed");
            assert!(!bench.remove(layer, tenant).await.unwrap(), "{name}: nothing is left to remove");
            assert_eq!(bench.residue(layer, tenant).await, [""; 0], "{name}");
            let (one, other) = tokio::join!(bench.ensure(layer, tenant), bench.ensure(layer, tenant));
            at_least_one(&name, one.map(drop), other.map(drop));
            bench.ensure(layer, tenant).await.unwrap();
            assert_eq!(bench.verify(layer, tenant).await, Verdict::InPlace, "{name}: two workers");
            let (one, other) = tokio::join!(bench.remove(layer, tenant), bench.remove(layer, tenant));
            at_least_one(&name, one.map(drop), other.map(drop));
            bench.remove(layer, tenant).await.unwrap();
            assert_eq!(bench.residue(layer, tenant).await, [""; 0], "{name}: two workers");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_layer_converges_from_a_failure_at_each_of_its_outside_calls() {
    let mut bench = Bench::start().await;
    for tier in TIERS {
        for (index, layer) in bench.layers_of(tier).iter().enumerate() {
            // Beside PostgreSQL one tier is like another.
            if tier != TIERS[0] && index >= ON_CELLS {
                continue;
            }
            let tenant = bench.tenant(tier, index).await;
            for fault in [Fault::CutBefore, Fault::CutAfter] {
                let calls = bench.cut_making(layer, tenant, fault).await;
                let removing = bench.cut_removing(layer, tenant, fault).await;
                println!("{} of {tier:?}: {fault:?} at {calls} calls of ensure, {removing} of remove", layer.name());
                let least = match layer.name() {
                    "placement" => 0,
                    "storage" if bench.storage.is_none() => 0,
                    "storage" => 2,
                    _ => 4,
                };
                assert!(calls >= least && removing >= least, "{}", layer.name());
            }
        }
    }
}

impl Bench {
    /// Cuts `ensure` at each call in turn. Half-made, it is removed once and made once. Answers how many calls there are.
    async fn cut_making(&self, layer: &Arc<dyn Layer>, tenant: TenantId, fault: Fault) -> usize {
        for n in 1.. {
            self.line(layer).arm(n, fault);
            let made = self.ensure(layer, tenant).await;
            let Some(hit) = self.line(layer).disarm() else {
                made.unwrap();
                self.remove(layer, tenant).await.unwrap();
                return n - 1;
            };
            // What was done and not heard of may be seen to be there.
            assert!(made.is_err() || fault == Fault::CutAfter, "{}: the failure at {hit:?} shows", layer.name());
            self.remove(layer, tenant).await.unwrap();
            assert_eq!(self.residue(layer, tenant).await, [""; 0], "{}: removed, half-made at {hit:?}", layer.name());
            self.line(layer).arm(n, fault);
            let _ = self.ensure(layer, tenant).await;
            self.line(layer).disarm();
            self.ensure(layer, tenant).await.unwrap();
            assert_eq!(self.verify(layer, tenant).await, Verdict::InPlace, "{}: made, after {hit:?}", layer.name());
            self.remove(layer, tenant).await.unwrap();
        }
        unreachable!()
    }

    async fn cut_removing(&self, layer: &Arc<dyn Layer>, tenant: TenantId, fault: Fault) -> usize {
        for n in 1.. {
            self.ensure(layer, tenant).await.unwrap();
            self.line(layer).arm(n, fault);
            let removed = self.remove(layer, tenant).await;
            let Some(hit) = self.line(layer).disarm() else {
                removed.unwrap();
                return n - 1;
            };
            assert!(removed.is_err() || fault == Fault::CutAfter, "{}: {hit:?}", layer.name());
            self.remove(layer, tenant).await.unwrap();
            assert_eq!(self.residue(layer, tenant).await, [""; 0], "{}: removed, after {hit:?}", layer.name());
        }
        unreachable!()
    }
}
