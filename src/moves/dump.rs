//! The definitions of a tenant's schema, by PostgreSQL's own `pg_dump`: it knows every kind of thing of its version.

use std::{collections::BTreeSet, path::Path, process::Stdio};

use crate::{
    error::{Context as _, Error, Kind, Result},
    platform::db::{CellDb, embedded},
};

/// Types, functions, tables, sequences, views: before there are rows. `server` is the source's `server_version_num`.
pub(super) async fn before_rows(db: &CellDb, database: &str, schemas: &[&str], server: i32) -> Result<String> {
    let dumped = dump(db, database, schemas, ("--section=pre-data", server)).await?;
    Ok(script(&dumped, schemas, &BTreeSet::new()))
}

/// Keys, indexes, foreign keys, triggers, policies; but for those that were `made` in the last of `schemas`.
pub(super) async fn after_rows(
    db: &CellDb,
    database: &str,
    (schemas, made): (&[&str], &BTreeSet<String>),
    server: i32,
) -> Result<String> {
    let dumped = dump(db, database, schemas, ("--section=post-data", server)).await?;
    Ok(script(&dumped, schemas, made))
}

/// By the first `pg_dump` that is no older than the server: those of all releases can be installed side by side.
async fn dump(db: &CellDb, database: &str, schemas: &[&str], (section, server): (&str, i32)) -> Result<String> {
    for program in embedded::find_programs("pg_dump") {
        let output = run(&program, (db, database), schemas, section).await?;
        if output.status.success() {
            return String::from_utf8(output.stdout).context("read the definitions of a schema");
        }
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if !told.contains("version mismatch") {
            let rule = "the program pg_dump cannot read the tenant's schema at the source";
            // Its own text may show what is in the cell: it is for the log alone.
            return Err(Error::new(Kind::Unavailable, rule).because(std::io::Error::other(told)));
        }
    }
    let rule = format!(
        "there is no program pg_dump for the source's PostgreSQL {}; install client programs of its version",
        server / 10_000
    );
    Err(Error::new(Kind::Unavailable, rule))
}

async fn run(
    program: &Path,
    (db, database): (&CellDb, &str),
    schemas: &[&str],
    section: &str,
) -> Result<std::process::Output> {
    let mut command = tokio::process::Command::new(program);
    let fixed = [
        "--schema-only",
        "--no-owner",
        "--no-publications",
        "--no-subscriptions",
        "--no-tablespaces",
        "--no-security-labels",
    ];
    command.args(fixed).arg(section).args(schemas.iter().map(|schema| format!("--schema={schema}")));
    for (name, value) in db.environment(database) {
        command.env(name, value.expose());
    }
    command.stdin(Stdio::null()).kill_on_drop(true).output().await.context("run the program pg_dump")
}

/// What of a dump is carried over. The schemas themselves, their rights and their comments are Tenantry's own to make; row-level security is
/// switched on when all rows are there, for it holds the owner of tables, too.
fn script(dump: &str, schemas: &[&str], made: &BTreeSet<String>) -> String {
    let mut kept = String::from("SET LOCAL check_function_bodies = false;\nSET LOCAL client_min_messages = warning;\n");
    let mut entries = entries(dump).into_iter();
    entries.next(); // what a session begins with: of one version, and not of another
    for entry in entries {
        let is_of_schema = entry.schema == "-" && schemas.contains(&entry.name.trim_start_matches("SCHEMA "));
        let is_made = schemas.last() == Some(&entry.schema.as_str()) && made.contains(&entry.name);
        if !is_of_schema && !is_made && entry.kind != "ROW SECURITY" {
            kept.push_str(&entry.text);
        }
    }
    kept
}

struct EntryOfDump {
    name: String,
    kind: String,
    schema: String,
    text: String,
}

/// A dump's parts; each begins with a comment of three lines, `-- Name: …; Type: …; Schema: …; Owner: …` between two of `--`.
fn entries(dump: &str) -> Vec<EntryOfDump> {
    let mut found =
        vec![EntryOfDump { name: String::new(), kind: String::new(), schema: String::new(), text: String::new() }];
    for line in dump.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict")) {
        if let Some((name, rest)) = line.strip_prefix("-- Name: ").and_then(|rest| rest.split_once("; Type: "))
            && let Some((kind, rest)) = rest.split_once("; Schema: ")
            && let Some((schema, _)) = rest.split_once("; Owner: ")
        {
            found.push(EntryOfDump {
                name: name.into(),
                kind: kind.into(),
                schema: schema.into(),
                text: String::new(),
            });
            continue;
        }
        if let Some(last) = found.last_mut() {
            last.text.push_str(line);
            last.text.push('\n');
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\nSET transaction_timeout = 0;\n--
-- Name: t_x; Type: SCHEMA; Schema: -; Owner: -\n--\n\nCREATE SCHEMA t_x;\n\n--
-- Name: SCHEMA t_x; Type: COMMENT; Schema: -; Owner: -\n--\n\nCOMMENT ON SCHEMA t_x IS 'mark';\n\nSET default_tablespace = '';\n\n--
-- Name: items; Type: TABLE; Schema: t_x; Owner: -\n--\n\nCREATE TABLE t_x.items (id integer);\n\n--
-- Name: items_pkey; Type: INDEX; Schema: t_x; Owner: -\n--\n\nCREATE INDEX items_pkey ON t_x.items USING btree (id);\n\n--
-- Name: items; Type: ROW SECURITY; Schema: t_x; Owner: -\n--\n\nALTER TABLE t_x.items ENABLE ROW LEVEL SECURITY;\n\n--
-- Name: SCHEMA t_x; Type: ACL; Schema: -; Owner: -\n--\n\nGRANT ALL ON SCHEMA t_x TO t_x;\n\n--
-- Name: TABLE items; Type: ACL; Schema: t_x; Owner: -\n--\n\nGRANT SELECT ON TABLE t_x.items TO PUBLIC;\n\n\\unrestrict abc\n";

    #[test]
    fn what_is_tenantrys_own_to_make_and_what_is_there_are_left_out() {
        let script = script(DUMP, &["t_x"], &BTreeSet::from(["items_pkey".to_owned()]));
        let statements: Vec<_> = script
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with("--") && !line.starts_with("SET LOCAL"))
            .collect();
        assert_eq!(statements, ["CREATE TABLE t_x.items (id integer);", "GRANT SELECT ON TABLE t_x.items TO PUBLIC;"]);
    }
}
