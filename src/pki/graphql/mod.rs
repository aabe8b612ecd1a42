//! Certificates in the schema.

mod anchor;
mod policy;

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};

use self::{
    anchor::{ExpiringCertificate, TrustAnchor, TrustAnchorConnection, TrustAnchorEdge},
    policy::{CertificateCheck, CertificateMappingInput, CertificateOrigin, CertificatePolicy, RevocationList},
};
use super::{
    Pki,
    anchor::{Anchor, LABEL, Role},
    pem,
    policy::{NewPolicy, Revocation},
    refusal::{Reason, Refusal},
    verify::Verdict,
};
use crate::{
    access::{self, MOST_CERTIFICATES},
    error::Error,
    isolation::TenantScope,
    platform::page::{self, LargestPage, PageInfo, PageRequest},
    tenancy::graphql::{conditions, enter_own_or, enter_platform},
};

#[derive(Debug, InputObject)]
pub struct AddTrustAnchorsInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    /// 1 to 100 blocks `CERTIFICATE` (RFC 7468), at most 1,000,000 bytes. Text around the blocks is passed over.
    pem: String,
    /// What they are good for.
    #[graphql(default_with = "Role::Anchor")]
    role: Role,
}

#[derive(Debug, InputObject)]
pub struct RemoveTrustAnchorInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    id: ID,
}

#[derive(Debug, InputObject)]
pub struct AddRevocationListInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    /// 1 to 10 blocks `X509 CRL` (RFC 7468), at most 1,000,000 bytes.
    pem: String,
}

#[derive(Debug, InputObject)]
pub struct RemoveRevocationListInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    id: ID,
}

#[derive(Debug, InputObject)]
pub struct SetCertificatePolicyInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    revocation: Revocation,
    /// Whether responders are asked that certificates name (OCSP, RFC 6960). Those at private addresses are not.
    #[graphql(default)]
    ocsp: bool,
    /// Whether revocation lists are fetched from where certificates say. Those at private addresses are not.
    #[graphql(default)]
    fetch_lists: bool,
    /// 1 to 10 rules; where not given, an e-mail address among the alternative names is the member's.
    mapping: Option<Vec<CertificateMappingInput>>,
    /// The version that you saw last; 0 where there was none.
    expected_version: Option<i64>,
}

#[derive(Debug, InputObject)]
pub struct CheckCertificateInput {
    /// The tenant; a service's own where not given.
    tenant_id: Option<ID>,
    /// 1 to 10 blocks `CERTIFICATE` (RFC 7468), the client's own first. Where not given, what this request was sent with: in the TLS handshake,
    /// or in a header of a trusted proxy.
    pem: Option<String>,
}

#[derive(Debug, SimpleObject)]
pub struct TrustAnchorsPayload {
    trust_anchors: Vec<TrustAnchor>,
}

#[derive(Debug, SimpleObject)]
pub struct TrustAnchorPayload {
    trust_anchor: TrustAnchor,
}

#[derive(Debug, SimpleObject)]
pub struct RevocationListsPayload {
    revocation_lists: Vec<RevocationList>,
}

#[derive(Debug, SimpleObject)]
pub struct RevocationListPayload {
    revocation_list: RevocationList,
}

#[derive(Debug, SimpleObject)]
pub struct CertificatePolicyPayload {
    policy: CertificatePolicy,
}

/// Certificates of authorities as one text.
#[derive(Debug, SimpleObject)]
pub struct TrustBundle {
    pem: String,
    /// SHA-256 of the text, in hexadecimal digits; `GET /api/v1/pki/bundle.pem` has it as its entity tag.
    tag: String,
    /// How many there are.
    certificates: usize,
}

#[derive(Debug, Default)]
pub struct PkiQuery;

