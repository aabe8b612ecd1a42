//! Why a socket ends, and what its client is told.

use axum::extract::ws::CloseFrame;

use super::message::OperationId;
use crate::error::{Error, Kind};

/// RFC 6455, section 5.5: a control frame holds 125 bytes, two of which are the code.
const REASON_BYTES: usize = 123;

#[derive(Debug)]
pub(super) enum Close {
    /// Not a message of the protocol; the text says why.
    Invalid(String),
    TooLarge,
    /// `subscribe` before `connection_ack`.
    TooEarly,
    /// The house said no, at the start or later.
    Refused(Error),
    InitTimeout,
    Duplicate(OperationId),
    SecondInit,
    SlowReader,
    GoingAway,
    /// A panic in the house.
    Failed,
    /// The client closed, with this code.
    ByPeer(u16),
    /// The connection broke, or the peer stopped answering.
    Lost,
}

impl Close {
    /// RFC 6455, section 7.4, and the protocol's own. 1005 and 1006 are never sent: they name the absence of a code.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::Invalid(_) => 4400,
            Self::TooLarge => 1009,
            Self::TooEarly => 4401,
            Self::Refused(error) => match error.kind() {
                Kind::Unavailable | Kind::RateLimited => 1013,
                Kind::Internal => 4500,
                _ => 4403,
            },
            Self::InitTimeout => 4408,
            Self::Duplicate(_) => 4409,
            Self::SecondInit => 4429,
            Self::SlowReader => 1013,
            Self::GoingAway => 1001,
            Self::Failed => 4500,
            Self::ByPeer(code) => *code,
            Self::Lost => 1006,
        }
    }

    fn reason(&self) -> String {
        match self {
            Self::Invalid(why) => format!("Invalid message: {why}"),
            Self::TooLarge => "Message too large".to_owned(),
            Self::TooEarly => "Unauthorized".to_owned(),
            Self::Refused(error) => error.kind().code().to_owned(),
            Self::InitTimeout => "Connection initialisation timeout".to_owned(),
            Self::Duplicate(id) => format!("Subscriber for {id} already exists"),
            Self::SecondInit => "Too many initialisation requests".to_owned(),
            Self::SlowReader => "Messages are not read fast enough".to_owned(),
            Self::GoingAway => "The server is stopping".to_owned(),
            Self::Failed => Kind::Internal.code().to_owned(),
            Self::ByPeer(_) | Self::Lost => String::new(),
        }
    }

    /// What to send, if there is still somebody to send it to.
    pub(super) fn frame(&self) -> Option<CloseFrame> {
        match self {
            Self::ByPeer(_) | Self::Lost => None,
            _ => Some(CloseFrame { code: self.code(), reason: shorten(self.reason()).into() }),
        }
    }

    /// The metric's label. A client chooses its code freely, so unusual ones share a label.
    pub(super) fn label(&self) -> String {
        match self {
            Self::ByPeer(code) if !matches!(code, 1000 | 1001 | 1005) => "other".to_owned(),
            _ => self.code().to_string(),
        }
    }
}

fn shorten(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES));
    reason
}
