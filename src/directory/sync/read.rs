//! All people of a directory, with their roles. What cannot be read to its end is an error: who is missing would be deactivated.

use std::collections::{HashMap, HashSet};

use super::{
    super::{
        Lacking, Live, Person,
        groups::{self, CHAIN, Graph},
        ldap::{Search, Session, Trouble},
        person::attributes,
        settings::{DnKey, NestedGroups, and_equal, key_of},
    },
    plan::{Skipped, Why},
};

/// What a directory has of people.
#[derive(Debug, Default)]
pub(super) struct People {
    pub(super) people: Vec<Person>,
    pub(super) skipped: Vec<Skipped>,
}

/// Everybody whom `userFilter` finds for any login, without roles.
pub(super) async fn people(session: &mut Session, live: &Live, most: usize) -> Result<People, Trouble> {
    let (settings, filter) = (&live.settings, live.settings.user_filter.of_everybody());
    let names = attributes(settings);
    let search = Search { base: settings.base_dn.text(), filter: &filter, attributes: &names, most };
    let mut read = People::default();
    for entry in session.pages(search, settings.page_size).await? {
        match Person::read(&entry, settings) {
            Ok(person) => read.people.push(person),
            Err(Lacking::Email) => read.skipped.push(Skipped { who: entry.dn, why: Why::NoEmail }),
            Err(Lacking::ExternalId | Lacking::Dn) => {
                read.skipped.push(Skipped { who: entry.dn, why: Why::NoExternalId });
            }
        }
    }
    Ok(read)
}

/// Gives people the roles of the groups that they are in.
pub(super) async fn roles(
    session: &mut Session,
    live: &Live,
    people: &mut [Person],
    most: usize,
) -> Result<(), Trouble> {
    let settings = &live.settings;
    if settings.role_mappings.is_empty() {
        people.iter_mut().for_each(|person| person.roles = settings.default_roles.clone());
        return Ok(());
    }
    if settings.nested_groups == NestedGroups::Chain {
        return chained(session, live, people, most).await;
    }
    let graph = graph(session, live, most).await?;
    for person in people {
        let found = graph.of(&person.dn, settings.nested_groups);
        person.roles = groups::roles(settings, found.into_iter());
    }
    Ok(())
}

async fn graph(session: &mut Session, live: &Live, most: usize) -> Result<Graph, Trouble> {
    let (settings, member) = (&live.settings, live.settings.attributes.member.as_str());
    let filter = settings.group_filter.text();
    let search = Search { base: settings.group_base_dn.text(), filter, attributes: &[member], most };
    let mut graph = Graph::default();
    for group in session.pages(search, settings.page_size).await? {
        // Active Directory gives long lists in parts, of which only the first is here.
        if group.has_part_of(member) {
            return Err(Trouble::Parts);
        }
        graph.add(&group.dn, group.texts(member));
    }
    Ok(graph)
}

/// The server follows groups in groups: for each group that gives a role, who is in it.
async fn chained(session: &mut Session, live: &Live, people: &mut [Person], most: usize) -> Result<(), Trouble> {
    let (settings, everybody) = (&live.settings, live.settings.user_filter.of_everybody());
    let mut groups_of: HashMap<DnKey, HashSet<DnKey>> = HashMap::new();
    for mapping in &settings.role_mappings {
        let filter = and_equal(&everybody, &format!("memberOf:{CHAIN}:"), mapping.group.text());
        let search = Search { base: settings.base_dn.text(), filter: &filter, attributes: &["1.1"], most };
        for entry in session.pages(search, settings.page_size).await? {
            let Some(key) = key_of(&entry.dn) else { continue };
            groups_of.entry(key).or_default().insert(mapping.group.key().clone());
        }
    }
    for person in people {
        let found = key_of(&person.dn).and_then(|key| groups_of.get(&key));
        person.roles = groups::roles(settings, found.into_iter().flatten());
    }
    Ok(())
}
