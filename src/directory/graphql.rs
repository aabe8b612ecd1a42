//! Directories in the schema.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::{
    Directory, NewAttributes, NewMapping, NewPermit, NewSecret, NewSettings, Permit, Person, Preset, ProbeReport,
    ProbeStep, StepKind, View,
    settings::{Certificate, NestedGroups, RoleMapping},
};
use crate::{
    error::Error,
    isolation::TenantScope,
    platform::ids::TenantId,
    tenancy::graphql::{conditions, enter_own_or, enter_platform},
};

/// A tenant's directory (LDAP, RFC 4511).
#[derive(Debug)]
pub struct DirectoryObject {
    view: View,
    permit: Permit,
}

#[Object(name = "Directory")]
impl DirectoryObject {
    async fn preset(&self) -> Preset {
        self.view.settings.preset
    }

    /// In the order in which they are tried.
    async fn servers(&self) -> Vec<String> {
        self.view.settings.servers.iter().map(ToString::to_string).collect()
    }

    /// Whether TLS is started on `ldap://` before anything else is said.
    async fn start_tls(&self) -> bool {
        !self.view.settings.is_plain_text()
    }

    /// Those that servers' certificates are verified by; empty: the system's.
    async fn certificate_authorities(&self) -> Vec<CertificateObject> {
        self.view.settings.certificates.iter().cloned().map(Into::into).collect()
    }

    async fn base_dn(&self) -> &str {
        self.view.settings.base_dn.text()
    }

    async fn bind_dn(&self) -> &str {
        self.view.settings.bind_dn.text()
    }

    /// When the bind secret was set. It is never shown.
    async fn bind_secret_set_at(&self) -> DateTime<Utc> {
        self.view.secret_set_at
    }

    async fn user_filter(&self) -> &str {
        self.view.settings.user_filter.text()
    }

    async fn group_base_dn(&self) -> &str {
        self.view.settings.group_base_dn.text()
    }

    async fn group_filter(&self) -> &str {
        self.view.settings.group_filter.text()
    }

    async fn nested_groups(&self) -> NestedGroups {
        self.view.settings.nested_groups
    }

    async fn attributes(&self) -> AttributesObject {
        let attributes = self.view.settings.attributes.clone();
        AttributesObject {
            email: attributes.email,
            name: attributes.name,
            external_id: attributes.external_id,
            member: attributes.member,
        }
    }

    async fn role_mappings(&self) -> Vec<RoleMappingObject> {
        self.view.settings.role_mappings.iter().cloned().map(Into::into).collect()
    }

    /// Of everybody who is found.
    async fn default_roles(&self) -> &[String] {
        &self.view.settings.default_roles
    }

    /// Entries in a page (RFC 2696).
    async fn page_size(&self) -> i32 {
        self.view.settings.page_size.into()
    }

    /// How many members one synchronisation may deactivate unless it is forced.
    async fn most_deactivations(&self) -> u32 {
        self.view.settings.deactivations.most
    }

    /// The same in per cent of the members that came from the directory; both hold.
    async fn most_deactivations_percent(&self) -> u32 {
        self.view.settings.deactivations.percent
    }

    /// How often it is synchronised by itself; null: when somebody asks.
    async fn sync_interval_minutes(&self) -> Option<u32> {
        self.view.settings.sync_interval_minutes
    }

    /// When it is synchronised by itself the next time.
    async fn next_sync_at(&self) -> Option<DateTime<Utc>> {
        self.view.next_sync_at
    }

    /// Whether an operator permits `ldap://` without StartTLS.
    async fn plain_text_permitted(&self) -> bool {
        self.permit.plain_text
    }

    /// Whether an operator lets servers' certificates go unverified.
    async fn unverified_permitted(&self) -> bool {
        self.permit.unverified
    }

    /// Grows by one with every change; what `expectedVersion` is compared with.
    async fn version(&self) -> i64 {
        self.view.version
    }

    async fn created_at(&self) -> DateTime<Utc> {
        self.view.created_at
    }

    async fn updated_at(&self) -> DateTime<Utc> {
        self.view.updated_at
    }
}

/// What of a certificate (RFC 5280) is shown.
#[derive(Debug, SimpleObject)]
#[graphql(name = "DirectoryCertificate")]
pub struct CertificateObject {
    subject: String,
    issuer: String,
    not_before: DateTime<Utc>,
    not_after: DateTime<Utc>,
    /// Whether it may sign others (basicConstraints).
    is_authority: bool,
}

