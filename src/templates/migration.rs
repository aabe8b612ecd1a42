//! One migration of a template: a file with a number, a name, and SQL that is held to rules before anybody runs it.

use aws_lc_rs::digest::{SHA256, digest};
use sea_orm::FromQueryResult;
use serde::{Deserialize, Serialize};

use super::statements;
use crate::error::{Error, Result};

/// Files of one template, and bytes of one file.
const LARGEST_TEMPLATE: usize = 1000;
const LARGEST_FILE: usize = 256 * 1024;

/// A file as somebody hands it in.
#[derive(Clone, Debug)]
pub struct File {
    pub name: String,
    pub sql: String,
}

/// One row of `schema_migrations`.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult, Serialize, Deserialize)]
pub struct Migration {
    /// From 1 on, without gaps.
    pub version: i32,
    /// The file's name.
    pub name: String,
    #[serde(skip)]
    pub sql: String,
    /// SHA-256 of the SQL, in hexadecimal digits.
    pub checksum: String,
}

/// The files as migrations, in order.
///
/// Errors: `invalid_input` names the file, with a line where there is one, and the rule.
pub(super) fn read(files: Vec<File>) -> Result<Vec<Migration>> {
    if files.is_empty() || files.len() > LARGEST_TEMPLATE {
        return Err(Error::invalid("files", format!("must be between 1 and {LARGEST_TEMPLATE} migrations")));
    }
    let mut migrations: Vec<Migration> = files.into_iter().map(one).collect::<Result<_>>()?;
    migrations.sort_by_key(|migration| migration.version);
    for (migration, expected) in migrations.iter().zip(1..) {
        if migration.version != expected {
            let rule =
                format!("has number {}, where {expected} is next: numbers go from 1 on, each once", migration.version);
            return Err(Error::invalid(migration.name.clone(), rule));
        }
    }
    Ok(migrations)
}

fn one(File { name, sql }: File) -> Result<Migration> {
    let shown: String = name.chars().take(100).collect();
    let Some(version) = number(&name) else {
        let rule = "must be called like V0001__items.sql or 0001_items.sql: a number, and a name of small letters, digits and '_'";
        return Err(Error::invalid(shown, rule));
    };
    if sql.len() > LARGEST_FILE {
        return Err(Error::invalid(shown, format!("has more than {LARGEST_FILE} bytes")));
    }
    statements::check(&sql).map_err(|problem| Error::invalid(format!("{shown}:{}", problem.line), problem.rule))?;
    let checksum = digest(&SHA256, sql.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Migration { version, name, sql, checksum })
}

/// The number of `V0001__name.sql` or `0001_name.sql`.
fn number(name: &str) -> Option<i32> {
    let rest = name.strip_prefix('V').unwrap_or(name).strip_suffix(".sql")?;
    let (digits, title) = rest.split_once('_')?;
    let title = title.strip_prefix('_').unwrap_or(title);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let well_formed = !title.is_empty() && name.len() <= 100 && title.bytes().all(plain);
    let digits = Some(digits).filter(|digits| digits.len() <= 6 && digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|number| *number > 0 && well_formed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> File {
        File { name: name.to_owned(), sql: "create table items (id bigint)".to_owned() }
    }

    fn refusal(names: &[&str]) -> String {
        read(names.iter().map(|name| file(name)).collect()).unwrap_err().to_string()
    }

    #[test]
    fn files_are_ordered_by_their_numbers() {
        let read = read(vec![file("0002_notes.sql"), file("V0001__items.sql"), file("V3_x1.sql")]).unwrap();
        let order: Vec<_> = read.iter().map(|migration| (migration.version, migration.name.as_str())).collect();
        assert_eq!(order, [(1, "V0001__items.sql"), (2, "0002_notes.sql"), (3, "V3_x1.sql")]);
        assert_eq!(read[0].checksum.len(), 64);
    }

    #[test]
    fn gaps_repetitions_and_other_names_are_refused() {
        assert_eq!(
            refusal(&["V1__a.sql", "V3__c.sql"]),
            "V3__c.sql: has number 3, where 2 is next: numbers go from 1 on, each once"
        );
        assert!(refusal(&["V1__a.sql", "V01__b.sql"]).contains("each once"));
        for name in
            ["a.sql", "V1.sql", "V1__A.sql", "V0__a.sql", "V1__a.txt", "../V1__a.sql", "V1__.sql", "V9999999__a.sql"]
        {
            assert!(refusal(&[name]).contains("must be called like"), "{name}");
        }
        assert!(refusal(&[]).contains("between 1 and"));
    }
}
