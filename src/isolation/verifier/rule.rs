use serde::Serialize;

use super::Finding;

/// Something that must hold for tenants to be apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Stable, kebab-case.
    pub id: &'static str,
    /// What must hold, and why where it is not plain.
    pub sentence: &'static str,
}

impl Rule {
    const fn new(id: &'static str, sentence: &'static str) -> Self {
        Self { id, sentence }
    }

    pub(super) fn broken(
        &self,
        object: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { rule: self.id, object: object.into(), problem: problem.into(), remedy: remedy.into() }
    }
}

/// All rules, in the order in which they are checked.
pub fn rules() -> &'static [Rule] {
    ALL
}

pub(super) const SERVER_VERSION: Rule = Rule::new("server-version", "PostgreSQL is 15 or newer.");
pub(super) const SESSION_SETTINGS: Rule = Rule::new(
    "session-settings",
    "In a session row_security is on, triggers fire, and no tenant is set before Tenantry sets one.",
);
pub(super) const SESSION_DEFAULTS: Rule = Rule::new(
    "session-defaults",
    "Neither the database nor the login role comes with a preset role, tenant, row_security or trigger mode.",
);
pub(super) const DATABASE_CREATE: Rule =
    Rule::new("database-create", "No role of the application may create schemas in the database.");
pub(super) const EVENT_TRIGGER: Rule =
    Rule::new("event-trigger", "Event triggers belong to superusers: they run with the rights of whoever migrates.");
pub(super) const CATALOGUE_PUBLIC: Rule = Rule::new(
    "catalogue-public",
    "What PostgreSQL keeps from the public (files, passwords, protected settings) was not granted to PUBLIC.",
);

pub(super) const ROLE_MISSING: Rule = Rule::new("role-missing", "The login role and Tenantry's three roles exist.");
pub(super) const ROLE_SUPERUSER: Rule =
    Rule::new("role-superuser", "None of these roles is a superuser: policies do not hold one.");
pub(super) const ROLE_BYPASSRLS: Rule = Rule::new("role-bypassrls", "None of these roles has BYPASSRLS.");
pub(super) const ROLE_ATTRIBUTES: Rule =
    Rule::new("role-attributes", "None of these roles has CREATEROLE, CREATEDB or REPLICATION.");
pub(super) const ROLE_LOGIN: Rule = Rule::new("role-login", "Nobody logs in as one of the three roles.");
pub(super) const LOGIN_INHERITS: Rule = Rule::new(
    "login-inherits",
    "The login role does not inherit: a statement outside a session has no rights and fails.",
);
pub(super) const LOGIN_MEMBERSHIPS: Rule = Rule::new(
    "login-memberships",
    "The login role is a member of tenantry_tenant and tenantry_operator, of nothing else, and cannot pass that on.",
);
pub(super) const ROLE_MEMBERSHIPS: Rule = Rule::new("role-memberships", "The three roles are members of no role.");
pub(super) const ROLE_MEMBERS: Rule = Rule::new(
    "role-members",
    "Nobody but login roles of Tenantry, and those who administer roles anyway, can become one of these roles.",
);
pub(super) const ROLE_OWNS: Rule =
    Rule::new("role-owns", "The login role, tenantry_tenant and tenantry_operator own nothing.");
pub(super) const ROLE_GRANTS: Rule = Rule::new(
    "role-grants",
    "The login role has no grants but CONNECT; tenantry_tenant and tenantry_operator have none outside schema tenantry.",
);

pub(super) const SCHEMA_OWNER: Rule =
    Rule::new("schema-owner", "Schema tenantry exists and belongs to tenantry_owner.");
pub(super) const SCHEMA_GRANTS: Rule = Rule::new(
    "schema-grants",
    "Schema tenantry is for tenantry_tenant and tenantry_operator to use, for nobody else, and for nobody to create in.",
);
pub(super) const SCHEMA_CREATE: Rule = Rule::new(
    "schema-create",
    "No schema lets PUBLIC or the application's roles create objects that others might run.",
);
pub(super) const DEFAULT_PRIVILEGES: Rule =
    Rule::new("default-privileges", "No default privileges open future objects of Tenantry to anyone.");

pub(super) const OBJECT_OWNER: Rule =
    Rule::new("object-owner", "Relations and functions in schema tenantry belong to tenantry_owner.");
pub(super) const RLS_ENABLED: Rule = Rule::new("rls-enabled", "Every table has row-level security enabled.");
pub(super) const RLS_FORCED: Rule = Rule::new("rls-forced", "Every table forces row-level security on its owner, too.");
pub(super) const TENANT_ID_COLUMN: Rule =
    Rule::new("tenant-id-column", "tenant_id is a plain uuid column and never null.");
pub(super) const TENANT_ID_INDEX: Rule = Rule::new(
    "tenant-id-index",
    "A valid index over all rows begins with tenant_id: otherwise one tenant's load is every tenant's delay.",
);
pub(super) const ERASURE_DECLARED: Rule = Rule::new(
    "erasure-declared",
    "The comment of a table says what erasing a tenant does to it: none (only without tenant_id), delete, keep, tombstone or anonymise.",
);
pub(super) const FOREIGN_TABLE: Rule =
    Rule::new("foreign-table", "Schema tenantry has no foreign tables: another server's policies are not ours.");
pub(super) const PARTITION_OUTSIDE: Rule = Rule::new(
    "partition-outside",
    "Partitions and child tables are in schema tenantry: policies of the parent do not hold who reads the child.",
);

pub(super) const POLICY_MISSING: Rule =
    Rule::new("policy-missing", "A tenant table has a policy for tenantry_tenant, and each role with a grant has one.");