impl From<Certificate> for CertificateObject {
    fn from(certificate: Certificate) -> Self {
        let Certificate { subject, issuer, not_before, not_after, is_authority } = certificate;
        Self { subject, issuer, not_before, not_after, is_authority }
    }
}

/// Names of attributes.
#[derive(Debug, SimpleObject)]
#[graphql(name = "DirectoryAttributes")]
pub struct AttributesObject {
    email: String,
    name: String,
    /// What stays when an entry is renamed.
    external_id: String,
    /// Of groups: the DNs of those in them.
    member: String,
}

#[derive(Debug, SimpleObject)]
#[graphql(name = "DirectoryRoleMapping")]
pub struct RoleMappingObject {
    /// A group's DN.
    group: String,
    /// Keys of the roles of who is in it.
    roles: Vec<String>,
}

impl From<RoleMapping> for RoleMappingObject {
    fn from(mapping: RoleMapping) -> Self {
        Self { group: mapping.group.into(), roles: mapping.roles }
    }
}

#[derive(Debug, InputObject)]
pub struct DirectoryAttributesInput {
    /// `mail` where not given.
    email: Option<String>,
    /// The preset's where not given: `cn`, or `displayName` of Active Directory.
    name: Option<String>,
    /// What stays when an entry is renamed. The preset's where not given: `entryUUID`, or `objectGUID` of Active Directory.
    external_id: Option<String>,
    /// Of groups: the DNs of those in them; `member` where not given.
    member: Option<String>,
}

#[derive(Debug, InputObject)]
pub struct DirectoryRoleMappingInput {
    /// A group's DN (RFC 4514); it is compared by its parts, not by how it is written.
    group: String,
    /// Keys of the roles of who is in it.
    roles: Vec<String>,
}

#[derive(InputObject)]
pub struct ConfigureDirectoryInput {
    /// The tenant; the token's own where not given.
    tenant_id: Option<ID>,
    /// What holds where fields below are not given.
    #[graphql(default_with = "Preset::Standard")]
    preset: Preset,
    /// 1 to 8 of `ldaps://host[:port]` or `ldap://host[:port]`, in the order in which they are tried. Addresses have to be public, unless the
    /// operator allows their network.
    servers: Vec<String>,
    /// Whether TLS is started on `ldap://` (RFC 4511, section 4.14); without it an operator has to permit plain text.
    #[graphql(default = true)]
    start_tls: bool,
    /// 1 to 20 certificates in PEM that servers' certificates are verified by, in place of the system's.
    certificate_authorities: Option<String>,
    /// Below which people are (RFC 4514).
    base_dn: String,
    /// Who reads the directory.
    bind_dn: String,
    /// The password of `bindDn`. Kept sealed and never shown. Where it is not given the one before stays, but it has to be sent again where
    /// `servers`, `startTls`, `certificateAuthorities` or `bindDn` change.
    bind_secret: Option<String>,
    /// Finds a person (RFC 4515); `{login}` stands where the login is compared. All people are those that it finds for any login.
    user_filter: Option<String>,
    attributes: Option<DirectoryAttributesInput>,
    /// Below which groups are; `baseDn` where not given.
    group_base_dn: Option<String>,
    /// Which entries are groups (RFC 4515).
    group_filter: Option<String>,
    nested_groups: Option<NestedGroups>,
    #[graphql(default)]
    role_mappings: Vec<DirectoryRoleMappingInput>,
    /// Of everybody who is found.
    #[graphql(default)]
    default_roles: Vec<String>,
    /// Entries in a page, 10 to 10,000 (RFC 2696).
    #[graphql(default = 500)]
    page_size: i32,
    /// How many members one synchronisation may deactivate unless it is forced.
    #[graphql(default = 50)]
    most_deactivations: i32,
    /// The same in per cent of the members that came from the directory; both hold.
    #[graphql(default = 20)]
    most_deactivations_percent: i32,
    /// From 5 to 10,080; not given: it is synchronised when somebody asks.
    sync_interval_minutes: Option<i32>,
    /// The version that you saw last; 0 where there was no directory.
    expected_version: Option<i64>,
}

