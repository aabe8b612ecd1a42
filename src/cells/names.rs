//! What a tenant's things are called in a cell, and how names and texts are written in its SQL.

use crate::platform::ids::TenantId;

/// The name of the tenant's schema, role and dedicated database: `t_` and the id's 32 digits. An id never changes and is never
/// used again.
pub fn stem(tenant: TenantId) -> String {
    format!("t_{}", tenant.uuid().simple())
}

/// A name as SQL has it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL has it, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_ends_nothing() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a'\\b"), "E'a''\\\\b'");
    }
}
