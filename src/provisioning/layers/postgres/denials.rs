//! What PostgreSQL refused to tenants' roles, from the logs of cells.

use std::collections::BTreeMap;

use super::super::super::{Denial, Denials, Names, Slot};
use crate::{
    cells::{CellState, Cells, LogLine},
    error::Result,
    platform::ids::TenantId,
};

/// Kinds of refusals that one look at one cell tells of; what comes on top is many of the same.
const MOST: usize = 100;

/// SQLSTATE, and what was tried in words of ours (PostgreSQL manual, appendix A).
const REFUSALS: &[(&str, &str)] = &[
    ("42501", "something that it has no right to"),
    ("28P01", "a wrong password"),
    ("28000", "a login that is not let in"),
    ("3D000", "a database that there is not"),
];

/// Since they were read last; nothing of a cell whose log cannot be read, which says so, or that is down.
pub(in super::super) async fn read(cells: &Cells) -> Result<Vec<Denials>> {
    let mut denials = Vec::new();
    for cell in cells.all().await? {
        if cell.state == CellState::Retired || cell.facts.denials_hidden.is_some() || !cells.is_here(&cell) {
            continue;
        }
        match cells.read_log(&cell).await {
            Ok(Some((lines, step))) => denials.push(Denials { told: counted(&lines), step: Some(step) }),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(cell = cell.name, %error, "the log of a cell cannot be read; it is tried again")
            }
        }
    }
    Ok(denials)
}

/// Equal ones are added up.
fn counted(lines: &[LogLine]) -> Vec<Denial> {
    let mut found: BTreeMap<_, Denial> = BTreeMap::new();
    for denial in lines.iter().filter_map(denial) {
        let key = (denial.tenant, denial.user.clone(), denial.what.clone(), denial.other, denial.from.clone());
        if found.len() < MOST || found.contains_key(&key) {
            found.entry(key).and_modify(|known| known.times += 1).or_insert(denial);
        }
    }
    found.into_values().collect()
}

/// None where it is not about a tenant's role, or no refusal.
fn denial(line: &LogLine) -> Option<Denial> {
    let (_, what) = REFUSALS.iter().find(|(code, _)| *code == line.state_code)?;
    let tenant = Names::owner(&line.user)?;
    let names = Names::of(tenant);
    if ![names.stem().to_owned(), names.login(Slot::A), names.login(Slot::B)].contains(&line.user) {
        return None;
    }
    let others = named_in(&line.message).chain(Names::owner(&line.dbname));
    let other = others.into_iter().find(|other| *other != tenant);
    let from = if line.remote_host.is_empty() { "a socket of its machine" } else { &line.remote_host };
    Some(Denial { tenant, user: line.user.clone(), what: (*what).to_owned(), other, from: from.to_owned(), times: 1 })
}

/// Whose things a message speaks of: it has their names in it, in any language.
fn named_in(message: &str) -> impl Iterator<Item = TenantId> {
    message.match_indices("t_").filter_map(|(at, _)| Names::owner(&message[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(user: &str, code: &str, message: &str) -> LogLine {
        LogLine {
            user: user.to_owned(),
            state_code: code.to_owned(),
            message: message.to_owned(),
            ..LogLine::default()
        }
    }

    #[test]
    fn refusals_of_tenants_are_counted_and_tell_whose_things_they_went_for() {
        let [a, b] = [TenantId::generate(), TenantId::generate()];
        let (own, theirs) = (Names::of(a), Names::of(b));
        let login = own.login(Slot::A);
        let foreign = line(&login, "42501", &format!("permission denied for schema {}", theirs.stem()));
        let found = counted(&[
            foreign.clone(),
            line(&login, "42501", &format!("permission denied for schema {}", own.stem())),
            line("postgres", "42501", theirs.stem()),
            line(&format!("{login}x"), "42501", ""),
            line(&login, "42P01", theirs.stem()),
            foreign,
        ]);
        let mut told: Vec<_> = found.iter().map(|one| (one.tenant, one.other, one.times)).collect();
        told.sort_by_key(|(_, other, _)| other.is_some());
        assert_eq!(told, [(a, None, 1), (a, Some(b), 2)]);
        assert!(found.iter().all(|one| !one.what.contains("schema")), "no text of who tried");
    }
}
