//! The tables of the tenant's schema: those of the schema template that its plan has. Made once; further migrations are for
//! rollouts, and what is not as the template has it is told, not mended: it may be what somebody needs.

use async_trait::async_trait;
use serde_json::{Map, json};

use super::{
    super::{Ensured, Layer, Probed, Removed, Site, Verdict},
    postgres::{close_logins, database_exists, db_of},
};
use crate::{
    cells::Cells,
    error::Result,
    templates::{Home, Templates},
};

#[derive(Debug)]
pub struct TemplateLayer {
    cells: Cells,
    templates: Templates,
}

impl TemplateLayer {
    pub fn new(cells: Cells, templates: Templates) -> Self {
        Self { cells, templates }
    }

    fn home<'a>(&self, site: &'a Site) -> Result<Home<'a>> {
        let (placement, cell) = site.placed()?;
        let db = db_of(&self.cells, site)?;
        Ok(Home { tenant: &site.tenant, db, database: &placement.database_name, server: cell.facts.version })
    }
}

#[async_trait]
impl Layer for TemplateLayer {
    fn name(&self) -> &'static str {
        "template"
    }

    async fn plan(&self, site: &Site) -> Result<Vec<String>> {
        let Some(placement) = &site.placement else { return self.templates.outlook(&site.tenant).await };
        let home = self.home(site)?;
        if !database_exists(&home.db, &placement.database_name).await? {
            return self.templates.outlook(&site.tenant).await;
        }
        match self.templates.inspect(&home).await?.missing {
            Some(_) => self.templates.outlook(&site.tenant).await,
            None => Ok(Vec::new()),
        }
    }

    async fn ensure(&self, site: &Site) -> Result<Ensured> {
        let changes = self.templates.provide(&self.home(site)?).await?;
        let mut facts = Map::new();
        if let Some(change) = changes.first() {
            facts.insert("made".to_owned(), json!(change));
        }
        Ok(Ensured { changes, facts })
    }

    async fn verify(&self, site: &Site) -> Result<Verdict> {
        let inspection = self.templates.inspect(&self.home(site)?).await?;
        Ok(match inspection.missing {
            Some(template) => Verdict::Drifted(vec![format!("the schema has not the template {template} yet")]),
            None if inspection.drift.is_empty() => Verdict::InPlace,
            None => Verdict::Told(inspection.drift),
        })
    }

    async fn remove(&self, site: &Site) -> Result<Removed> {
        let Some(placement) = &site.placement else {
            self.templates.forget(site.tenant.id).await?;
            return Ok(Removed::default());
        };
        let home = self.home(site)?;
        if !database_exists(&home.db, &placement.database_name).await? {
            self.templates.forget(site.tenant.id).await?;
            return Ok(Removed::default());
        }
        close_logins(&home.db, &site.names).await?;
        let emptied = self.templates.withdraw(&home).await?;
        Ok(emptied.map_or_else(Removed::default, |emptied| {
            Removed::of([("templates", 1), ("tables", emptied.tables), ("other relations", emptied.others)])
        }))
    }

    fn probed(&self) -> Probed {
        Probed::With("schema")
    }

    async fn residue(&self, site: &Site) -> Result<Vec<String>> {
        let is_known = self.templates.is_known(site.tenant.id).await?;
        Ok(is_known.then(|| "a schema made of a template".to_owned()).into_iter().collect())
    }
}
