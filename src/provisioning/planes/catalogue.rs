//! Registering planes, changing them, and letting go of them.

use chrono::TimeDelta;
use serde_json::json;

use super::{super::Provisioning, ApplicationPlane, Interest, store};
use crate::{
    access::Scope,
    error::{Error, Result},
    isolation::{Conditions, OperatorScope, OperatorTx},
    journal::Entry,
    oauth::OAuth,
    platform::ids::{ClientId, TenantId},
    tenancy::IsolationTier,
};

/// A plane to be.
#[derive(Clone, Debug)]
pub struct NewPlane {
    pub name: String,
    pub client_id: ClientId,
    pub is_essential: bool,
    pub deadline: TimeDelta,
    /// For one job in all; without it, ten times the deadline.
    pub longest: Option<TimeDelta>,
    pub position: i16,
    pub tiers: Vec<IsolationTier>,
    pub plans: Vec<String>,
    pub follows: Vec<Interest>,
}

/// What is to be different; none stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub client_id: Option<ClientId>,
    pub is_essential: Option<bool>,
    pub deadline: Option<TimeDelta>,
    pub longest: Option<TimeDelta>,
    pub position: Option<i16>,
    pub tiers: Option<Vec<IsolationTier>>,
    pub plans: Option<Vec<String>>,
    pub follows: Option<Vec<Interest>>,
}

/// Where a plane has no longest time of its own.
const DEADLINES_IN_ALL: i32 = 10;
/// Planes at most that are not retired: each is asked for every tenant.
const MOST_PLANES: usize = 50;
/// Positions from 0.
const POSITIONS: i16 = 100;

impl Provisioning {
    /// All planes, in the order in which they are asked; retired ones among them.
    pub async fn planes(&self, scope: &OperatorScope) -> Result<Vec<ApplicationPlane>> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        let planes = store::planes(&tx).await?;
        tx.commit_unrecorded("a read").await?;
        Ok(planes)
    }

    /// From now on the plane is asked for each tenant that it serves, for those that are there already, too.
    ///
    /// Errors: `invalid_input` with the field and its rule, `conflict` for a name or a client that is taken.
    pub async fn register_plane(
        &self,
        scope: &OperatorScope,
        new: NewPlane,
        conditions: &Conditions,
    ) -> Result<ApplicationPlane> {
        check_name(&new.name)?;
        let tx = self.0.isolation.begin_operator(scope).await?;
        if let Some(name) = tx.first_answer::<String>(conditions).await? {
            return answered(tx, &name).await;
        }
        let now = tx.stamp().at;
        let plane = ApplicationPlane {
            longest: new.longest.unwrap_or(new.deadline * DEADLINES_IN_ALL),
            name: new.name,
            client_id: new.client_id,
            is_essential: new.is_essential,
            deadline: new.deadline,
            position: new.position,
            tiers: new.tiers,
            plans: new.plans,
            follows: new.follows,
            version: 1,
            created_at: now,
            updated_at: now,
            retired_at: None,
        };
        self.check_plane(&tx, &plane, None).await?;
        if store::planes(&tx).await?.iter().filter(|plane| plane.retired_at.is_none()).count() >= MOST_PLANES {
            return Err(Error::conflict(format!("there are {MOST_PLANES} application planes; retire one first")));
        }
        store::insert_plane(&tx, &plane).await?;
        store::look_at_all(&tx, now).await?;
        tx.keep_answer(conditions, &plane.name).await?;
        let entry = Entry::new("ApplicationPlaneRegistered", "applicationPlane", &plane.name);
        tx.commit([entry.change(None, Some(&plane.record()))?]).await?;
        self.0.nudge.notify_one();
        Ok(plane)
    }

    /// What is changed counts from the next job on. Tenants that it comes to serve are asked for, and those that it serves no more are asked
    /// to be let go of.
    pub async fn change_plane(
        &self,
        scope: &OperatorScope,
        name: &str,
        change: Change,
        conditions: &Conditions,
    ) -> Result<ApplicationPlane> {
        self.replace_plane(scope, name, conditions, "ApplicationPlaneChanged", |plane| {
            let deadline = change.deadline.unwrap_or(plane.deadline);
            plane.client_id = change.client_id.unwrap_or(plane.client_id);
            plane.is_essential = change.is_essential.unwrap_or(plane.is_essential);
            plane.longest = change.longest.unwrap_or(plane.longest);
            plane.deadline = deadline;
            plane.position = change.position.unwrap_or(plane.position);
            plane.tiers = change.tiers.unwrap_or_else(|| plane.tiers.clone());
            plane.plans = change.plans.unwrap_or_else(|| plane.plans.clone());
            plane.follows = change.follows.unwrap_or_else(|| plane.follows.clone());
        })
        .await
    }

    /// Nobody gets it or waits for it any more; it is asked to take away what each tenant has there. There is no way back: who wants it again
    /// registers it under another name.
    pub async fn retire_plane(
        &self,
        scope: &OperatorScope,
        name: &str,
        conditions: &Conditions,
    ) -> Result<ApplicationPlane> {
        let now = self.0.isolation.clock().now();
        let retire = |plane: &mut ApplicationPlane| plane.retired_at = Some(plane.retired_at.unwrap_or(now));
        self.replace_plane(scope, name, conditions, "ApplicationPlaneRetired", retire).await
    }

    async fn replace_plane(
        &self,
        scope: &OperatorScope,
        name: &str,
        conditions: &Conditions,
        event: &'static str,
        decide: impl FnOnce(&mut ApplicationPlane) + Send,
    ) -> Result<ApplicationPlane> {
        let tx = self.0.isolation.begin_operator(scope).await?;
        if let Some(name) = tx.first_answer::<String>(conditions).await? {
            return answered(tx, &name).await;
        }
        let before = store::lock_plane(&tx, name).await?.ok_or_else(Error::not_found)?;
        conditions.check_version(before.version)?;
        let mut plane = before.clone();
        decide(&mut plane);
        if plane == before {
            tx.keep_answer(conditions, &plane.name).await?;
            tx.commit_unrecorded("nothing to do").await?;
            return Ok(before);
        }
        if before.retired_at.is_some() {
            return Err(Error::conflict("the application plane is retired").at("name"));
        }
        let now = tx.stamp().at;
        (plane.version, plane.updated_at) = (before.version + 1, now);
        self.check_plane(&tx, &plane, Some(&before)).await?;
        store::update_plane(&tx, &plane).await?;
        store::look_at_all(&tx, now).await?;
        tx.keep_answer(conditions, &plane.name).await?;
        let entry = Entry::new(event, "applicationPlane", &plane.name);
        tx.commit([entry.change(Some(&before.record()), Some(&plane.record()))?]).await?;
        self.0.nudge.notify_one();
        Ok(plane)
    }

    async fn check_plane(
        &self,
        tx: &OperatorTx,
        plane: &ApplicationPlane,
        before: Option<&ApplicationPlane>,
    ) -> Result<()> {
        check_times(plane)?;
        if !(0..POSITIONS).contains(&plane.position) {
            return Err(Error::invalid("position", format!("must be between 0 and {}", POSITIONS - 1)));
        }
        let known = self.0.tenancy.plans().await?;
        for (index, key) in plane.plans.iter().enumerate() {
            if !known.iter().any(|plan| plan.key == *key) {
                return Err(Error::invalid(format!("plans[{index}]"), "is no plan"));
            }
        }
        // One that was disabled since is no obstacle to retiring the plane.
        if before.is_some_and(|before| before.client_id == plane.client_id) {
            return Ok(());
        }
        check_client(tx, plane.client_id).await
    }
}

