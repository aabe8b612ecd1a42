//! The certificate that a request was sent with: of the TLS handshake or, from a proxy that is trusted with it, of a header (RFC 9440, or PEM as
//! nginx escapes it). Of anybody else such headers are dropped before anything reads them.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ipnet::IpNet;
use percent_encoding::percent_decode;

use super::listener::{ClientCertificate, Peer};
use crate::{
    access::{MOST_CERTIFICATES, PresentedBy, PresentedCertificate},
    config,
    error::{Error, Result},
    pki,
};

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// Whose header is believed, and which.
#[derive(Clone, Debug)]
pub(super) struct Proxies {
    networks: Vec<IpNet>,
    header: Option<HeaderName>,
}

impl Proxies {
    pub(super) fn new(rules: &config::Tls) -> Self {
        let header = HeaderName::from_bytes(rules.client_certificate_header.as_bytes()).ok();
        Self { networks: rules.client_certificate_proxies.clone(), header }
    }

    /// Takes the headers away, whoever sent them. A trusted proxy's own certificate is nobody's who signs in.
    pub(super) fn take(
        &self,
        headers: &mut HeaderMap,
        peer: Option<Peer>,
        handshake: Option<&ClientCertificate>,
    ) -> Result<Option<Arc<PresentedCertificate>>> {
        let sent = Sent {
            own: all(headers, self.header.as_ref().unwrap_or(&CLIENT_CERT)),
            chain: all(headers, &CLIENT_CERT_CHAIN),
        };
        headers.remove(CLIENT_CERT);
        let is_trusted = peer.is_some_and(|peer| {
            let address = peer.0.ip().to_canonical();
            self.networks.iter().any(|network| network.contains(&address))
        });
        match &self.header {
            _ if !is_trusted => Ok(handshake.map(|presented| presented.0.clone())),
            None => Ok(None),
            Some(header) => sent.read(header),
        }
    }
}

fn all(headers: &mut HeaderMap, name: &HeaderName) -> Vec<HeaderValue> {
    let found = headers.get_all(name).iter().cloned().collect();
    headers.remove(name);
    found
}

/// What the headers say.
struct Sent {
    own: Vec<HeaderValue>,
    chain: Vec<HeaderValue>,
}

impl Sent {
    fn read(&self, header: &HeaderName) -> Result<Option<Arc<PresentedCertificate>>> {
        let own = match &*self.own {
            [] => return Ok(None),
            // What proxies send for clients that have none.
            [empty] if empty.is_empty() => return Ok(None),
            [own] => own,
            _ => return Err(Error::invalid(header.as_str(), "must be sent once")),
        };
        let chain = if *header == CLIENT_CERT { self.structured(own)? } else { escaped(header, own)? };
        Ok(Some(Arc::new(PresentedCertificate { chain, by: PresentedBy::Proxy })))
    }

    /// RFC 9440, section 2: a byte sequence of RFC 8941, and a list of such.
    fn structured(&self, own: &HeaderValue) -> Result<Vec<Vec<u8>>> {
        let mut chain = vec![byte_sequence(CLIENT_CERT.as_str(), own.as_bytes())?];
        for value in &self.chain {
            for member in value.as_bytes().split(|byte| *byte == b',') {
                chain.push(byte_sequence(CLIENT_CERT_CHAIN.as_str(), member)?);
            }
        }
        if chain.len() > MOST_CERTIFICATES {
            let message = format!("must have at most {} certificates", MOST_CERTIFICATES - 1);
            return Err(Error::invalid(CLIENT_CERT_CHAIN.as_str(), message));
        }
        Ok(chain)
    }
}

fn byte_sequence(field: &str, text: &[u8]) -> Result<Vec<u8>> {
    let text = text.trim_ascii();
    let inside = text.strip_prefix(b":").and_then(|rest| rest.strip_suffix(b":"));
    let decoded = inside.and_then(|inside| STANDARD.decode(inside).ok()).filter(|der| !der.is_empty());
    decoded.ok_or_else(|| Error::invalid(field, "must have certificates as byte sequences (RFC 9440, RFC 8941)"))
}

