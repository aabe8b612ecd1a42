//! What a migration may not say. PostgreSQL holds it to the tenant's own rights when it runs; this says at registration, by
//! line, what could never work or would reach beyond one tenant's tables. It is not parsed: what is well-formed is for
//! PostgreSQL to say.

use super::tokens::{Problem, Token, problem, tokens};

/// What a statement may not begin with, and why.
const BEGINNINGS: &[(&[&str], &str)] = &[
    (
        &["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release", "prepare"],
        "controls transactions: a migration is one transaction, of Tenantry's (and bodies of functions stand between $$)",
    ),
    (&["set", "reset", "discard"], "changes settings of the session, which are Tenantry's to set"),
    (&["grant", "revoke", "reassign"], "changes who may do what: a migration's tables are the tenant's alone"),
    (
        &[
            "vacuum",
            "cluster",
            "checkpoint",
            "load",
            "copy",
            "listen",
            "notify",
            "unlisten",
            "reindex",
            "import",
            "call",
        ],
        "is no change of a schema that could be made in a transaction",
    ),
];

/// What may not be made, changed or dropped, after `create`, `alter` and `drop`.
const OUTSIDE: &[&str] = &[
    "schema",
    "database",
    "role",
    "user",
    "group",
    "tablespace",
    "extension",
    "server",
    "publication",
    "subscription",
    "system",
    "language",
    "owned",
    "event",
    "foreign",
    "default",
    "access",
];

/// Checks one file.
pub(super) fn check(sql: &str) -> Result<(), Problem> {
    let tokens = tokens(sql)?;
    if tokens.is_empty() {
        return Err(problem(1, "has no statement"));
    }
    for statement in tokens.split(|(_, token)| *token == Token::Sign(';')) {
        check_statement(statement)?;
    }
    Ok(())
}

fn check_statement(statement: &[(usize, Token)]) -> Result<(), Problem> {
    let Some((line, Token::Word(first))) = statement.first() else {
        return statement.first().map_or(Ok(()), |(line, _)| Err(problem(*line, "begins no statement of SQL")));
    };
    if let Some((_, rule)) = BEGINNINGS.iter().find(|(words, _)| words.contains(&first.as_str())) {
        return Err(problem(*line, &format!("`{first}` {rule}")));
    }
    if ["create", "alter", "drop"].contains(&first.as_str()) {
        let skipped = ["or", "replace", "trusted", "procedural"];
        let object = statement[1..].iter().find(|(_, token)| !skipped.iter().any(|word| token.is(word)));
        if let Some((line, Token::Word(object))) = object
            && OUTSIDE.contains(&object.as_str())
        {
            return Err(problem(*line, &format!("`{first} {object}` reaches beyond the tenant's schema")));
        }
    }
    for pair in statement.windows(2) {
        let ((line, one), (_, next)) = (&pair[0], &pair[1]);
        if one.is("begin") && next.is("atomic") {
            return Err(problem(*line, "`begin atomic` is for bodies of functions, which stand between $$ here"));
        }
        if one.is("owner") && next.is("to") {
            return Err(problem(*line, "`owner to` gives away what is the tenant's"));
        }
        if let (Token::Word(name) | Token::Quoted(name), Token::Sign('.')) = (one, next)
            && is_a_tenants(name)
        {
            return Err(problem(*line, "names the schema of one tenant; leave the schema out"));
        }
    }
    match statement.iter().find(|(_, token)| token.is("concurrently")) {
        Some((line, _)) => Err(problem(*line, "`concurrently` cannot be done in a transaction; leave it out")),
        None => Ok(()),
    }
}

/// Whether a schema of this name is some tenant's.
fn is_a_tenants(name: &str) -> bool {
    name.strip_prefix("t_")
        .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(sql: &str) -> (usize, String) {
        let problem = check(sql).expect_err(sql);
        (problem.line, problem.rule)
    }

    #[test]
    fn what_a_schema_is_made_of_passes() {
        for sql in [
            "create table items (id bigint primary key, note text default 'begin; commit');",
            "-- begin\n/* commit /* set role x */ */ create index on items (note);\nalter table items add check (note <> '')",
            "create function touch() returns trigger language plpgsql as $$ begin new.at = now(); return new; end $$;",
            "create function f() returns text language sql as $body$ select $$;grant$$ $body$",
            "insert into kinds (name) values (E'it\\'s; set role x'), ('it''s; reset role');",
            "create or replace view latest as select * from items; drop table if exists old",
            "do $$ begin perform 1; end $$",
            "update items set note = $tag$x; commit$tag$ where \"set\" = 1",
            "alter table items add column end_at timestamptz, alter note set default 'x'",
        ] {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn what_reaches_beyond_the_tenant_or_its_transaction_is_refused_by_line() {
        for (sql, line, part) in [
            ("create table a (id int);\n\nbegin;", 3, "controls transactions"),
            ("COMMIT", 1, "controls transactions"),
            ("/* \n */ set search_path = other", 2, "settings of the session"),
            ("reset role", 1, "settings of the session"),
            ("set role postgres", 1, "settings of the session"),
            ("create schema other", 1, "beyond the tenant's schema"),
            ("create\nextension vector", 2, "beyond the tenant's schema"),
            ("create event trigger x on ddl_command_end execute function f()", 1, "beyond the tenant's schema"),
            ("drop role a", 1, "beyond the tenant's schema"),
            ("alter system set x = 1", 1, "beyond the tenant's schema"),
            ("create unique\nindex concurrently i on a (b)", 2, "`concurrently`"),
            ("grant select on a to public", 1, "who may do what"),
            ("alter table a owner to b", 1, "`owner to`"),
            ("vacuum full", 1, "in a transaction"),
            ("copy a from program 'x'", 1, "in a transaction"),
            ("\\copy a from b", 1, "command of psql"),
            ("select * from t_0123456789abcdef0123456789abcdef.items", 1, "of one tenant"),
            ("select * from \"t_0123456789abcdef0123456789abcdef\".items", 1, "of one tenant"),
            ("create function f() returns int begin atomic select 1; end", 1, "begin atomic"),
            ("select 'x\n\ny", 1, "does not end"),
            ("select\n$$ x", 2, "does not end"),
            ("/* x", 1, "does not end"),
            ("-- nothing\n", 1, "no statement"),
            ("select 1;\n(select 2)", 2, "begins no statement"),
        ] {
            let (found, rule) = refused(sql);
            assert!(found == line && rule.contains(part), "{sql}: line {found}: {rule}");
        }
    }
}
