//! Which cell a tenant gets: a pure function of the tenant and of the cells, with the reason for people.

use std::cmp::Ordering;

use serde_json::json;

use super::{Cell, CellHealth, CellState, Extension};
use crate::{
    error::{Error, Kind, Result},
    platform::ids::{CellId, TenantId},
    tenancy::{IsolationTier, Tenant},
};

/// What a tenant asks of its cell.
#[derive(Clone, Debug)]
pub struct Wish {
    pub tenant: TenantId,
    pub tier: IsolationTier,
    /// Preferred among those that are allowed.
    pub home: String,
    /// Regions outside which nothing of the tenant may be.
    pub allowed: Vec<String>,
    /// Extensions that it cannot do without.
    pub extensions: Vec<String>,
    /// Who cannot, for people.
    pub required_by: &'static str,
}

/// What matters of a cell.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub cell: CellId,
    pub name: String,
    pub region: String,
    pub tier: IsolationTier,
    pub capacity: i64,
    pub placed: i64,
    pub reserved_for: Option<TenantId>,
    pub takes_tenants: bool,
    pub is_healthy: bool,
    pub makes_databases: bool,
    pub extensions: Vec<Extension>,
}

/// The cell, and why this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub cell: CellId,
    pub region: String,
    pub reason: String,
}

impl From<&Cell> for Candidate {
    fn from(cell: &Cell) -> Self {
        Self {
            cell: cell.id,
            name: cell.name.clone(),
            region: cell.region.clone(),
            tier: cell.tier,
            capacity: cell.capacity,
            placed: cell.placed,
            reserved_for: cell.reserved_for,
            takes_tenants: cell.state == CellState::Active,
            is_healthy: cell.health != CellHealth::Unhealthy,
            makes_databases: cell.facts.makes_databases,
            extensions: cell.facts.extensions.clone(),
        }
    }
}

impl Wish {
    pub fn of(tenant: &Tenant, extensions: &[&str]) -> Self {
        Self {
            tenant: tenant.id,
            tier: tenant.isolation_tier,
            home: tenant.region.clone(),
            allowed: residency(tenant),
            extensions: extensions.iter().map(|name| (*name).to_owned()).collect(),
            required_by: "which the plan requires",
        }
    }

    /// Those of its extensions that it would not find on `cell`.
    pub(super) fn missing<'a>(&'a self, cell: &Candidate) -> Vec<&'a str> {
        let has = |name: &str| cell.extensions.iter().any(|found| found.name == name && found.serves(self.tier));
        self.extensions.iter().map(String::as_str).filter(|name| !has(name)).collect()
    }
}

/// The regions that a tenant's data may be in: `data_residency` of its section `compliance`, else its home alone.
pub fn residency(tenant: &Tenant) -> Vec<String> {
    let listed = tenant.sections.0.get("compliance").and_then(|compliance| compliance.get("data_residency"));
    let listed = listed.and_then(serde_json::Value::as_array);
    let regions =
        listed.map(|regions| regions.iter().filter_map(|region| region.as_str()).map(str::to_owned).collect());
    regions.unwrap_or_else(|| vec![tenant.region.clone()])
}

/// The best of `cells`: by tier, region, residency, load.
///
/// Errors: `residency_violation` where there are cells, but none where the tenant may be; `unavailable` where no cell there has
/// room, is of a fitting tier, or is well. The tenant waits until there is one.
pub fn choose(wish: &Wish, cells: &[Candidate]) -> Result<Choice> {
    let within: Vec<_> = cells.iter().filter(|cell| wish.allowed.contains(&cell.region)).collect();
    if within.is_empty() && !cells.is_empty() {
        let rule = format!("the tenant may be in {} only, and no cell is there", wish.allowed.join(", "));
        return Err(Error::new(Kind::ResidencyViolation, rule).with(json!({ "allowedRegions": wish.allowed })));
    }
    let mut fitting: Vec<_> = within.iter().copied().filter(|cell| fits(wish, cell)).collect();
    fitting.sort_by(|one, other| compare(wish, one, other));
    let Some(best) = fitting.first() else { return Err(none_fits(wish, &within)) };
    Ok(Choice { cell: best.cell, region: best.region.clone(), reason: reason(wish, best, fitting.len()) })
}