#[Object]
impl PkiQuery {
    /// Certificates of authorities that the tenant trusts, or knows as links to those, in the order in which they were added; without an id,
    /// of the tenant that the token is bound to.
    ///
    /// Scope: `auth:pki:read`.
    async fn trust_anchors(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(default = 25, desc = "At most 100.")] first: i32,
        #[graphql(desc = "Cursor of the last certificate of the page before.")] after: Option<String>,
    ) -> Result<TrustAnchorConnection> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        let request = PageRequest::new(Some(first), after, ctx.data::<LargestPage>()?.0)?;
        let pki = handle(ctx)?;
        let page = pki.anchors(&scope, &request).await?;
        let cursors: Vec<_> = page.items.iter().map(|anchor| page::encode(&anchor.anchor_id)).collect();
        let page_info = PageInfo::new(&page, &cursors);
        let nodes = page.items.into_iter().map(|anchor| shown(pki, anchor));
        let edges = cursors.into_iter().zip(nodes).map(|(cursor, node)| TrustAnchorEdge { cursor, node }).collect();
        Ok(TrustAnchorConnection { edges, page_info })
    }

    /// Certificates of authorities that end within so many days (0 to 3660) or have ended, the next to end first; without an id, of the tenant
    /// that the token is bound to, and for operators of all tenants, at most 500.
    ///
    /// Errors: `invalid_input` at `withinDays`.
    ///
    /// Scope: `auth:pki:read`.
    async fn expiring_certificates(
        &self,
        ctx: &Context<'_>,
        tenant_id: Option<ID>,
        #[graphql(default = 30)] within_days: i32,
    ) -> Result<Vec<ExpiringCertificate>> {
        let pki = handle(ctx)?;
        let found = match enter_own_or(ctx, "Query", tenant_id.as_ref()).await? {
            Some(scope) => pki.expiring(&scope, within_days).await?,
            None => pki.all_expiring(&enter_platform(ctx, "Query")?, within_days).await?,
        };
        let now = pki.isolation.clock().now();
        Ok(found.into_iter().map(|(tenant, anchor)| ExpiringCertificate { tenant, anchor, now }).collect())
    }

    /// The certificates that are trusted at present as one text, for gateways that check certificates themselves; without an id, of the tenant
    /// that the token is bound to. Those that have ended, and those that are links alone, are not in it.
    ///
    /// Scope: `auth:pki:read`.
    async fn trust_bundle(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<TrustBundle> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        let bundle = handle(ctx)?.bundle(&scope).await?;
        Ok(TrustBundle { pem: bundle.pem, tag: bundle.tag, certificates: bundle.certificates })
    }

    /// Revocation lists of the tenant's authorities, at most 50, by issuer; without an id, of the tenant that the token is bound to.
    ///
    /// Scope: `auth:pki:read`.
    async fn revocation_lists(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<Vec<RevocationList>> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        Ok(handle(ctx)?.lists(&scope).await?.into_iter().map(RevocationList).collect())
    }

    /// How certificates are checked, and whom they name; without an id, of the tenant that the token is bound to.
    ///
    /// Scope: `auth:pki:read`.
    async fn certificate_policy(&self, ctx: &Context<'_>, tenant_id: Option<ID>) -> Result<CertificatePolicy> {
        let scope = entered(ctx, "Query", tenant_id.as_ref()).await?;
        Ok(CertificatePolicy(handle(ctx)?.policy(&scope).await?))
    }

    /// What a certificate is worth to the tenant: whether a path leads from it to a trust anchor (RFC 5280, section 6), whether it has been
    /// revoked, and whom it names. It is what signing in with it would find.
    ///
    /// Errors: `invalid_input` at `pem`.
    ///
    /// Scope: `auth:pki:read`.
    async fn check_certificate(&self, ctx: &Context<'_>, input: CheckCertificateInput) -> Result<CertificateCheck> {
        let scope = entered(ctx, "Query", input.tenant_id.as_ref()).await?;
        let (chain, origin) = match &input.pem {
            Some(text) => {
                let blocks = pem::read("pem", text, LABEL, MOST_CERTIFICATES)?;
                (blocks.into_iter().map(|block| block.der).collect(), CertificateOrigin::Input)
            }
            None => match &access::graphql::caller(ctx)?.origin.certificate {
                Some(presented) => (presented.chain.clone(), presented.by.into()),
                None => {
                    let refusal = Refusal::new(Reason::Missing, "this request was sent without a certificate");
                    return Ok(CertificateCheck {
                        verdict: Verdict::Refused(refusal),
                        origin: CertificateOrigin::Input,
                    });
                }
            },
        };
        let pki = handle(ctx)?;
        let verdict = pki.verify(&scope, chain, pki.isolation.clock().now()).await?;
        Ok(CertificateCheck { verdict, origin })
    }
}

#[derive(Debug, Default)]
pub struct PkiMutation;

