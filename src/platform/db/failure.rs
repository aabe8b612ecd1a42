//! What a failed statement means for the caller. PostgreSQL's own text never leaves: its DETAIL shows other rows' keys.

use sea_orm::{DbErr, RuntimeErr};
use sqlx::Error as SqlxError;

use crate::error::{Error, Kind};

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let kind = match cause(&error) {
            Some(SqlxError::Database(database)) => kind_of(database.code().as_deref().unwrap_or_default()),
            Some(
                SqlxError::Io(_)
                | SqlxError::Tls(_)
                | SqlxError::PoolTimedOut
                | SqlxError::PoolClosed
                | SqlxError::WorkerCrashed,
            ) => Kind::Unavailable,
            _ => Kind::Internal,
        };
        match kind {
            Kind::Unavailable => Self::unavailable(error),
            Kind::InvalidInput => {
                Self::new(kind, "a text holds a character that cannot be kept, such as NUL").because(error)
            }
            Kind::Conflict => {
                Self::conflict("another change came first; read the object again and repeat").because(error)
            }
            _ => Self::internal(error),
        }
    }
}

/// PostgreSQL error codes, appendix A of its manual.
fn kind_of(sqlstate: &str) -> Kind {
    match sqlstate {
        // connection, resources (53100 disk full), operator intervention (57014 statement timeout), read-only replica, I/O
        _ if ["08", "53", "57", "58"].iter().any(|class| sqlstate.starts_with(class)) => Kind::Unavailable,
        "25006" | "25P03" | "40001" | "40P01" | "55P03" => Kind::Unavailable,
        "23505" => Kind::Conflict,
        // NUL in text, \u0000 in JSON: the only texts of a client that a prepared statement does not take
        "22021" | "22P05" => Kind::InvalidInput,
        _ => Kind::Internal,
    }
}

/// The constraint that a statement broke, to be translated where the statement is written.
pub fn violated_constraint(error: &DbErr) -> Option<&str> {
    match cause(error) {
        Some(SqlxError::Database(database)) => database.constraint(),
        _ => None,
    }
}

/// PostgreSQL's code for what it refused; none where it was not asked, or the connection was lost.
pub fn sqlstate(error: &DbErr) -> Option<String> {
    match cause(error) {
        Some(SqlxError::Database(database)) => database.code().map(|code| code.into_owned()),
        _ => None,
    }
}

/// Whether the connection was found dead: the stream ended, or its server process says that it ends (57P01 to 57P03).
pub(super) fn is_lost(error: &SqlxError) -> bool {
    match error {
        SqlxError::Io(_) => true,
        SqlxError::Database(error) => matches!(error.code().as_deref(), Some("57P01" | "57P02" | "57P03")),
        _ => false,
    }
}

pub(super) fn sqlx_failed(error: SqlxError) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

fn cause(error: &DbErr) -> Option<&SqlxError> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}