async fn answered(tx: OperatorTx, name: &str) -> Result<ApplicationPlane> {
    let plane = store::find_plane(&tx, name).await?.ok_or_else(Error::not_found)?;
    tx.commit_unrecorded("a read").await?;
    Ok(plane)
}

fn check_name(name: &str) -> Result<()> {
    let well_formed = (1..=50).contains(&name.len())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if well_formed {
        return Ok(());
    }
    Err(Error::invalid("name", "has 1 to 50 small letters, digits or '-', which is neither the first nor the last"))
}

fn check_times(plane: &ApplicationPlane) -> Result<()> {
    if !(TimeDelta::seconds(5)..=TimeDelta::days(7)).contains(&plane.deadline) {
        return Err(Error::invalid("deadline", "must be between PT5S and P7D"));
    }
    if !(plane.deadline..=TimeDelta::days(70)).contains(&plane.longest) {
        return Err(Error::invalid("longest", "must be between the deadline and P70D"));
    }
    Ok(())
}

/// A client that can do nothing but answer: what gets hold of its secret reaches nothing else.
async fn check_client(tx: &OperatorTx, id: ClientId) -> Result<()> {
    let scope = Scope::ProvisioningReport;
    let client = OAuth::client_of(tx, TenantId::PLATFORM, id).await?;
    let client = client.filter(|client| client.is_in_force(tx.stamp().at)).ok_or_else(|| {
        Error::invalid("clientId", "must be a client of the platform that is in force; see createOAuthClient")
    })?;
    let names: Vec<_> = client.scopes.iter().map(Scope::name).collect();
    if client.scopes.iter().eq([scope]) {
        return Ok(());
    }
    let rule = format!("must have the scope `{scope}` and no other: make one with the role `plane`");
    Err(Error::invalid("clientId", rule).with(json!({ "scopes": names })))
}