impl std::fmt::Debug for ConfigureDirectoryInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigureDirectoryInput").field("servers", &self.servers).finish_non_exhaustive()
    }
}

#[derive(Debug, InputObject)]
pub struct RemoveDirectoryInput {
    /// The tenant; the token's own where not given.
    tenant_id: Option<ID>,
    /// The version that you saw last.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct TestDirectoryInput {
    /// The tenant; the token's own where not given.
    tenant_id: Option<ID>,
    /// Somebody to look for, as they would type it.
    login: Option<String>,
}

#[derive(Debug, InputObject)]
pub struct PermitDirectoryInput {
    tenant_id: ID,
    /// `ldap://` without StartTLS: passwords can be read on the way.
    plain_text: bool,
    /// Servers' certificates are not verified: passwords can be read by who is on the way.
    unverified: bool,
    /// 1 to 500 characters.
    reason: String,
    /// The version that you saw last; 0 where nothing was permitted yet.
    expected_version: Option<i64>,
}

#[derive(Debug, SimpleObject)]
pub struct DirectoryPayload {
    directory: DirectoryObject,
}

/// What an operator permits to a tenant's directory that is not safe by itself.
#[derive(Debug, SimpleObject)]
#[graphql(name = "DirectoryPermit")]
pub struct PermitObject {
    plain_text: bool,
    unverified: bool,
    reason: String,
    version: i64,
    updated_at: DateTime<Utc>,
}

#[derive(Debug, SimpleObject)]
pub struct PermitDirectoryPayload {
    permit: PermitObject,
}

/// How a directory was tried.
#[derive(Debug, SimpleObject)]
pub struct TestDirectoryPayload {
    /// Whether every step of every server went well.
    ok: bool,
    /// In their order; what comes behind a step that failed is left out.
    steps: Vec<DirectoryTestStep>,
    /// Who has the login that was given.
    person: Option<DirectoryPerson>,
}

#[derive(Debug, SimpleObject)]
pub struct DirectoryTestStep {
    /// Which server, for what is tried with each; null for what is tried with the first that works.
    server: Option<String>,
    step: StepKind,
    ok: bool,
    /// How long it took.
    milliseconds: i64,
    /// Why it failed.
    reason: Option<String>,
    /// The result code of RFC 4511, appendix A, where the server gave one.
    result_code: Option<u32>,
    /// Of TLS: what the server showed, its own certificate first, trusted or not.
    certificates: Vec<CertificateObject>,
}

/// Somebody of a directory, and what would become of them here.
#[derive(Debug, SimpleObject)]
pub struct DirectoryPerson {
    external_id: String,
    dn: String,
    email: String,
    name: String,
    /// DNs.
    groups: Vec<String>,
    /// Keys of roles.
    roles: Vec<String>,
}

impl From<Person> for DirectoryPerson {
    fn from(person: Person) -> Self {
        let Person { external_id, dn, email, name, groups, roles } = person;
        Self { external_id, dn, email, name, groups, roles }
    }
}

impl From<ProbeReport> for TestDirectoryPayload {
    fn from(report: ProbeReport) -> Self {
        let ok = report.is_good();
        let steps = report.steps.into_iter().map(Into::into).collect();
        Self { ok, steps, person: report.person.map(Into::into) }
    }
}

