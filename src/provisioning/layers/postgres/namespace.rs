use serde::Deserialize;

use super::{super::super::quoted, Difference};

/// A schema of a tenant's as the catalogue has it. It belongs to the cell's login, so that the tenant can neither drop it nor
/// let others in.
#[derive(Debug, Default, Deserialize)]
pub(in super::super) struct Namespace {
    pub(in super::super) exists: bool,
    ours: bool,
    grants: Vec<Grant>,
}

#[derive(Debug, Deserialize)]
struct Grant {
    /// Empty: PUBLIC.
    to: String,
    what: String,
    option: bool,
}

/// Values: the schema.
pub(in super::super) const NAMESPACE: &str = "
    with home as (select nspowner, nspacl from pg_namespace where nspname = $1)
    select jsonb_build_object(
      'exists', exists (select from home),
      'ours', exists (select from home where nspowner = (select oid from pg_roles where rolname = current_user)),
      'grants', (select coalesce(jsonb_agg(jsonb_build_object('to', coalesce(r.rolname, ''), 'what', g.privilege_type, 'option', g.is_grantable)), '[]')
        from home cross join aclexplode(coalesce(nspacl, acldefault('n', nspowner))) g left join pg_roles r on r.oid = g.grantee where g.grantee <> nspowner)
    )::text";

impl Namespace {
    /// What is to be done so that `role`, and nobody else, may use the schema and create in it.
    pub(in super::super) fn differences(&self, name: &str, role: &str) -> Vec<Difference> {
        let schema = quoted(name);
        let mut found = Vec::new();
        if !self.exists {
            found.push(Difference::mended_by(format!("make schema {name}"), format!("CREATE SCHEMA {schema}")));
        } else if !self.ours {
            found.push(Difference::mended_by(
                "take the schema back",
                format!("ALTER SCHEMA {schema} OWNER TO CURRENT_USER"),
            ));
        }
        for grant in &self.grants {
            let intended = grant.to == role && ["USAGE", "CREATE"].contains(&&*grant.what) && !grant.option;
            if !intended {
                let (who, other) = match grant.to.as_str() {
                    "" => ("everybody".to_owned(), "PUBLIC".to_owned()),
                    other => (other.to_owned(), quoted(other)),
                };
                let what = format!("take {} on the schema from {who}", grant.what);
                let statement = format!("REVOKE {} ON SCHEMA {schema} FROM {other}", grant.what);
                found.push(Difference::mended_by(what, statement));
            }
        }
        let has = |what: &str| self.grants.iter().any(|grant| grant.to == role && grant.what == what && !grant.option);
        if !has("USAGE") || !has("CREATE") {
            let statement = format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {}", quoted(role));
            found.push(Difference::mended_by(format!("let {role} use its schema and create in it"), statement));
        }
        found
    }
}
