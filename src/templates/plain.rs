//! Migrations in which no code of a tenant's own can run, whatever the tenant has made of its schema: what they do needs no
//! fence (see `script`), which costs more than they do.
//!
//! These are columns added and dropped, and tables made, of PostgreSQL's own types, with constants as defaults: no rows are
//! written or rewritten, no expression is evaluated, no trigger, rule, operator or cast that a tenant could have made is asked.
//! A statement is known by each of its words; of what is not known here nothing is said, and it runs behind the fence. What
//! runs is written anew from the words that were read, so that PostgreSQL cannot read another statement than was judged.

use super::tokens::{Token, tokens};

/// PostgreSQL's own types of one word. They are found first: `pg_catalog` is searched before any other schema.
const TYPES: &[&str] = &[
    "bigint",
    "bool",
    "boolean",
    "bytea",
    "char",
    "character",
    "cidr",
    "date",
    "decimal",
    "float4",
    "float8",
    "inet",
    "int",
    "int2",
    "int4",
    "int8",
    "integer",
    "interval",
    "json",
    "jsonb",
    "numeric",
    "real",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "varchar",
];

/// The statements of a migration, written anew; none where it could run code of a tenant's own.
pub(super) fn plain(sql: &str) -> Option<String> {
    let tokens: Vec<Token> = tokens(sql).ok()?.into_iter().map(|(_, token)| token).collect();
    let mut statements = Vec::new();
    for statement in tokens.split(|token| *token == Token::Sign(';')).filter(|statement| !statement.is_empty()) {
        let mut reader = Reader { rest: statement };
        reader.statement()?;
        reader.rest.is_empty().then_some(())?;
        statements.push(statement.iter().map(written).collect::<Option<Vec<_>>>()?.join(" "));
    }
    (!statements.is_empty()).then(|| statements.join(";\n"))
}

/// A word as it was read; none where PostgreSQL might read it otherwise.
fn written(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) => word.is_ascii().then(|| word.clone()),
        Token::Quoted(name) => (!name.contains(['"', '\\']) && !name.is_empty()).then(|| format!("\"{name}\"")),
        Token::Text(text) => (!text.contains(['\\', '$'])).then(|| text.clone()),
        Token::Sign(sign) => "(),[]-".contains(*sign).then(|| sign.to_string()),
    }
}

struct Reader<'a> {
    rest: &'a [Token],
}