impl From<ProbeStep> for DirectoryTestStep {
    fn from(step: ProbeStep) -> Self {
        Self {
            server: step.server,
            step: step.kind,
            ok: step.failure.is_none(),
            milliseconds: i64::try_from(step.took.as_millis()).unwrap_or(i64::MAX),
            reason: step.failure,
            result_code: step.code,
            certificates: step.certificates.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Debug, Default)]
pub struct DirectoryQuery;

#[Object]
impl DirectoryQuery {
    /// The tenant's directory; null where none is configured.
    ///
    /// Scope: `auth:directory:read`.
    async fn directory(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<Option<DirectoryObject>> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        let Some(view) = handle(ctx)?.find(&scope).await? else { return Ok(None) };
        Ok(Some(object(ctx, &scope, view).await?))
    }
}

#[derive(Debug, Default)]
pub struct DirectoryMutation;

#[Object]
impl DirectoryMutation {
    /// Sets the tenant's directory as a whole. No server is asked; `testDirectory` does that.
    ///
    /// Errors: `invalid_input` with the field and its rule.
    ///
    /// Scope: `auth:directory:write`.
    async fn configure_directory(&self, ctx: &Context<'_>, input: ConfigureDirectoryInput) -> Result<DirectoryPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let conditions = conditions(ctx, input.expected_version);
        let secret = NewSecret::check(input.bind_secret)?;
        let attributes = input.attributes.map_or_else(NewAttributes::default, |sent| NewAttributes {
            email: sent.email,
            name: sent.name,
            external_id: sent.external_id,
            member: sent.member,
        });
        let mapping = |sent: DirectoryRoleMappingInput| NewMapping { group: sent.group, roles: sent.roles };
        let wanted = NewSettings {
            preset: input.preset,
            servers: input.servers,
            start_tls: input.start_tls,
            certificate_authorities: input.certificate_authorities,
            base_dn: input.base_dn,
            bind_dn: input.bind_dn,
            user_filter: input.user_filter,
            attributes,
            group_base_dn: input.group_base_dn,
            group_filter: input.group_filter,
            nested_groups: input.nested_groups,
            role_mappings: input.role_mappings.into_iter().map(mapping).collect(),
            default_roles: input.default_roles,
            page_size: input.page_size,
            most_deactivations: input.most_deactivations,
            most_deactivations_percent: input.most_deactivations_percent,
            sync_interval_minutes: input.sync_interval_minutes,
        };
        let view = handle(ctx)?.configure(&scope, wanted, secret, &conditions).await?;
        Ok(DirectoryPayload { directory: object(ctx, &scope, view).await? })
    }

    /// Forgets the tenant's directory with its secret. Members stay as they are; nobody signs in by it any more.
    ///
    /// Errors: `not_found` where there is none, `conflict` for an old version.
    ///
    /// Scope: `auth:directory:write`.
    async fn remove_directory(&self, ctx: &Context<'_>, input: RemoveDirectoryInput) -> Result<DirectoryPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let view = handle(ctx)?.remove(&scope, &conditions(ctx, input.expected_version)).await?;
        Ok(DirectoryPayload { directory: object(ctx, &scope, view).await? })
    }

    /// Tries the directory as it is configured, step by step: each server up to the bind, and with the first that works the search and,
    /// for a login, the person with groups and roles. Changes nothing.
    ///
    /// Errors: `not_found` where there is none, `conflict` where it is asked too much at once.
    ///
    /// Scope: `auth:directory:write`.
    async fn test_directory(&self, ctx: &Context<'_>, input: TestDirectoryInput) -> Result<TestDirectoryPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        Ok(handle(ctx)?.probe(&scope, input.login.as_deref()).await?.into())
    }

    /// Permits to a tenant's directory what is not safe by itself, or takes that back; it holds from the next connection on.
    ///
    /// Errors: `invalid_input` at `reason`, `not_found` for an unknown tenant, `conflict` for an old version.
    ///
    /// Scope: `auth:directory:write`, operators only.
    async fn permit_directory(&self, ctx: &Context<'_>, input: PermitDirectoryInput) -> Result<PermitDirectoryPayload> {
        let scope = enter_platform(ctx, "Mutation")?;
        let conditions = conditions(ctx, input.expected_version);
        let wanted = NewPermit { plain_text: input.plain_text, unverified: input.unverified, reason: input.reason };
        let tenant = TenantId::parse(&input.tenant_id)?;
        let Permit { plain_text, unverified, reason, version, updated_at } =
            handle(ctx)?.set_permit(&scope, tenant, wanted, &conditions).await?;
        Ok(PermitDirectoryPayload { permit: PermitObject { plain_text, unverified, reason, version, updated_at } })
    }
}

async fn object(ctx: &Context<'_>, scope: &TenantScope, view: View) -> Result<DirectoryObject> {
    Ok(DirectoryObject { permit: handle(ctx)?.permit(scope).await?, view })
}

/// Enters the tenant that is named, or the caller's own.
pub(super) async fn entered(ctx: &Context<'_>, type_name: &str, tenant: Option<&ID>) -> Result<TenantScope> {
    let scope = enter_own_or(ctx, type_name, tenant).await?;
    Ok(scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator is bound to no tenant"))?)
}

pub(super) fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Directory> {
    Ok(ctx.data_opt::<Directory>().ok_or_else(|| Error::internal("the schema has no directory"))?)
}
