//! GraphiQL, from the binary: the bundle that `make console` builds in `console/dist/graphiql/`.
//!
//! *Rules.* Nothing is loaded from another host, and the policy forbids it. A file with a hash in its name never changes, so
//! browsers keep it for good; `index.html` is asked for anew each time. Without the bundle the server runs all the same.

use std::borrow::Cow;

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};

#[derive(rust_embed::Embed)]
#[folder = "console/dist/graphiql/"]
#[allow_missing = true]
struct Graphiql;

/// What the page needs and no more: own scripts, workers, fonts and API (`'self'` covers its WebSocket; CSP 3, section 6.7.2.8).
/// The editor writes style elements, its cursors and icons are data: images.
const POLICY: &str = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>GraphiQL is missing</title>\
     <p>This binary was built without GraphiQL. Run <code>make console</code> and build it again.</p></html>";

/// `/graphiql` and everything below it, for anyone: the page holds no data, and the API asks for a token.
pub(super) fn router() -> Router {
    Router::new()
        .route("/graphiql", get(async |headers: HeaderMap| respond(embedded, "index.html", &headers)))
        .route("/graphiql/", get(async |headers: HeaderMap| respond(embedded, "index.html", &headers)))
        .route(
            "/graphiql/{*path}",
            get(async |Path(path): Path<String>, headers: HeaderMap| respond(embedded, &path, &headers)),
        )
}

struct File {
    bytes: Cow<'static, [u8]>,
    hash: [u8; 32],
}

/// A bundle: the file of a name.
type Bundle = fn(&str) -> Option<File>;

fn embedded(name: &str) -> Option<File> {
    let file = Graphiql::get(name)?;
    Some(File { hash: file.metadata.sha256_hash(), bytes: file.data })
}

