//! Who acts for the subject of a token (RFC 8693, section 4.1).

use serde::{Serialize, de::MapAccess};

use super::{InvalidClaims, required, strict::Members};

/// The claim `act`. Actors before this one, which the section lets be told inside it, mean nothing here and are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActorClaim {
    pub sub: String,
}

#[derive(Default)]
pub(super) struct ParsedActor {
    sub: Option<String>,
}

impl ParsedActor {
    /// An actor without a name is nobody.
    pub(super) fn complete(self) -> Result<ActorClaim, InvalidClaims> {
        Ok(ActorClaim { sub: required("act", self.sub)? })
    }
}

impl Members for ParsedActor {
    fn take<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        if name != "sub" {
            return Ok(false);
        }
        self.sub = Some(map.next_value()?);
        Ok(true)
    }
}
