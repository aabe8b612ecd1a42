//! The rows of `oauth_clients` and `used_assertions`. Every statement names the owner beside what PostgreSQL holds it to.

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use serde_json::Value;

use super::{client::Client, client_secret::SecretHash};
use crate::{
    access::{Role, Scope},
    error::{Context as _, Result},
    platform::{
        db::Tx,
        ids::{ClientId, TenantId},
    },
};

/// A client with what proves it.
#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) client: Client,
    pub(super) secret_hash: Option<SecretHash>,
}

#[derive(FromQueryResult)]
struct Row {
    tenant_id: TenantId,
    client_id: ClientId,
    name: String,
    scopes: Vec<String>,
    roles: Vec<String>,
    secret_hash: Option<Vec<u8>>,
    jwks: Option<Value>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    disabled_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    version: i64,
}

impl TryFrom<Row> for Registered {
    type Error = crate::error::Error;

    fn try_from(row: Row) -> Result<Self> {
        let hash = row.secret_hash.map(SecretHash::try_from).transpose();
        let secret_hash = hash.map_err(|_| "a hash has 32 bytes").context("read a client's secret hash")?;
        let client = Client {
            id: row.client_id,
            tenant_id: row.tenant_id,
            name: row.name,
            scopes: row.scopes.iter().filter_map(|name| Scope::parse(name)).collect(),
            roles: row.roles.iter().filter_map(|name| Role::parse(name)).collect(),
            has_secret: secret_hash.is_some(),
            jwks: row.jwks,
            created_at: row.created_at,
            expires_at: row.expires_at,
            disabled_at: row.disabled_at,
            last_used_at: row.last_used_at,
            version: row.version,
        };
        Ok(Self { client, secret_hash })
    }
}

const FIND: &str = "select * from tenantry.oauth_clients where client_id = $1";
const LOCK: &str = "select * from tenantry.oauth_clients where tenant_id = $1 and client_id = $2 for update";
const LIST: &str = "select * from tenantry.oauth_clients where tenant_id = $1 order by client_id desc limit $2";
const COUNT: &str =
    "select count(*) as clients from tenantry.oauth_clients where tenant_id = $1 and disabled_at is null";
const INSERT: &str = "
    insert into tenantry.oauth_clients
      (tenant_id, client_id, name, scopes, roles, secret_hash, jwks, created_at, expires_at, version)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const DISABLE: &str = "
    update tenantry.oauth_clients set disabled_at = $3, version = version + 1 where tenant_id = $1 and client_id = $2";
/// Waits for nobody: whoever holds the row is noting the same, or disables the client.
const TOUCH: &str = "
    update tenantry.oauth_clients set last_used_at = $3 where (tenant_id, client_id) in
      (select tenant_id, client_id from tenantry.oauth_clients where tenant_id = $1 and client_id = $2 for update skip locked)";
const USE_ASSERTION: &str = "
    insert into tenantry.used_assertions (tenant_id, client_id, jti_hash, expires_at) values ($1, $2, $3, $4)
    on conflict do nothing";

/// A client by its id alone, in a session of the platform: before the token endpoint knows whose it is.
pub(super) async fn find(tx: &Tx, client: ClientId) -> Result<Option<Registered>> {
    tx.row(FIND, [client.into()]).await?.map(|row| Row::from_query_result(&row, "")?.try_into()).transpose()
}

/// An owner's client, held until the transaction ends.
pub(super) async fn lock(tx: &Tx, owner: TenantId, client: ClientId) -> Result<Option<Client>> {
    let row = tx.row(LOCK, [owner.into(), client.into()]).await?;
    let registered: Option<Registered> = row.map(|row| Row::from_query_result(&row, "")?.try_into()).transpose()?;
    Ok(registered.map(|registered| registered.client))
}

/// An owner's clients, the newest first.
pub(super) async fn list(tx: &Tx, owner: TenantId, limit: i64) -> Result<Vec<Client>> {
    let rows = tx.rows(LIST, [owner.into(), limit.into()]).await?;
    rows.iter()
        .map(|row| Registered::try_from(Row::from_query_result(row, "")?).map(|registered| registered.client))
        .collect()
}

/// How many clients an owner has that are not disabled.
pub(super) async fn count(tx: &Tx, owner: TenantId) -> Result<i64> {
    let row = tx.row(COUNT, [owner.into()]).await?.context("count the clients")?;
    Ok(row.try_get("", "clients")?)
}

pub(super) async fn insert(tx: &Tx, registered: &Registered) -> Result<()> {
    let client = &registered.client;
    let scopes: Vec<String> = client.scopes.iter().map(|scope| scope.name().to_owned()).collect();
    let roles: Vec<String> = client.roles.iter().map(|role| role.name().to_owned()).collect();
    let values = [
        client.tenant_id.into(),
        client.id.into(),
        client.name.as_str().into(),
        scopes.into(),
        roles.into(),
        registered.secret_hash.map(Vec::from).into(),
        client.jwks.clone().into(),
        client.created_at.into(),
        client.expires_at.into(),
        client.version.into(),
    ];
    tx.execute(INSERT, values).await?;
    Ok(())
}

pub(super) async fn disable(tx: &Tx, client: &Client, at: DateTime<Utc>) -> Result<()> {
    tx.execute(DISABLE, [client.tenant_id.into(), client.id.into(), at.into()]).await?;
    Ok(())
}

/// Notes that the client was used.
pub(super) async fn touch(tx: &Tx, client: &Client, at: DateTime<Utc>) -> Result<()> {
    tx.execute(TOUCH, [client.tenant_id.into(), client.id.into(), at.into()]).await?;
    Ok(())
}

/// Takes an assertion's `jti`; false where the client has used it before. A second one waits here for the first.
pub(super) async fn use_assertion(
    tx: &Tx,
    client: &Client,
    jti_hash: [u8; 32],
    expires_at: DateTime<Utc>,
) -> Result<bool> {
    let values = [client.tenant_id.into(), client.id.into(), jti_hash.to_vec().into(), expires_at.into()];
    Ok(tx.execute(USE_ASSERTION, values).await? == 1)
}
