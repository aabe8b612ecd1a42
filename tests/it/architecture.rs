//! Who may import whom. A folder sees the folders of earlier lines, never those of its own line or of later ones.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// From the ground up; `src/*.rs` at the root (`app`, `worker`) and `cli` see everything.
const RANKS: &[&[&str]] = &[
    &["error", "config", "platform"],
    &["access", "keys"],
    &["journal"],
    &["isolation"],
    &["tenancy"],
    &["tenant_keys"],
    &["audit", "oauth", "cells"],
    &["health", "grants", "templates"],
    &["quotas", "flags"],
    &["rates", "entitlements", "provisioning", "usage", "members"],
    &["directory", "pki"],
    &["moves", "probes", "analytics", "sessions"],
    &["operators", "impersonation"],
    &["app"],
    &["edge"],
    &["worker"],
    &["cli"],
];

/// The ground is one group: configuration has secrets in it, the database has settings.
const GROUND: usize = 0;

fn rank(folder: &str) -> usize {
    RANKS
        .iter()
        .position(|group| group.contains(&folder))
        .unwrap_or_else(|| panic!("src/{folder} has no rank: add it to RANKS in tests/it/architecture.rs"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// The names that follow `crate::` in code, groups in braces included.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if !rest.starts_with('{') {
            names.insert(rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect());
            continue;
        }
        let (mut depth, mut fresh) = (0, true);
        let mut name = String::new();
        for letter in rest.chars() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => fresh = true,
                ':' if depth == 1 => fresh = false,
                _ if depth == 1 && fresh && !letter.is_whitespace() => name.push(letter),
                _ => {}
            }
            if (letter == ',' || letter == ':' || letter == '}') && !name.is_empty() && depth <= 1 {
                names.insert(std::mem::take(&mut name));
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

#[test]
fn a_folder_imports_only_what_is_ranked_before_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut breaches = Vec::new();
    for path in sources(&root) {
        let inner = path.strip_prefix(&root).unwrap();
        let own = inner.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if own == "lib" || own == "main" {
            continue;
        }
        let own_rank = rank(&own);
        for name in imports(&std::fs::read_to_string(&path).unwrap()) {
            let allowed = name == own
                || name == "error"
                || rank(&name) < own_rank
                || (own_rank == GROUND && rank(&name) == GROUND);
            if !allowed {
                breaches.push(format!("{} imports crate::{name}", inner.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "a folder sees earlier ranks only:\n{}", breaches.join("\n"));
}

#[test]
fn imports_are_found_in_groups_and_paths() {
    let code = "use crate::{\n    access::{Caller, Role},\n    error::Result,\n    keys,\n};\nfn x() { crate::tenancy::y() } // crate::z";
    let found: Vec<_> = imports(code).into_iter().collect();
    assert_eq!(found, ["access", "error", "keys", "tenancy", "z"]);
}
