//! Programs of PostgreSQL's own, which want its address in their environment: nothing secret is an argument that others read.

use percent_encoding::percent_decode_str;

use crate::platform::secret::Secret;

/// Parameters of an address, and the variables that libpq has for them.
const VARIABLES: [(&str, &str); 6] = [
    ("password", "PGPASSWORD"),
    ("sslmode", "PGSSLMODE"),
    ("ssl-mode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
];

/// What of an address goes beside host, port, user and database.
pub(super) fn variables(url: &Secret) -> Vec<(&'static str, Secret)> {
    let decoded = |text: &str| Secret::new(percent_decode_str(text).decode_utf8_lossy().into_owned());
    let text = url.expose();
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = authority.split_once('/').map_or(authority, |(authority, _)| authority);
    let mut found = Vec::new();
    if let Some((user, _)) = authority.rsplit_once('@')
        && let Some((_, password)) = user.split_once(':')
    {
        found.push(("PGPASSWORD", decoded(password)));
    }
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let known = VARIABLES.iter().find(|(parameter, _)| *parameter == name);
        found.extend(known.map(|(_, variable)| (*variable, decoded(value))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_and_tls_of_an_address_become_variables() {
        let found = variables(&Secret::new("postgres://keeper:p%40ss%2F@db:5433/t1?sslmode=require&host=x"));
        let found: Vec<_> = found.iter().map(|(name, value)| (*name, value.expose().to_owned())).collect();
        assert_eq!(found, [("PGPASSWORD", "p@ss/".to_owned()), ("PGSSLMODE", "require".to_owned())]);
        assert!(variables(&Secret::new("postgres:///t1?host=%2Ftmp&user=postgres")).is_empty());
    }
}