impl Reader<'_> {
    fn statement(&mut self) -> Option<()> {
        if self.words(&["alter", "table"]) {
            let _ = self.words(&["if", "exists"]);
            self.name()?;
            self.list(Self::change)
        } else if self.words(&["create", "table"]) {
            let _ = self.words(&["if", "not", "exists"]);
            self.name()?;
            self.sign('(')?;
            self.list(Self::element)?;
            self.sign(')')
        } else {
            None
        }
    }

    /// What is done to a table that is there.
    fn change(&mut self) -> Option<()> {
        if self.words(&["add"]) {
            let _ = self.words(&["column"]);
            let _ = self.words(&["if", "not", "exists"]);
            self.column()?;
            while self.nullable() || self.default()? {}
            return Some(());
        }
        self.words(&["drop", "column"]).then_some(())?;
        let _ = self.words(&["if", "exists"]);
        self.name()
    }

    /// A column or a key of a table that is made.
    fn element(&mut self) -> Option<()> {
        if self.words(&["primary", "key"]) || (self.follows(&Token::Sign('(')) && self.words(&["unique"])) {
            self.sign('(')?;
            self.list(Self::name)?;
            return self.sign(')');
        }
        self.column()?;
        while self.nullable() || self.words(&["primary", "key"]) || self.words(&["unique"]) || self.default()? {}
        Some(())
    }

    fn column(&mut self) -> Option<()> {
        self.name()?;
        if !self.words(&["double", "precision"]) && !self.words(&["character", "varying"]) {
            let Some((Token::Word(word), rest)) = self.rest.split_first() else { return None };
            TYPES.contains(&word.as_str()).then_some(())?;
            self.rest = rest;
        }
        if self.sign('(').is_some() {
            self.list(Self::number)?;
            self.sign(')')?;
        }
        let _ = self.words(&["with", "time", "zone"]) || self.words(&["without", "time", "zone"]);
        if self.sign('[').is_some() {
            self.sign(']')?;
        }
        Some(())
    }

    fn nullable(&mut self) -> bool {
        self.words(&["not", "null"]) || self.words(&["null"])
    }

    /// Whether there is a default; none where it is no constant.
    fn default(&mut self) -> Option<bool> {
        if !self.words(&["default"]) {
            return Some(false);
        }
        if ["true", "false", "null"].iter().any(|word| self.words(&[word])) {
            return Some(true);
        }
        if let Some((Token::Text(text), rest)) = self.rest.split_first()
            && text.starts_with('\'')
        {
            self.rest = rest;
            return Some(true);
        }
        let _ = self.sign('-');
        self.number().map(|()| true)
    }

    fn number(&mut self) -> Option<()> {
        match self.rest.split_first() {
            Some((Token::Text(text), rest)) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
                self.rest = rest;
                Some(())
            }
            _ => None,
        }
    }

    fn name(&mut self) -> Option<()> {
        match self.rest.split_first() {
            Some((Token::Word(_) | Token::Quoted(_), rest)) => {
                self.rest = rest;
                Some(())
            }
            _ => None,
        }
    }

    fn list(&mut self, one: fn(&mut Self) -> Option<()>) -> Option<()> {
        one(self)?;
        while self.sign(',').is_some() {
            one(self)?;
        }
        Some(())
    }

    fn sign(&mut self, sign: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[Token::Sign(sign)])?;
        Some(())
    }

    /// Whether this comes after the next.
    fn follows(&self, token: &Token) -> bool {
        self.rest.get(1) == Some(token)
    }

    fn words(&mut self, words: &[&str]) -> bool {
        let here = self.rest.get(..words.len());
        let are_here = here.is_some_and(|here| here.iter().zip(words).all(|(token, word)| token.is(word)));
        if are_here {
            self.rest = &self.rest[words.len()..];
        }
        are_here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_tables_of_postgresqls_own_types_are_plain() {
        for (sql, written) in [
            ("alter table items add column colour text", "alter table items add column colour text"),
            (
                "ALTER TABLE \"Items\"\n ADD a INT NOT NULL DEFAULT -1, -- b\n drop column if exists b;",
                "alter table \"Items\" add a int not null default - 1 , drop column if exists b",
            ),
            (
                "alter table if exists items add column if not exists rate numeric(10, 2) default 1.5",
                "alter table if exists items add column if not exists rate numeric ( 10 , 2 ) default 1.5",
            ),
            (
                "create table items (id bigint primary key, note text default 'it''s; reset role' not null, tags text[]);\ncreate table if not exists kinds (a uuid, b timestamp(3) with time zone, c double precision, d character varying(9) unique, primary key (a, b), unique (c))",
                "create table items ( id bigint primary key , note text default 'it''s; reset role' not null , tags text [ ] );\ncreate table if not exists kinds ( a uuid , b timestamp ( 3 ) with time zone , c double precision , d character varying ( 9 ) unique , primary key ( a , b ) , unique ( c ) )",
            ),
        ] {
            assert_eq!(plain(sql).as_deref(), Some(written), "{sql}");
        }
    }

    #[test]
    fn what_could_run_code_of_a_tenants_own_is_not() {
        for sql in [
            "",
            "update items set note = 'x'",
            "select reset()",
            "alter table items add column colour text; reset role",
            "alter table items add column colour text\rreset role",
            "-- nothing\rreset role",
            "alter table items add column colour colour",
            "alter table items add column id bigserial",
            "alter table items add column id int generated always as identity",
            "alter table items add column at timestamptz default now()",
            "alter table items add column at timestamptz default current_timestamp",
            "alter table items add column a int default (1)",
            "alter table items add column a int default 1 + 1",
            "alter table items add column a int default 1::bigint",
            "alter table items add column a int generated always as (b + 1) stored",
            "alter table items add column a text collate own",
            "alter table items add column a text check (a <> '')",
            "alter table items add column a int unique",
            "alter table items add column a int primary key",
            "alter table items add column a int references kinds",
            "alter table items add column a text default E'\\'; reset role; --'",
            "alter table items add column a text default 'x\\'",
            "alter table items add column a int default 1.f",
            "alter table items add column a text default $$x$$",
            "alter table items add column a text default U&'x'",
            "alter table items add primary key (a)",
            "alter table items add check (f(a))",
            "alter table items add constraint a unique (b)",
            "alter table items drop column a cascade",
            "alter table items alter column a type int using f(a)",
            "alter table items alter column a set not null",
            "alter table other.items add column a int",
            "alter table items, kinds add column a int",
            "alter table \"it\"\"ems\" add column a int",
            "create table items (like kinds including all)",
            "create table items (a int references kinds)",
            "create table items (a int check (f(a)))",
            "create table items (a int, exclude (a with =))",
            "create table items (a int) inherits (kinds)",
            "create table items partition of kinds default",
            "create table items as select f()",
            "create table items of kind",
            "create temp table items (a int)",
            "create index on items (a)",
            "drop table items",
        ] {
            assert_eq!(plain(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_is_written_anew_reads_the_same() {
        use proptest::prelude::*;
        let word = prop::sample::select(vec![
            "alter", "table", "add", "column", "create", "drop", "if", "not", "exists", "items", "\"A\"", "text",
            "int", "null", "default", "'x'", "1", "-", ".", ",", "(", ")", "[", "]", ";", "--", "/*", "*/", "\n", "\r",
            "$$", "'", "\"", "E'", "primary", "key",
        ]);
        proptest!(|(head in prop::sample::select(vec!["alter table a add b int ", "create table a (b int ", ""]), words in prop::collection::vec(word, 0..12))| {
            let sql = format!("{head}{}", words.join(" "));
            if let Some(written) = plain(&sql) {
                let plain_tokens = |text: &str| tokens(text).map(|all| all.into_iter().map(|(_, token)| token).filter(|token| *token != Token::Sign(';')).collect::<Vec<_>>());
                prop_assert_eq!(plain_tokens(&written), plain_tokens(&sql));
            }
        });
    }
}