/// Whether cells of one tier are for tenants of another.
pub(super) fn is_for(cell: IsolationTier, tenant: IsolationTier) -> bool {
    match tenant {
        IsolationTier::Standard => cell == IsolationTier::Standard,
        // A database of its own keeps it apart on a shared server, too.
        IsolationTier::Enterprise => cell != IsolationTier::Premium,
        IsolationTier::Premium => cell == IsolationTier::Premium,
    }
}

fn fits(wish: &Wish, cell: &Candidate) -> bool {
    let makes_databases = wish.tier == IsolationTier::Standard || cell.makes_databases;
    makes_databases
        && is_for(cell.tier, wish.tier)
        && wish.missing(cell).is_empty()
        && cell.takes_tenants
        && cell.is_healthy
        && cell.placed < cell.capacity
        && cell.reserved_for.is_none_or(|reserved| reserved == wish.tenant)
}

/// Reserved for it, then of its own tier, then at home, then the emptiest, then by name.
fn compare(wish: &Wish, one: &Candidate, other: &Candidate) -> Ordering {
    let rank = |cell: &Candidate| (cell.reserved_for.is_none(), cell.tier != wish.tier, cell.region != wish.home);
    let load = |cell: &Candidate, against: &Candidate| i128::from(cell.placed) * i128::from(against.capacity);
    rank(one)
        .cmp(&rank(other))
        .then_with(|| load(one, other).cmp(&load(other, one)))
        .then_with(|| one.name.cmp(&other.name))
}

fn reason(wish: &Wish, cell: &Candidate, choices: usize) -> String {
    let place = if cell.region == wish.home { "home region" } else { "allowed region" };
    let among =
        if choices == 1 { "the only one that fits".to_owned() } else { format!("the best of {choices} that fit") };
    let shared = if wish.tier == IsolationTier::Enterprise && cell.tier == IsolationTier::Standard {
        "; no enterprise cell has room, so its own database is on a shared server"
    } else {
        ""
    };
    let able = match wish.extensions.as_slice() {
        [] => String::new(),
        names => format!("; it has {}, {}", names.join(", "), wish.required_by),
    };
    format!(
        "{} in {place} {}: {} of {} places taken, {among}{shared}{able}",
        cell.name, cell.region, cell.placed, cell.capacity
    )
}

