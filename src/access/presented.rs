//! Certificates of clients, as they came. Nothing of them is checked but that the client has the key: whom a certificate names, and whether
//! that is believed, is decided by each tenant for itself (`src/pki`).

use std::fmt;

/// Certificates that are taken of one client; the rest of a longer chain is left.
pub const MOST_CERTIFICATES: usize = 10;

#[derive(Clone, PartialEq, Eq)]
pub struct PresentedCertificate {
    /// In DER, the client's own first.
    pub chain: Vec<Vec<u8>>,
    pub by: PresentedBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresentedBy {
    /// The client itself, in its TLS handshake with this server.
    Handshake,
    /// A trusted proxy, in a header.
    Proxy,
}

impl fmt::Debug for PresentedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificates = self.chain.len();
        f.debug_struct("PresentedCertificate").field("certificates", &certificates).field("by", &self.by).finish()
    }
}
