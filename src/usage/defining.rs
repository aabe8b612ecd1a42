//! Operators' own dimensions.

use super::{
    Usage,
    dimension::{self, Dimension, Dimensions},
};
use crate::{
    error::Result,
    isolation::{Conditions, OperatorScope},
    journal::Entry,
    platform::ids::TenantId,
};

impl Usage {
    /// The catalogue.
    pub async fn dimensions(&self) -> Result<Vec<Dimension>> {
        Ok(self.tenancy.snapshots().catalogue().await?.part::<Dimensions>()?.all().to_vec())
    }

    /// Adds a dimension to the catalogue. Its id, version and times are set here.
    pub async fn define(
        &self,
        scope: &OperatorScope,
        mut wanted: Dimension,
        conditions: &Conditions,
    ) -> Result<Dimension> {
        wanted.check()?;
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        (wanted.version, wanted.created_at, wanted.updated_at) = (1, tx.stamp().at, tx.stamp().at);
        dimension::insert(&tx, &mut wanted).await?;
        tx.keep_answer(conditions, &wanted).await?;
        tx.commit([Entry::new("UsageDimensionDefined", "usageDimension", &wanted.key).change(None, Some(&wanted))?])
            .await?;
        self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        Ok(wanted)
    }
}
