//! The version that a schema is at, kept as the comment of the schema itself: it changes in the transaction that changes the
//! tables, goes where the schema goes, ends with it, and only the schema's owner, the cell's login, can write it.

use serde::{Deserialize, Serialize};

/// Which template a schema is made of, and up to which migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub template: String,
    pub version: i32,
}

const BEGINS: &str = "tenantry template ";

/// Values: the schema. Whether it is there, and its comment.
pub(super) const READ: &str = "
    select pg_catalog.jsonb_build_object('exists', pg_catalog.to_regnamespace(pg_catalog.quote_ident($1)) is not null,
      'comment', pg_catalog.obj_description(pg_catalog.to_regnamespace(pg_catalog.quote_ident($1)), 'pg_namespace'))::text";

/// What [`READ`] answers.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) exists: bool,
    comment: Option<String>,
}

impl Seen {
    pub(super) fn mark(&self) -> Option<Mark> {
        Mark::parse(self.comment.as_deref()?)
    }
}

impl Mark {
    /// The comment: `tenantry template <name> <version>`.
    pub(super) fn comment(&self) -> String {
        format!("{BEGINS}{} {}", self.template, self.version)
    }

    fn parse(comment: &str) -> Option<Self> {
        let (template, version) = comment.strip_prefix(BEGINS)?.split_once(' ')?;
        Some(Self { template: template.to_owned(), version: version.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let mark = Mark { template: "shop".to_owned(), version: 12 };
        assert_eq!(Mark::parse(&mark.comment()), Some(mark));
        assert_eq!(Mark::parse("somebody's comment"), None);
    }
}
