//! TLS of the server's own (RFC 8446, RFC 5246): its certificate, which is read again when it changes, and the certificates of clients, which
//! are asked for and passed on. The handshake proves that a client has the key of the certificate that it presents; whether anybody believes
//! the certificate is decided where a tenant is known (`src/pki`).

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{MOST_CERTIFICATES, PresentedBy, PresentedCertificate},
    config,
    error::{Context as _, Error, Result},
};

/// What a listener needs to speak TLS. Clones share it.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    own: Arc<Own>,
}

impl Tls {
    /// Reads the files that `rules` name; a certificate that cannot be used is told at the start.
    pub fn new(rules: &config::Tls) -> Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = Clients { algorithms: provider.signature_verification_algorithms };
        let own = Arc::new(Own::read(&rules.certificate_file, &rules.key_file, provider.clone())?);
        let mut settings = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("set up TLS")?
            .with_client_cert_verifier(Arc::new(clients))
            .with_cert_resolver(own.clone());
        settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(settings)), own })
    }

    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> std::io::Result<(TlsStream<TcpStream>, Option<Arc<PresentedCertificate>>)> {
        let stream = self.acceptor.accept(stream).await?;
        let presented = stream.get_ref().1.peer_certificates().filter(|chain| !chain.is_empty()).map(|chain| {
            let chain = chain.iter().take(MOST_CERTIFICATES).map(|certificate| certificate.to_vec()).collect();
            Arc::new(PresentedCertificate { chain, by: PresentedBy::Handshake })
        });
        Ok((stream, presented))
    }

    /// Looks for other files again and again, until `stop`. One that cannot be used changes nothing.
    pub async fn reload(self, every: Duration, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            let own = self.own.clone();
            match tokio::task::spawn_blocking(move || own.renew()).await {
                Ok(Ok(false)) | Err(_) => {}
                Ok(Ok(true)) => tracing::info!("the server's certificate was read again"),
                Ok(Err(error)) => {
                    tracing::error!(%error, "the server's certificate cannot be read again; the one before stays in use");
                }
            }
        }
    }
}

/// The server's certificate and key.
struct Own {
    files: [PathBuf; 2],
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<CertifiedKey>>,
    /// The files as they were read last, to know whether they have changed.
    seen: Mutex<[Vec<u8>; 2]>,
}

impl Own {
    fn read(certificate: &Path, key: &Path, provider: Arc<CryptoProvider>) -> Result<Self> {
        let files = [certificate.to_owned(), key.to_owned()];
        let seen = contents(&files)?;
        let current = RwLock::new(Arc::new(certified(&seen, &provider)?));
        Ok(Self { files, provider, current, seen: Mutex::new(seen) })
    }

    /// Whether there is another certificate now. Files of which one is not written yet are tried again.
    fn renew(&self) -> Result<bool> {
        let found = contents(&self.files)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == found {
            return Ok(false);
        }
        let renewed = certified(&found, &self.provider)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
        *seen = found;
        Ok(true)
    }
}

fn contents(files: &[PathBuf; 2]) -> Result<[Vec<u8>; 2]> {
    let read = |place: usize, key: &'static str| {
        let path = &files[place];
        std::fs::read(path).map_err(|error| Error::invalid(key, format!("{} cannot be read: {error}", path.display())))
    };
    Ok([read(0, "tls.certificate_file")?, read(1, "tls.key_file")?])
}

fn certified([certificate, key]: &[Vec<u8>; 2], provider: &CryptoProvider) -> Result<CertifiedKey> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| Error::invalid("tls.certificate_file", "must have certificates in PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(key);
    // Without the cause, in which there could be something of the key.
    let key = key.map_err(|_| Error::invalid("tls.key_file", "must have a private key in PEM"))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        TlsError::InconsistentKeys(_) => Error::invalid("tls.key_file", "must be the key of tls.certificate_file"),
        _ => Error::invalid("tls.key_file", "must have a private key that can be used"),
    })
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Asks for a certificate, and takes any whose key the client has.
#[derive(Debug)]
struct Clients {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Each tenant has authorities of its own, and which ones is nobody else's business.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
