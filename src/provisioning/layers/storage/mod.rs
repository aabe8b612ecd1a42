//! The tenant's folder in an object storage: a local folder, S3, Google or Azure. An object that says whose it is makes it
//! visible, for such storages have no folders of their own.
//!
//! Of S3, services get credentials that AWS STS narrows to the tenant's folder. The other storages have none: there, services ask
//! the application, which knows the folder from the layer's facts.

mod intrusion;
mod open;
mod sts;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{ObjectStore, ObjectStoreExt as _, path::Path};
use serde_json::{Map, json};

use self::{open::Opened, sts::Sts};
use super::super::{Credential, Ensured, IssueOrder, Layer, Names, Probe, ProbeTenant, Probed, Removed, Site, Verdict};
use crate::{
    config,
    error::{Error, Kind, Result},
    isolation::Attempt,
    platform::clock::Clock,
};

/// The object that says whose folder it is.
const MARK: &str = ".tenantry";

/// Objects that a removal has in memory at once.
const BATCH: usize = 1000;

#[derive(Debug)]
pub struct StorageLayer {
    store: Box<dyn ObjectStore>,
    /// Folder of all tenants' folders.
    base: Path,
    /// The address without what is secret.
    shown: String,
    sts: Option<Sts>,
    settings: config::Storage,
}

impl StorageLayer {
    /// Errors: `invalid_input` for an address or an option that is none.
    pub fn new(settings: &config::Storage, clock: &Clock) -> Result<Self> {
        let Opened { store, base, shown, bucket } = open::open(settings)?;
        let sts = Sts::new(settings, bucket, &base, clock)?;
        Ok(Self { store, base, shown, sts, settings: settings.clone() })
    }

    fn folder(&self, names: &Names) -> Path {
        self.base.clone().join(names.stem())
    }

    fn mark(&self, names: &Names) -> Path {
        self.folder(names).join(MARK)
    }

    async fn look(&self, names: &Names) -> Result<Vec<String>> {
        let found = match self.store.get(&self.mark(names)).await {
            Ok(found) => found.bytes().await.map_err(failed)?,
            Err(object_store::Error::NotFound { .. }) => return Ok(vec![format!("make folder {}", names.stem())]),
            Err(error) => return Err(failed(error)),
        };
        if found == content(names) { Ok(Vec::new()) } else { Ok(vec![format!("say whose folder {} is", names.stem())]) }
    }
}

fn content(names: &Names) -> Bytes {
    json!({ "tenant": names.tenant() }).to_string().into()
}

fn failed(error: object_store::Error) -> Error {
    use object_store::Error as E;
    let sentence = match &error {
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
            "the storage refuses what Tenantry asks; look at storage.options"
        }
        E::NotFound { .. } => "the storage has no such bucket or folder; look at storage.url",
        _ => "the storage cannot be reached",
    };
    Error::new(Kind::Unavailable, sentence).because(error)
}

#[async_trait]
impl Layer for StorageLayer {
    fn name(&self) -> &'static str {
        "storage"
    }

    async fn plan(&self, site: &Site) -> Result<Vec<String>> {
        self.look(&site.names).await
    }

    async fn ensure(&self, site: &Site) -> Result<Ensured> {
        let changes = self.look(&site.names).await?;
        if !changes.is_empty() {
            self.store.put(&self.mark(&site.names), content(&site.names).into()).await.map_err(failed)?;
        }
        let mut facts = Map::new();
        facts.insert("storage".to_owned(), json!(self.shown));
        facts.insert("folder".to_owned(), json!(self.folder(&site.names).to_string()));
        Ok(Ensured { changes, facts })
    }

    async fn verify(&self, site: &Site) -> Result<Verdict> {
        Ok(Verdict::of(self.look(&site.names).await?))
    }

    async fn remove(&self, site: &Site) -> Result<Removed> {
        let (mut objects, mut bytes) = (0, 0);
        let mut listed = self.store.list(Some(&self.folder(&site.names))).try_chunks(BATCH);
        while let Some(batch) = listed.next().await {
            let (paths, sizes): (Vec<_>, Vec<_>) = batch
                .map_err(|error| failed(error.1))?
                .into_iter()
                .map(|object| (Ok(object.location), object.size))
                .unzip();
            let mut gone = self.store.delete_stream(stream::iter(paths).boxed()).zip(stream::iter(sizes));
            while let Some((deleted, size)) = gone.next().await {
                match deleted {
                    Ok(_) => (objects, bytes) = (objects + 1, bytes + size),
                    // Another worker was faster.
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        Ok(Removed::of([("objects", objects), ("bytes", bytes)]))
    }

    async fn residue(&self, site: &Site) -> Result<Vec<String>> {
        let count =
            self.store.list(Some(&self.folder(&site.names))).try_fold(0_u64, |count, _| async move { Ok(count + 1) });
        let count = count.await.map_err(failed)?;
        Ok((count > 0).then(|| format!("{count} objects")).into_iter().collect())
    }

    fn probed(&self) -> Probed {
        match self.sts {
            Some(_) => Probed::ByItself,
            None => Probed::Not("services get no credential of this storage"),
        }
    }

    async fn probe_isolation(&self, intruder: &ProbeTenant, victim: &ProbeTenant) -> Result<Vec<Attempt>> {
        self.intrude(intruder, victim).await
    }

    fn has_credentials(&self) -> bool {
        self.sts.is_some()
    }

    async fn issue(&self, site: &Site, order: &IssueOrder) -> Result<Option<Credential>> {
        let Some(sts) = &self.sts else { return Ok(None) };
        let mut credential = sts.assume(&site.names, order).await?;
        credential.details.insert("storage".to_owned(), self.shown.clone());
        credential.details.insert("folder".to_owned(), self.folder(&site.names).to_string());
        Ok(Some(credential))
    }

    /// Nothing has that name; what matters is that this is answered.
    async fn probe(&self) -> Result<Probe> {
        match self.store.head(&self.base.clone().join(".tenantry-sign-of-life")).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(Probe::Alive { mark: String::new() }),
            Err(error) => Err(failed(error)),
        }
    }
}