fn respond(bundle: Bundle, name: &str, request: &HeaderMap) -> Response {
    let mut response = match bundle("index.html") {
        None => {
            let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
            (StatusCode::SERVICE_UNAVAILABLE, [kind, (header::CACHE_CONTROL, "no-store")], MISSING).into_response()
        }
        Some(_) => file(bundle, name, request),
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn file(bundle: Bundle, name: &str, request: &HeaderMap) -> Response {
    // The compressed forms are representations, not resources.
    let Some(plain) = (!name.ends_with(".br") && !name.ends_with(".gz")).then(|| bundle(name)).flatten() else {
        return (StatusCode::NOT_FOUND, [(header::CACHE_CONTROL, "no-store")], "Not part of GraphiQL.").into_response();
    };
    let (encoding, File { bytes, hash }) = [("br", "br"), ("gzip", "gz")]
        .into_iter()
        .filter(|(encoding, _)| accepts(request, encoding))
        .find_map(|(encoding, suffix)| Some((Some(encoding), bundle(&format!("{name}.{suffix}"))?)))
        .unwrap_or((None, plain));
    let tag = format!("\"{}\"", hash[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>());

    let mut response = if knows(request, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Response::new(Body::from(bytes));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
        if let Some(encoding) = encoding {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::try_from(tag).expect("hexadecimal digits in quotes are a header value"));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    let keep = if has_hash(name) { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    response
}

/// RFC 9110, section 12.5.3. A weight only tells yes or no here: the smaller form is ours to prefer.
fn accepts(request: &HeaderMap, encoding: &str) -> bool {
    let mut any = false;
    for item in list(request, header::ACCEPT_ENCODING) {
        let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
        let weight = parameters.trim().strip_prefix("q=").and_then(|q| q.parse().ok()).unwrap_or(1.0);
        match name.trim() {
            name if name.eq_ignore_ascii_case(encoding) => return weight > 0.0,
            "*" => any = weight > 0.0,
            _ => {}
        }
    }
    any
}

/// RFC 9110, section 13.1.2: weak comparison.
fn knows(request: &HeaderMap, tag: &str) -> bool {
    list(request, header::IF_NONE_MATCH).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

fn list(request: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    request
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("txt") => "text/plain; charset=utf-8",
        Some("ttf") => "font/ttf",
        Some("woff") => "font/woff",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

/// `main-JMVDHH36.js`: eight characters of a hash between the last dash and the extension, as `build.mjs` names them.
fn has_hash(name: &str) -> bool {
    let hash = name.rsplit_once('.').and_then(|(stem, _)| stem.rsplit_once('-')).map(|(_, hash)| hash);
    hash.is_some_and(|hash| hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(name: &str) -> Option<File> {
        let (bytes, id): (&[u8], u8) = match name {
            "index.html" => (b"page", 1),
            "index.html.gz" => (b"page, gzip", 2),
            "main-JMVDHH36.js" => (b"script", 3),
            "main-JMVDHH36.js.gz" => (b"script, gzip", 4),
            "main-JMVDHH36.js.br" => (b"script, brotli", 5),
            "font-0f1d5219.woff2" => (b"font", 6),
            _ => return None,
        };
        Some(File { bytes: bytes.into(), hash: [id; 32] })
    }

    fn ask(name: &str, headers: &[(header::HeaderName, &'static str)]) -> Response {
        respond(
            bundle,
            name,
            &headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect(),
        )
    }

    fn of(response: &Response, name: header::HeaderName) -> Option<&str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn the_smallest_accepted_form_is_sent() {
        for (accepted, sent) in [
            ("gzip, deflate, br, zstd", Some("br")),
            ("gzip, deflate", Some("gzip")),
            ("GZIP;q=0.5", Some("gzip")),
            ("br;q=0, gzip", Some("gzip")),
            ("br; q=0, gzip;q=0", None),
            ("*", Some("br")),
            ("br;q=0, *", Some("gzip")),
            ("*;q=0", None),
            ("identity", None),
            ("", None),
        ] {
            let response = ask("main-JMVDHH36.js", &[(header::ACCEPT_ENCODING, accepted)]);
            assert_eq!(of(&response, header::CONTENT_ENCODING), sent, "{accepted}");
            assert_eq!(of(&response, header::VARY), Some("accept-encoding"));
            assert_eq!(of(&response, header::CONTENT_TYPE), Some("text/javascript; charset=utf-8"));
        }
        assert_eq!(of(&ask("main-JMVDHH36.js", &[]), header::CONTENT_ENCODING), None);
        let font = ask("font-0f1d5219.woff2", &[(header::ACCEPT_ENCODING, "br")]);
        assert_eq!(of(&font, header::CONTENT_ENCODING), None, "a font has no compressed form");
    }

    #[test]
    fn a_known_representation_is_not_sent_again() {
        let gzip = (header::ACCEPT_ENCODING, "gzip");
        let tag = of(&ask("index.html", std::slice::from_ref(&gzip)), header::ETAG).unwrap().to_owned();
        assert_eq!(tag, format!("\"{}\"", "02".repeat(16)));
        for known in ["\"02020202020202020202020202020202\"", "\"x\", W/\"02020202020202020202020202020202\"", "*"] {
            let response = ask("index.html", &[gzip.clone(), (header::IF_NONE_MATCH, known)]);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(of(&response, header::ETAG), Some(tag.as_str()));
            assert_eq!(of(&response, header::CONTENT_ENCODING), None);
        }
        let plain = ask("index.html", &[(header::IF_NONE_MATCH, "\"02020202020202020202020202020202\"")]);
        assert_eq!(plain.status(), StatusCode::OK, "the tag of another representation");
    }

    #[test]
    fn only_files_with_a_hash_are_kept_for_good() {
        assert_eq!(of(&ask("index.html", &[]), header::CACHE_CONTROL), Some("no-cache"));
        assert_eq!(
            of(&ask("main-JMVDHH36.js", &[]), header::CACHE_CONTROL),
            Some("public, max-age=31536000, immutable")
        );
        assert_eq!(of(&ask("gone-JMVDHH36.js", &[]), header::CACHE_CONTROL), Some("no-store"));
    }

    #[test]
    fn what_is_no_file_of_the_bundle_is_not_found() {
        for name in ["main.js", "main-JMVDHH36.js.br", "index.html.gz", "../index.html", "/etc/passwd", ""] {
            assert_eq!(ask(name, &[]).status(), StatusCode::NOT_FOUND, "{name}");
        }
    }

    #[test]
    fn every_answer_carries_the_policy() {
        let known = [(header::IF_NONE_MATCH, "*")];
        for response in [
            ask("index.html", &[]),
            ask("index.html", &known),
            ask("none", &[]),
            respond(|_| None, "index.html", &HeaderMap::new()),
        ] {
            assert!(of(&response, header::CONTENT_SECURITY_POLICY).unwrap().contains("frame-ancestors 'none'"));
            assert_eq!(of(&response, header::X_CONTENT_TYPE_OPTIONS), Some("nosniff"));
            assert_eq!(of(&response, header::REFERRER_POLICY), Some("no-referrer"));
        }
    }

    #[test]
    fn a_binary_without_the_bundle_says_how_to_get_it() {
        let response = respond(|_| None, "index.html", &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(of(&response, header::CACHE_CONTROL), Some("no-store"));
        assert!(MISSING.contains("make console"));
    }

    /// Holds for the bundle that this binary was built with; without one there is nothing to hold.
    #[test]
    fn the_page_refers_only_to_files_of_its_bundle() {
        let Some(page) = embedded("index.html") else { return };
        let page = String::from_utf8(page.bytes.into_owned()).unwrap();
        let names: Vec<_> = page.split('"').filter_map(|part| part.strip_prefix("/graphiql/")).collect();
        assert_eq!(names.len(), 2, "a style sheet and a script: {page}");
        for name in names {
            assert!(has_hash(name), "{name}");
            assert!(embedded(name).is_some() && embedded(&format!("{name}.gz")).is_some(), "{name}");
        }
        assert!(!page.contains("://"), "nothing comes from another host");
    }
}
