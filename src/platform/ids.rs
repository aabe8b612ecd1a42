//! Typed ids: a tenant's id cannot stand where a client's is asked for.

/// Defines a newtype over UUID with text, JSON, database and GraphQL forms.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $make:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, sea_orm::DeriveValueType)]
        #[serde(transparent)]
        pub struct $name(uuid::Uuid);

        impl $name {
            pub fn generate() -> Self {
                Self($crate::platform::random::$make())
            }

            pub const fn from_uuid(uuid: uuid::Uuid) -> Self {
                Self(uuid)
            }

            pub const fn uuid(self) -> uuid::Uuid {
                self.0
            }
        }

        impl sea_orm::TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, sea_orm::DbErr> {
                Err(sea_orm::DbErr::ConvertFromU64(stringify!($name)))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// A tenant: UUIDv4, never reused.
    TenantId,
    uuid_v4
);
id!(
    /// A journal entry: UUIDv7, listed by time.
    EntryId,
    uuid_v7
);
id!(
    /// An OAuth client: UUIDv7. Also its `client_id`.
    ClientId,
    uuid_v7
);
id!(
    /// A change of a flag that waits for a second person: UUIDv7.
    FlagChangeId,
    uuid_v7
);

id!(
    /// An outage of a tenant: UUIDv7.
    OutageId,
    uuid_v7
);

id!(
    /// A reservation of quotas: UUIDv7.
    ReservationId,
    uuid_v7
);

id!(
    /// A temporary boost of a quota: UUIDv7.
    BoostId,
    uuid_v7
);

id!(
    /// What a tenant was given beside its plan: UUIDv7.
    GrantId,
    uuid_v7
);

id!(
    /// A cell: UUIDv7.
    CellId,
    uuid_v7
);

id!(
    /// A lease of the reconciler: UUIDv4, known to who holds it alone.
    LeaseId,
    uuid_v4
);

id!(
    /// A rollout of a schema template: UUIDv7.
    RolloutId,
    uuid_v7
);

id!(
    /// A move of a tenant between cells or tiers: UUIDv7.
    MoveId,
    uuid_v7
);

id!(
    /// A price of the catalogue: UUIDv7.
    PriceId,
    uuid_v7
);

id!(
    /// What an application plane was asked for: UUIDv7.
    PlaneJobId,
    uuid_v7
);

id!(
    /// A rule by which a tenant is told of its usage: UUIDv7.
    AlertRuleId,
    uuid_v7
);

id!(
    /// An alert on usage: UUIDv7, listed by time.
    UsageAlertId,
    uuid_v7
);

id!(
    /// A certificate authority that a tenant trusts, or knows: UUIDv7.
    TrustAnchorId,
    uuid_v7
);

id!(
    /// A certificate revocation list of a tenant: UUIDv7.
    RevocationListId,
    uuid_v7
);

id!(
    /// A synchronisation of a tenant's directory: UUIDv7, listed by time.
    DirectorySyncId,
    uuid_v7
);

id!(
    /// A connection by which a replica hears of changes: UUIDv4.
    ListenerId,
    uuid_v4
);

id!(
    /// A member of a tenant: UUIDv7.
    MemberId,
    uuid_v7
);

id!(
    /// A member's session: UUIDv7.
    SessionId,
    uuid_v7
);

id!(
    /// An operator's impersonation of a tenant: UUIDv7. Also `sid` and `sub` of its token.
    ImpersonationId,
    uuid_v7
);

impl TenantId {
    /// Owner of what belongs to the platform itself and to no tenant: the nil UUID, which a random id never is.
    /// A tenant's session can therefore never be bound to it.
    pub const PLATFORM: Self = Self(uuid::Uuid::nil());

    /// A tenant that Tenantry makes up to try what tenants can do to each other: UUIDv8, which no customer's id is.
    pub fn of_probe(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// Whether this one was made up by Tenantry.
    pub fn is_probe(self) -> bool {
        self.0.get_version_num() == 8
    }

    pub fn is_platform(self) -> bool {
        self == Self::PLATFORM
    }

    /// Reads an id that a client wrote. Anything that is not a UUID names nothing, so it is `not_found`, like a foreign id.
    pub fn parse(text: &str) -> crate::error::Result<Self> {
        text.parse().ok().filter(|id: &Self| !id.is_platform()).ok_or_else(crate::error::Error::not_found)
    }
}
