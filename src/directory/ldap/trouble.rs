//! Why a directory does not do what it is asked. Written for the tenant's administrator; nothing of what the server says in its own
//! words is passed on, as it may repeat what it was sent.

use std::borrow::Cow;

use crate::platform::reach::Unreached;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::directory) enum Trouble {
    #[error("the server's name cannot be resolved")]
    Name,
    #[error("the server's address is private, local or of a metadata service; the operator has to allow its network")]
    Forbidden,
    #[error("no connection: {0}")]
    Connection(Cow<'static, str>),
    #[error("TLS: {0}")]
    Tls(Cow<'static, str>),
    #[error("the server does not start TLS (result code {0}); nothing was sent to it")]
    StartTls(u32),
    #[error("plain text is not permitted to this tenant; use ldaps:// or StartTLS")]
    PlainText,
    #[error("no answer in time: {0}")]
    Slow(&'static str),
    #[error("the server's answer is not LDAP: {0} was expected")]
    Garbage(&'static str),
    #[error("the server ended the connection")]
    Closed,
    #[error("the server's answers are larger than {0} bytes")]
    TooLarge(usize),
    #[error("more than {0} entries were found")]
    TooMany(usize),
    #[error("the server gives members of large groups in parts; let it follow groups itself (nestedGroups: CHAIN)")]
    Parts,
    #[error("the server refers to another one, and referrals are not followed")]
    Referral,
    #[error("the server answers with result code {code} ({})", name(*code))]
    Refused { code: u32 },
    #[error("each server failed several times in a row; they are tried again shortly")]
    Resting,
    #[error("too many sign-ins at once wait for this directory")]
    Crowded,
}

impl Trouble {
    /// Whether it is about the way to the server or the server itself, so that another one may do better.
    pub(in crate::directory) fn is_of_server(&self) -> bool {
        match self {
            Self::Refused { code } => matches!(code, 1 | 2 | 51 | 52 | 80), // operations and protocol error, busy, unavailable, other
            Self::PlainText | Self::Parts | Self::Referral | Self::TooMany(_) | Self::Crowded | Self::Resting => false,
            _ => true,
        }
    }

    /// The result code of RFC 4511 where the server gave one.
    pub(in crate::directory) fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { code } | Self::StartTls(code) => Some(*code),
            _ => None,
        }
    }
}

impl From<Unreached> for Trouble {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Name => Self::Name,
            Unreached::Forbidden => Self::Forbidden,
            Unreached::Slow => Self::Slow("connection"),
            Unreached::Failed(error) => Self::Connection(match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "refused".into(),
                std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::HostUnreachable => "unreachable".into(),
                kind => kind.to_string().into(),
            }),
        }
    }
}

/// The codes' names (RFC 4511, appendix A).
fn name(code: u32) -> &'static str {
    match code {
        1 => "operationsError",
        2 => "protocolError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        7 => "authMethodNotSupported",
        8 => "strongerAuthRequired",
        11 => "adminLimitExceeded",
        12 => "unavailableCriticalExtension",
        13 => "confidentialityRequired",
        16 => "noSuchAttribute",
        17 => "undefinedAttributeType",
        18 => "inappropriateMatching",
        19 => "constraintViolation",
        32 => "noSuchObject",
        33 => "aliasProblem",
        34 => "invalidDNSyntax",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        80 => "other",
        _ => "another reason",
    }
}