/// `$ssl_client_escaped_cert` of nginx: PEM in percent-encoding.
fn escaped(header: &HeaderName, value: &HeaderValue) -> Result<Vec<Vec<u8>>> {
    let text = percent_decode(value.as_bytes()).decode_utf8();
    let text = text.map_err(|_| Error::invalid(header.as_str(), "must be PEM in percent-encoding"))?;
    pki::certificates_of_pem(header.as_str(), &text, MOST_CERTIFICATES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(header: &str) -> Proxies {
        Proxies {
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            header: HeaderName::from_bytes(header.as_bytes()).ok(),
        }
    }

    fn headers(sent: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn taken(
        proxies: &Proxies,
        sent: &[(&'static str, &'static str)],
        from: &str,
        handshake: Option<&ClientCertificate>,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        let mut headers = headers(sent);
        let taken = proxies.take(&mut headers, Some(Peer(from.parse().unwrap())), handshake);
        assert!(headers.is_empty(), "{headers:?} is left");
        Ok(taken?.map(|presented| presented.chain.clone()))
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_nobody_else() {
        let (rfc, sent) =
            (proxies("client-cert"), [("client-cert", ":AQ==:"), ("client-cert-chain", ":Ag==:, :Aw==:")]);
        assert_eq!(taken(&rfc, &sent, "10.1.1.1:1", None).unwrap(), Some(vec![vec![1], vec![2], vec![3]]));
        assert_eq!(taken(&rfc, &sent, "[::ffff:10.1.1.1]:1", None).unwrap(), Some(vec![vec![1], vec![2], vec![3]]));
        assert_eq!(taken(&rfc, &sent, "11.1.1.1:1", None).unwrap(), None);
        let own = PresentedCertificate { chain: vec![vec![9]], by: PresentedBy::Handshake };
        let own = ClientCertificate(Arc::new(own));
        assert_eq!(taken(&rfc, &sent, "11.1.1.1:1", Some(&own)).unwrap(), Some(vec![vec![9]]));
        assert_eq!(taken(&rfc, &[], "10.1.1.1:1", Some(&own)).unwrap(), None, "the proxy's own");
        assert_eq!(taken(&rfc, &[("client-cert", "")], "10.1.1.1:1", Some(&own)).unwrap(), None);
        assert_eq!(taken(&proxies("x-cert"), &[("client-cert", ":AQ==:")], "10.1.1.1:1", None).unwrap(), None);
    }

    #[test]
    fn what_a_proxy_sends_is_read_strictly() {
        for sent in ["AQ==", ":AQ==", ":A*:", "::", ":AQ==:;a=1", ":AQ==:, :Ag==:"] {
            let error = taken(&proxies("client-cert"), &[("client-cert", sent)], "10.1.1.1:1", None).unwrap_err();
            assert_eq!(error.field(), Some("client-cert"), "{sent}");
        }
        let twice = [("client-cert", ":AQ==:"), ("client-cert", ":AQ==:")];
        assert!(taken(&proxies("client-cert"), &twice, "10.1.1.1:1", None).is_err());
        let pem = "-----BEGIN%20CERTIFICATE-----%0AAQID%0A-----END%20CERTIFICATE-----%0A";
        assert_eq!(
            taken(&proxies("x-cert"), &[("x-cert", pem)], "10.1.1.1:1", None).unwrap(),
            Some(vec![vec![1, 2, 3]])
        );
        assert!(taken(&proxies("x-cert"), &[("x-cert", "%ff")], "10.1.1.1:1", None).is_err());
        assert!(taken(&proxies("x-cert"), &[("x-cert", "nothing")], "10.1.1.1:1", None).is_err());
    }
}
