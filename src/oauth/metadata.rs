//! What clients can find out about this server (RFC 8414).

use serde_json::{Value, json};

use super::settings::Settings;
use crate::access::{Scope, ScopeSet};

const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";
const AUTH_METHODS: [&str; 3] = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
const ASSERTION_ALGORITHMS: [&str; 3] = ["RS256", "PS256", "ES256"];

/// The metadata document (section 2). There is no authorization endpoint, hence no response type.
pub(super) fn document(settings: &Settings) -> Value {
    let url = &settings.public_url;
    json!({
        "issuer": settings.issuer,
        "token_endpoint": settings.token_endpoint(),
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "token_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "introspection_endpoint": format!("{url}/oauth/introspect"),
        "introspection_endpoint_auth_methods_supported": AUTH_METHODS,
        "introspection_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "revocation_endpoint": format!("{url}/oauth/revoke"),
        "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
        "revocation_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "jwks_uri": format!("{url}/.well-known/jwks.json"),
        "scopes_supported": ScopeSet::ALL.iter().map(Scope::name).collect::<Vec<_>>(),
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
    })
}

/// Where the document is: an issuer's own path comes behind the well-known one (section 3.1).
pub(super) fn paths(issuer: &str) -> Vec<String> {
    let path = issuer
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .map_or("", |(_, path)| path)
        .trim_end_matches('/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let mut paths = vec![WELL_KNOWN.to_owned()];
    if !path.is_empty() && path.bytes().all(plain) {
        paths.push(format!("{WELL_KNOWN}/{path}"));
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_document_names_the_issuer_exactly_and_real_addresses() {
        let config =
            Config::from_toml(&["server.public_url = 'https://api.example/'", "auth.issuer = 'https://id.example/t/'"])
                .unwrap();
        let document = document(&Settings::from_config(&config));
        assert_eq!(document["issuer"], "https://id.example/t/");
        assert_eq!(document["token_endpoint"], "https://api.example/oauth/token");
        assert_eq!(document["jwks_uri"], "https://api.example/.well-known/jwks.json");
        assert_eq!(document["response_types_supported"], json!([]));
        assert_eq!(document["scopes_supported"].as_array().map(Vec::len), Some(Scope::ALL.len()));
    }

    #[test]
    fn an_issuer_with_a_path_has_its_document_behind_the_well_known_path() {
        assert_eq!(paths("https://id.example"), [WELL_KNOWN]);
        assert_eq!(paths("https://id.example/"), [WELL_KNOWN]);
        assert_eq!(paths("https://id.example/a/b/"), [WELL_KNOWN.to_owned(), format!("{WELL_KNOWN}/a/b")]);
        assert_eq!(paths("https://id.example/{a}"), [WELL_KNOWN]);
        assert_eq!(paths("tenantry"), [WELL_KNOWN]);
    }
}
