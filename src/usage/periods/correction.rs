//! What corrects usage, and what came after its period was closed.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use uuid::Uuid;

use super::{
    super::{Dimensions, Usage, window::Bounds},
    store,
};
use crate::{
    error::{Error, Result},
    isolation::TenantScope,
    platform::page::{self, Page, PageRequest},
};

/// An event that was booked as it came, and is told one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// What makes a second one a duplicate.
    pub key: Uuid,
    pub dimension: String,
    /// When it counts.
    pub booked_at: DateTime<Utc>,
    /// When it was used, by its own time.
    pub occurred_at: DateTime<Utc>,
    pub received_at: DateTime<Utc>,
    pub quantity: Decimal,
    pub labels: BTreeMap<String, String>,
    /// Empty where nobody is named.
    pub subject: String,
    /// Empty where it came too late, and corrects nothing.
    pub reason: String,
}

impl Correction {
    pub(super) fn cursor(&self) -> String {
        page::encode(&(self.booked_at, self.key))
    }
}

impl Usage {
    /// Those that are booked from the first moment until before the second, the last booked first; of one dimension, where it is named.
    pub async fn corrections(
        &self,
        scope: &TenantScope,
        dimension: Option<&str>,
        (from, to): Bounds,
        request: &PageRequest,
    ) -> Result<Page<Correction>> {
        let catalogue = self.tenancy.snapshots().catalogue().await?;
        let dimensions = catalogue.part::<Dimensions>()?;
        let unknown = || Error::invalid("dimension", "is not in the catalogue of dimensions");
        let dimension = dimension.map(|key| dimensions.find(key).ok_or_else(unknown)).transpose()?;
        if from >= to {
            return Err(Error::invalid("to", "must be after `from`"));
        }
        let after = request.key::<(DateTime<Utc>, Uuid)>()?;
        let asked = store::Asked { dimension: dimension.map(|known| known.dimension_id), from, to, after };
        let tx = self.isolation.begin(scope).await?;
        let found = store::corrections(&tx, &asked, request.first + 1).await?;
        tx.commit_unrecorded("a read").await?;
        let named = |(id, mut correction): (i16, Correction)| {
            let known = dimensions.all().iter().find(|known| known.dimension_id == id);
            correction.dimension = known.ok_or_else(|| Error::internal("a dimension that nobody knows"))?.key.clone();
            Ok(correction)
        };
        Ok(request.page(found.into_iter().map(named).collect::<Result<_>>()?))
    }
}
