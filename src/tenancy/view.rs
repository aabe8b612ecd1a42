//! A tenant as its readers have it: whole, or as a row of a list, the rest of which is read when somebody asks for it.

use std::{collections::HashMap, fmt, sync::Arc};

use async_graphql::dataloader::{DataLoader, Loader};
use tokio::sync::OnceCell;

use super::{Tenancy, list::Summary, tenant::Tenant};
use crate::{
    error::{Error, Result},
    isolation::OperatorScope,
    platform::ids::TenantId,
};

/// Clones share it. What lists read of a tenant is there at once; the wide columns (profile, labels, terms, free sections)
/// of all tenants of a page are read together, the first time that one of them is wanted.
#[derive(Clone, Debug)]
pub struct TenantView(Arc<View>);

#[derive(Debug)]
struct View {
    summary: Summary,
    whole: OnceCell<Arc<Tenant>>,
    page: Option<Rest>,
}

impl TenantView {
    /// The tenants of one page of a list.
    pub fn of_page(tenancy: &Tenancy, scope: &OperatorScope, rows: Vec<Summary>) -> Vec<Self> {
        let whole = WholeTenants { tenancy: tenancy.clone(), scope: scope.clone() };
        let rest = Rest(Arc::new(DataLoader::new(whole, tokio::spawn)));
        let view = |summary| View { summary, whole: OnceCell::new(), page: Some(rest.clone()) };
        rows.into_iter().map(|row| Self(Arc::new(view(row)))).collect()
    }

    pub fn id(&self) -> TenantId {
        self.0.summary.id
    }

    pub fn summary(&self) -> &Summary {
        &self.0.summary
    }

    pub async fn whole(&self) -> Result<&Arc<Tenant>> {
        self.0.whole.get_or_try_init(|| self.read()).await
    }

    async fn read(&self) -> Result<Arc<Tenant>> {
        let Some(Rest(page)) = &self.0.page else {
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