pub(super) const POLICY_ROLES: Rule =
    Rule::new("policy-roles", "Policies are for tenantry_tenant and tenantry_operator, never for PUBLIC.");
pub(super) const POLICY_TENANT: Rule = Rule::new(
    "policy-tenant",
    "The policy of tenantry_tenant is the plain equality of tenant_id and the session's tenant, in USING and WITH CHECK; `true` for reading tables without tenant_id.",
);
pub(super) const POLICY_OPERATOR: Rule =
    Rule::new("policy-operator", "The policy of tenantry_operator is `true` or an equality on tenant_id.");

pub(super) const UNIQUE_TENANT: Rule = Rule::new(
    "unique-tenant",
    "Unique and exclusion constraints include tenant_id, or they reveal another tenant's values; meant ones have a comment `global=why`.",
);
pub(super) const FOREIGN_KEY_TENANT: Rule = Rule::new(
    "foreign-key-tenant",
    "Foreign keys between tenant tables pair tenant_id with tenant_id, or they accept another tenant's row.",
);

pub(super) const GRANT_ROLE: Rule =
    Rule::new("grant-role", "Only tenantry_tenant and tenantry_operator have grants in schema tenantry.");
pub(super) const GRANT_OPTION: Rule = Rule::new("grant-option", "No grant can be passed on.");
pub(super) const GRANT_PRIVILEGE: Rule = Rule::new(
    "grant-privilege",
    "Grants are SELECT, INSERT, UPDATE, DELETE: TRUNCATE and REFERENCES pass by the policies, TRIGGER and MAINTAIN run code.",
);
pub(super) const GRANT_APPEND_ONLY: Rule =
    Rule::new("grant-append-only", "Nobody may update or delete in the journal and its checkpoints.");
pub(super) const GRANT_CATALOGUE: Rule =
    Rule::new("grant-catalogue", "Tables without tenant_id are read-only for tenantry_tenant.");
pub(super) const GRANT_SEQUENCE: Rule =
    Rule::new("grant-sequence", "tenantry_tenant has no grant on sequences: they tell how much all tenants do.");
pub(super) const GRANT_MIGRATIONS: Rule =
    Rule::new("grant-migrations", "The table of applied migrations is the owner's alone.");

pub(super) const VIEW_INVOKER: Rule = Rule::new(
    "view-invoker",
    "Views over Tenantry's tables, in any schema, have security_invoker: others read as their owner.",
);
pub(super) const MATERIALISED_VIEW: Rule =
    Rule::new("materialised-view", "No materialised view copies Tenantry's tables: a copy has no policies.");

pub(super) const FUNCTION_DEFINER: Rule = Rule::new(
    "function-definer",
    "No SECURITY DEFINER function is in schema tenantry or within reach of the application's roles.",
);
pub(super) const FUNCTION_LEAKPROOF: Rule = Rule::new(
    "function-leakproof",
    "No function but PostgreSQL's and its extensions' is LEAKPROOF: such ones see rows before the policy does.",
);
pub(super) const FUNCTION_SEARCH_PATH: Rule =
    Rule::new("function-search-path", "Functions in schema tenantry have a fixed search_path.");
pub(super) const FUNCTION_GRANTS: Rule = Rule::new(
    "function-grants",
    "Only trigger functions and those of extensions are PUBLIC's to execute in schema tenantry; the rest only tenantry_tenant's and tenantry_operator's.",
);

pub(super) const TRIGGER_GUARD: Rule = Rule::new(
    "trigger-guard",
    "The triggers that keep the journal append-only and tenants in their life cycle are there and enabled.",
);
pub(super) const TRIGGER_FUNCTION: Rule =
    Rule::new("trigger-function", "Triggers on Tenantry's tables run Tenantry's or PostgreSQL's functions.");
pub(super) const REWRITE_RULE: Rule =
    Rule::new("rewrite-rule", "No rewrite rule turns a statement on Tenantry's tables into another.");

static ALL: &[Rule] = &[
    SERVER_VERSION,
    SESSION_SETTINGS,
    SESSION_DEFAULTS,
    DATABASE_CREATE,
    EVENT_TRIGGER,
    CATALOGUE_PUBLIC,
    ROLE_MISSING,
    ROLE_SUPERUSER,
    ROLE_BYPASSRLS,
    ROLE_ATTRIBUTES,
    ROLE_LOGIN,
    LOGIN_INHERITS,
    LOGIN_MEMBERSHIPS,
    ROLE_MEMBERSHIPS,
    ROLE_MEMBERS,
    ROLE_OWNS,
    ROLE_GRANTS,
    SCHEMA_OWNER,
    SCHEMA_GRANTS,
    SCHEMA_CREATE,
    DEFAULT_PRIVILEGES,
    OBJECT_OWNER,
    RLS_ENABLED,
    RLS_FORCED,
    TENANT_ID_COLUMN,
    TENANT_ID_INDEX,
    ERASURE_DECLARED,
    FOREIGN_TABLE,
    PARTITION_OUTSIDE,
    POLICY_MISSING,
    POLICY_ROLES,
    POLICY_TENANT,
    POLICY_OPERATOR,
    UNIQUE_TENANT,
    FOREIGN_KEY_TENANT,
    GRANT_ROLE,
    GRANT_OPTION,
    GRANT_PRIVILEGE,
    GRANT_APPEND_ONLY,
    GRANT_CATALOGUE,
    GRANT_SEQUENCE,
    GRANT_MIGRATIONS,
    VIEW_INVOKER,
    MATERIALISED_VIEW,
    FUNCTION_DEFINER,
    FUNCTION_LEAKPROOF,
    FUNCTION_SEARCH_PATH,
    FUNCTION_GRANTS,
    TRIGGER_GUARD,
    TRIGGER_FUNCTION,
    REWRITE_RULE,
];
