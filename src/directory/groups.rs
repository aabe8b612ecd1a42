//! Which groups somebody is in. Groups may be in groups, and in circles.

use std::collections::{HashMap, HashSet};

use super::{
    ldap::{Search, Session, Trouble},
    settings::{DnKey, NestedGroups, Settings, and_equal, key_of, roles_of},
};

/// Levels of groups in groups.
pub(super) const DEEPEST: usize = 20;
/// Groups of one person.
pub(super) const MOST: usize = 1000;
/// Of Active Directory: the server follows groups in groups.
pub(super) const CHAIN: &str = "1.2.840.113556.1.4.1941";

/// A group's DN as the server wrote it, by what it is compared by.
pub(super) type Groups = HashMap<DnKey, String>;

/// The groups of the entry with this DN, asked level by level. More than [`MOST`] are an error: a part of them might give the wrong roles.
pub(super) async fn of_entry(session: &mut Session, settings: &Settings, dn: &str) -> Result<Groups, Trouble> {
    let member = &settings.attributes.member;
    let attribute = match settings.nested_groups {
        NestedGroups::Chain => format!("{member}:{CHAIN}:"),
        NestedGroups::None | NestedGroups::Walk => member.clone(),
    };
    let (mut found, mut level) = (Groups::new(), vec![dn.to_owned()]);
    let levels = if settings.nested_groups == NestedGroups::Walk { DEEPEST } else { 1 };
    for _ in 0..levels {
        let mut above = Vec::new();
        for dn in level {
            let filter = and_equal(settings.group_filter.text(), &attribute, &dn);
            let base = settings.group_base_dn.text();
            let search = Search { base, filter: &filter, attributes: &["1.1"], most: MOST };
            for group in session.search(search).await? {
                // A name that cannot be read matches no mapping either.
                let Some(key) = key_of(&group.dn) else { continue };
                if found.insert(key, group.dn.clone()).is_none() {
                    above.push(group.dn);
                }
            }
            if found.len() > MOST {
                return Err(Trouble::TooMany(MOST));
            }
        }
        level = above;
        if level.is_empty() {
            break;
        }
    }
    Ok(found)
}

/// All groups of a directory and who is directly in each, for many people at once.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// By member: the groups that name it.
    above: HashMap<DnKey, Vec<DnKey>>,
}

impl Graph {
    pub(super) fn add<'a>(&mut self, group: &str, members: impl Iterator<Item = &'a str>) {
        let Some(key) = key_of(group) else { return };
        for member in members.filter_map(key_of) {
            self.above.entry(member).or_default().push(key.clone());
        }
    }

    /// The groups of the entry with this DN, those above them included where `nested` says so.
    pub(super) fn of(&self, dn: &str, nested: NestedGroups) -> HashSet<&DnKey> {
        let mut found = HashSet::new();
        let Some(key) = key_of(dn) else { return found };
        let mut level: Vec<&DnKey> = self.above.get(&key).into_iter().flatten().collect();
        let levels = if nested == NestedGroups::None { 1 } else { DEEPEST };
        for _ in 0..levels {
            level.retain(|group| found.insert(*group));
            level = level.iter().flat_map(|group| self.above.get(*group)).flatten().collect();
            if level.is_empty() {
                break;
            }
        }
        found
    }
}

/// The roles that these groups give, and those of everybody.
pub(super) fn roles<'a>(settings: &Settings, groups: impl Iterator<Item = &'a DnKey>) -> Vec<String> {
    roles_of(&settings.role_mappings, &settings.default_roles, groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the first parts of the groups' names.
    fn texts(graph: &Graph, dn: &str, nested: NestedGroups) -> Vec<String> {
        let name = |group: &DnKey| String::from_utf8(group[0][0].1.clone()).unwrap();
        let mut found: Vec<_> = graph.of(dn, nested).into_iter().map(name).collect();
        found.sort();
        found
    }

    #[test]
    fn circles_of_groups_end_where_they_close() {
        let mut graph = Graph::default();
        graph.add("cn=a,dc=x", ["uid=ada,dc=x", "CN=C, DC=X"].into_iter());
        graph.add("cn=b,dc=x", ["cn=a,dc=x"].into_iter());
        graph.add("cn=c,dc=x", ["cn=b,dc=x"].into_iter());
        graph.add("cn=other,dc=x", ["uid=bob,dc=x"].into_iter());
        assert_eq!(texts(&graph, "UID=Ada,DC=X", NestedGroups::Walk), ["a", "b", "c"]);
        assert_eq!(texts(&graph, "uid=ada,dc=x", NestedGroups::None), ["a"]);
        assert!(texts(&graph, "uid=eve,dc=x", NestedGroups::Walk).is_empty());
    }

    #[test]
    fn a_tower_of_groups_has_an_end() {
        let mut graph = Graph::default();
        graph.add("cn=0", ["uid=ada"].into_iter());
        for level in 1..100 {
            graph.add(&format!("cn={level}"), [format!("cn={}", level - 1).as_str()].into_iter());
        }
        assert_eq!(texts(&graph, "uid=ada", NestedGroups::Walk).len(), DEEPEST);
    }
}
