//! A tenant as its readers have it: whole, or as a row of a list, the rest of which is read when somebody asks for it.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    fmt,
    marker::PhantomData,
    sync::{Arc, Mutex, PoisonError},
};

use async_graphql::dataloader::{DataLoader, Loader};
use tokio::sync::OnceCell;

use super::{Snapshot, Tenancy, Wanted, list::Summary, tenant::Tenant};
use crate::{
    error::{Error, Result},
    isolation::OperatorScope,
    platform::ids::TenantId,
};

/// Clones share it. What lists read of a tenant is there at once; the wide columns (profile, labels, terms, free sections)
/// of all tenants of a page are read together, the first time that one of them is wanted. So is what capabilities have of
/// them: see [`TenantPage`].
#[derive(Clone, Debug)]
pub struct TenantView(Arc<View>);

#[derive(Debug)]
struct View {
    summary: Summary,
    whole: OnceCell<Arc<Tenant>>,
    page: Option<Arc<TenantPage>>,
}

impl TenantView {
    /// The tenants of one page of a list.
    pub fn of_page(tenancy: &Tenancy, scope: &OperatorScope, rows: Vec<Summary>) -> Vec<Self> {
        let whole = WholeTenants { tenancy: tenancy.clone(), scope: scope.clone() };
        let page = Arc::new(TenantPage {
            tenants: rows.iter().map(|row| row.id).collect(),
            rest: Rest(Arc::new(DataLoader::new(whole, tokio::spawn))),
            shared: Mutex::default(),
        });
        let view = |summary| View { summary, whole: OnceCell::new(), page: Some(page.clone()) };
        rows.into_iter().map(|row| Self(Arc::new(view(row)))).collect()
    }

    pub fn id(&self) -> TenantId {
        self.0.summary.id
    }

    pub fn summary(&self) -> &Summary {
        &self.0.summary
    }

    /// The page that it is of; `None` where it was asked for by itself.
    pub fn page(&self) -> Option<&TenantPage> {
        self.0.page.as_deref()
    }

    /// What is known of the tenant, from memory as far as it is there; for a page of all tenants together, and of those that memory
    /// does not have only the parts that are wanted.
    pub async fn snapshot<W: Wanted>(&self, tenancy: &Tenancy, scope: &OperatorScope) -> Result<Arc<Snapshot>> {
        let id = self.id();
        let found = match self.page() {
            Some(page) => page.snapshots::<W>(tenancy, scope).await?.0.get(&id).cloned(),
            None => tenancy.snapshots().get(id).await?,
        };
        found.ok_or_else(Error::not_found)
    }

    pub async fn whole(&self) -> Result<&Arc<Tenant>> {
        match self.0.whole.get() {
            Some(whole) => Ok(whole),
            None => Box::pin(self.0.whole.get_or_try_init(|| self.read())).await,
        }
    }

    async fn read(&self) -> Result<Arc<Tenant>> {
        let Some(Rest(page)) = self.page().map(|page| &page.rest) else {
            return Err(Error::internal("a tenant that is not of a page is whole from the start"));
        };
        let found = page.load_one(self.id()).await.map_err(|error| Error::internal(error.to_string()))?;
        found.ok_or_else(Error::not_found)
    }
}

impl From<Arc<Tenant>> for TenantView {
    fn from(tenant: Arc<Tenant>) -> Self {
        Self(Arc::new(View { summary: Summary::from(&*tenant), whole: OnceCell::new_with(Some(tenant)), page: None }))
    }
}

type Shared = Arc<OnceCell<Result<Arc<dyn Any + Send + Sync>, Arc<Error>>>>;

/// The tenants of one page, and what was read of all of them: once, by who asked first.
pub struct TenantPage {
    tenants: Vec<TenantId>,
    rest: Rest,
    shared: Mutex<HashMap<TypeId, Shared>>,
}

impl TenantPage {
    pub fn tenants(&self) -> &[TenantId] {
        &self.tenants
    }

    /// What `read` finds for all tenants of the page: called for the first who asks for a `T`; the others wait for that.
    pub async fn together<T, F>(&self, read: impl FnOnce() -> F) -> Result<Arc<T>>
    where
        T: Send + Sync + 'static,
        F: Future<Output = Result<T>>,
    {
        let cell = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.entry(TypeId::of::<T>()).or_default().clone()
        };
        let read = async || read().await.map(|found| Arc::new(found) as Arc<dyn Any + Send + Sync>).map_err(Arc::new);
        match cell.get_or_init(read).await {
            Ok(found) => found.clone().downcast().map_err(|_| Error::internal("a page has something else of a type")),
            Err(error) => Err(Error::new(error.kind(), error.message().to_owned())),
        }
    }

    /// What is known of its tenants, with the parts that are wanted.
    pub async fn snapshots<W: Wanted>(&self, tenancy: &Tenancy, scope: &OperatorScope) -> Result<Arc<KnownTenants<W>>> {
        let read = async || tenancy.snapshots().get_several::<W>(scope, &self.tenants).await;
        self.together(async || Ok(KnownTenants(read().await?, PhantomData))).await
    }
}

/// Snapshots of a page with the parts of `W`: what others want of the page is read by itself.
#[derive(Debug)]
pub struct KnownTenants<W>(pub HashMap<TenantId, Arc<Snapshot>>, PhantomData<W>);

impl fmt::Debug for TenantPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TenantPage").field(&self.tenants).finish()
    }
}

#[derive(Clone)]
struct Rest(Arc<DataLoader<WholeTenants>>);

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rest")
    }
}

struct WholeTenants {
    tenancy: Tenancy,
    scope: OperatorScope,
}

impl Loader<TenantId> for WholeTenants {
    type Value = Arc<Tenant>;
    type Error = Arc<Error>;

    async fn load(&self, ids: &[TenantId]) -> Result<HashMap<TenantId, Arc<Tenant>>, Arc<Error>> {
        let tenants = self.tenancy.get_several(&self.scope, ids).await.map_err(Arc::new)?;
        Ok(tenants.into_iter().map(|tenant| (tenant.id, Arc::new(tenant))).collect())
    }
}
