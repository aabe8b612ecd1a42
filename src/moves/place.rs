//! Which relation of the tenant's it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cells::quoted;

/// Schema and name of a relation; shown as SQL names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) schema: String,
    pub(super) name: String,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}
