//! Operators' own dimensions, and what may change of any.

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

    /// Changes what a dimension says of itself, for events from now on. How its figures and units come about stays: past ones were
    /// told and billed by it.
    pub async fn update_dimension(
        &self,
        scope: &OperatorScope,
        key: &str,
        conditions: &Conditions,
        decide: impl FnOnce(&mut Dimension) + Send,
    ) -> Result<Dimension> {
        let tx = self.isolation.begin_operator(scope).await?;
        if let Some(answered) = tx.first_answer(conditions).await? {
            return Ok(answered);
        }
        let before = dimension::lock(&tx, key).await?;
        conditions.check_version(before.version)?;
        let mut wanted = before.clone();
        decide(&mut wanted);
        wanted.check()?;
        (wanted.version, wanted.updated_at) = (before.version + 1, tx.stamp().at);
        dimension::update(&tx, &wanted).await?;
        tx.keep_answer(conditions, &wanted).await?;
        let entry = Entry::new("UsageDimensionUpdated", "usageDimension", key).change(Some(&before), Some(&wanted))?;
        tx.commit([entry]).await?;
        self.tenancy.snapshots().refresh(TenantId::PLATFORM).await;
        Ok(wanted)
    }
}