fn none_fits(wish: &Wish, within: &[&Candidate]) -> Error {
    let count = |problem: &dyn Fn(&Candidate) -> bool| within.iter().filter(|cell| problem(cell)).count();
    let tier =
        serde_json::to_value(wish.tier).ok().and_then(|tier| tier.as_str().map(str::to_owned)).unwrap_or_default();
    let rule = format!(
        "no cell in {} can take a tenant of tier {tier}: of {} there, {} take no tenants, {} are down, {} are full; register one",
        wish.allowed.join(", "),
        within.len(),
        count(&|cell| !cell.takes_tenants),
        count(&|cell| !cell.is_healthy),
        count(&|cell| cell.placed >= cell.capacity),
    );
    let rule = match wish.extensions.as_slice() {
        [] => rule,
        names => {
            let without = count(&|cell| !wish.missing(cell).is_empty());
            format!("{rule}; {without} have not {}, {}", names.join(", "), wish.required_by)
        }
    };
    Error::new(Kind::Unavailable, rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(name: &str, region: &str, tier: IsolationTier, placed: i64, capacity: i64) -> Candidate {
        Candidate {
            cell: CellId::generate(),
            name: name.to_owned(),
            region: region.to_owned(),
            tier,
            capacity,
            placed,
            reserved_for: None,
            takes_tenants: true,
            is_healthy: true,
            makes_databases: true,
            extensions: Vec::new(),
        }
    }

    fn wish(tier: IsolationTier, allowed: &[&str]) -> Wish {
        let allowed = allowed.iter().map(|region| (*region).to_owned()).collect();
        let (tenant, home) = (TenantId::generate(), "eu".to_owned());
        Wish { tenant, tier, home, allowed, extensions: Vec::new(), required_by: "which the plan requires" }
    }

    fn chosen(wish: &Wish, cells: &[Candidate]) -> String {
        let choice = choose(wish, cells).unwrap();
        cells.iter().find(|cell| cell.cell == choice.cell).unwrap().name.clone()
    }

    use IsolationTier::{Enterprise, Premium, Standard};

    #[test]
    fn the_emptiest_cell_of_the_tier_at_home_is_chosen() {
        let cells = [
            cell("full", "eu", Standard, 10, 10),
            cell("large", "eu", Standard, 20, 100),
            cell("small", "eu", Standard, 3, 10),
            cell("far", "us", Standard, 0, 10),
            cell("dedicated", "eu", Enterprise, 0, 10),
        ];
        assert_eq!(chosen(&wish(Standard, &["eu", "us"]), &cells), "large");
        assert_eq!(chosen(&wish(Enterprise, &["eu"]), &cells), "dedicated");
        assert_eq!(chosen(&wish(Enterprise, &["eu"]), &cells[..3]), "large");
        assert_eq!(choose(&wish(Premium, &["eu"]), &cells).unwrap_err().kind(), Kind::Unavailable);
    }

    #[test]
    fn nothing_leaves_the_regions_that_are_allowed() {
        let cells = [cell("far", "us", Standard, 0, 10), cell("home", "eu", Standard, 10, 10)];
        assert_eq!(choose(&wish(Standard, &["de"]), &cells).unwrap_err().kind(), Kind::ResidencyViolation);
        assert_eq!(choose(&wish(Standard, &["eu"]), &cells).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(chosen(&wish(Standard, &["eu", "us"]), &cells), "far");
        assert_eq!(choose(&wish(Standard, &["eu"]), &[]).unwrap_err().kind(), Kind::Unavailable);
    }

    #[test]
    fn a_cell_without_what_the_plan_requires_is_passed_over() {
        let has = |installed: bool, creatable: bool| Extension {
            name: "vector".to_owned(),
            available: Some("0.8.0".to_owned()),
            installed: installed.then(|| "0.8.0".to_owned()),
            creatable,
        };
        let mut cells = [
            cell("a", "eu", Standard, 0, 10),
            cell("b", "eu", Standard, 1, 10),
            cell("c", "eu", Standard, 2, 10),
            cell("d", "eu", Standard, 3, 10),
        ];
        cells[1].extensions = vec![has(false, false)];
        cells[2].extensions = vec![has(true, false)];
        cells[3].extensions = vec![has(false, true)];
        let asks = |tier| Wish { extensions: vec!["vector".to_owned()], ..wish(tier, &["eu"]) };
        assert_eq!(chosen(&wish(Standard, &["eu"]), &cells), "a");
        assert_eq!(chosen(&asks(Standard), &cells), "c");
        assert_eq!(chosen(&asks(Enterprise), &cells), "d");
        let reason = choose(&asks(Standard), &cells).unwrap().reason;
        assert!(reason.ends_with("; it has vector, which the plan requires"), "{reason}");
        let refused = choose(&asks(Standard), &cells[..2]).unwrap_err();
        assert!(refused.message().ends_with("2 have not vector, which the plan requires"), "{refused}");
    }

    #[test]
    fn a_premium_cell_is_for_one_tenant() {
        let mine = wish(Premium, &["eu"]);
        let mut cells = [cell("a", "eu", Premium, 0, 1), cell("b", "eu", Premium, 0, 1)];
        assert_eq!(chosen(&mine, &cells), "a");
        cells[1].reserved_for = Some(mine.tenant);
        assert_eq!(chosen(&mine, &cells), "b");
        assert_eq!(chosen(&wish(Premium, &["eu"]), &cells), "a");
    }

    #[test]
    fn a_cell_that_drains_or_is_down_is_passed_over() {
        let mut cells =
            [cell("a", "eu", Standard, 0, 10), cell("b", "eu", Standard, 5, 10), cell("c", "eu", Standard, 9, 10)];
        cells[0].takes_tenants = false;
        cells[1].is_healthy = false;
        assert_eq!(chosen(&wish(Standard, &["eu"]), &cells), "c");
    }
}