#[Object]
impl PkiMutation {
    /// Adds certificates of authorities: all of them, or none. They must be authorities' own (`basicConstraints`, `keyUsage`), in force, with
    /// RSA keys of 2048 to 8192 bits, EC keys on P-256, P-384 or P-521, or Ed25519, and signed with SHA-256 or better. A tenant has at most 100.
    ///
    /// Errors: `invalid_input` at `pem` with the number of the certificate, its line and its rule; `conflict` at `pem` where it is there
    /// already or there are too many. A private key is refused wherever it stands, and is not kept.
    ///
    /// Scope: `auth:pki:write`.
    async fn add_trust_anchors(&self, ctx: &Context<'_>, input: AddTrustAnchorsInput) -> Result<TrustAnchorsPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let pki = handle(ctx)?;
        let added = pki.add_anchors(&scope, input.pem, input.role, &conditions(ctx, None)).await?;
        Ok(TrustAnchorsPayload { trust_anchors: added.into_iter().map(|anchor| shown(pki, anchor)).collect() })
    }

    /// Takes the certificate of an authority away: what it has issued is no longer believed.
    ///
    /// Errors: `not_found` at `id`.
    ///
    /// Scope: `auth:pki:write`.
    async fn remove_trust_anchor(
        &self,
        ctx: &Context<'_>,
        input: RemoveTrustAnchorInput,
    ) -> Result<TrustAnchorPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let id = input.id.parse().map_err(|_| Error::not_found().at("id"))?;
        let pki = handle(ctx)?;
        let removed = pki.remove_anchor(&scope, id, &conditions(ctx, None)).await?;
        Ok(TrustAnchorPayload { trust_anchor: shown(pki, removed) })
    }

    /// Adds revocation lists of the tenant's authorities: all of them, or none. Each takes the place of an older one about the same. Deltas and
    /// indirect lists are not taken.
    ///
    /// Errors: `invalid_input` at `pem` with the number of the list and its rule; `conflict` at `pem` where a newer one is there.
    ///
    /// Scope: `auth:pki:write`.
    async fn add_revocation_list(
        &self,
        ctx: &Context<'_>,
        input: AddRevocationListInput,
    ) -> Result<RevocationListsPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let added = handle(ctx)?.add_lists(&scope, input.pem, &conditions(ctx, None)).await?;
        Ok(RevocationListsPayload { revocation_lists: added.into_iter().map(RevocationList).collect() })
    }

    /// Forgets a revocation list.
    ///
    /// Errors: `not_found` at `id`.
    ///
    /// Scope: `auth:pki:write`.
    async fn remove_revocation_list(
        &self,
        ctx: &Context<'_>,
        input: RemoveRevocationListInput,
    ) -> Result<RevocationListPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let id = input.id.parse().map_err(|_| Error::not_found().at("id"))?;
        let removed = handle(ctx)?.remove_list(&scope, id, &conditions(ctx, None)).await?;
        Ok(RevocationListPayload { revocation_list: RevocationList(removed) })
    }

    /// Sets how certificates are checked, and whom they name.
    ///
    /// Errors: `invalid_input` with the field and its rule, `conflict` for an old version.
    ///
    /// Scope: `auth:pki:write`.
    async fn set_certificate_policy(
        &self,
        ctx: &Context<'_>,
        input: SetCertificatePolicyInput,
    ) -> Result<CertificatePolicyPayload> {
        let scope = entered(ctx, "Mutation", input.tenant_id.as_ref()).await?;
        let new = NewPolicy {
            revocation: input.revocation,
            ocsp: input.ocsp,
            fetch_lists: input.fetch_lists,
            mapping: input.mapping.map(|rules| rules.into_iter().map(Into::into).collect()),
        };
        let policy = handle(ctx)?.set_policy(&scope, new, &conditions(ctx, input.expected_version)).await?;
        Ok(CertificatePolicyPayload { policy: CertificatePolicy(policy) })
    }
}

fn shown(pki: &Pki, anchor: Anchor) -> TrustAnchor {
    TrustAnchor { anchor, now: pki.isolation.clock().now() }
}

async fn entered(ctx: &Context<'_>, type_name: &str, tenant: Option<&ID>) -> Result<TenantScope> {
    let scope = enter_own_or(ctx, type_name, tenant).await?;
    Ok(scope.ok_or_else(|| Error::invalid("tenantId", "is needed: an operator is bound to no tenant"))?)
}

fn handle<'a>(ctx: &Context<'a>) -> Result<&'a Pki> {
    Ok(ctx.data_opt::<Pki>().ok_or_else(|| Error::internal("the schema has no pki"))?)
}
