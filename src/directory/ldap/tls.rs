//! TLS to a directory: which certificates are trusted, and why one is not.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::trouble::Trouble;
use crate::{
    directory::settings::{Certificate, certificates},
    error::{Context as _, Result},
};

/// The system's, read once.
static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    Arc::new(roots)
});

/// What of a server's certificate is asked.
#[derive(Clone, Debug)]
pub(in crate::directory) struct Trust(Decides);

#[derive(Clone, Debug)]
enum Decides {
    Authorities(Arc<WebPkiServerVerifier>),
    /// There are no authorities that could.
    Nobody,
    /// An operator has: whatever is shown.
    Permitted,
}

/// The chain that a server showed, its own certificate first, whether it is trusted or not.
#[derive(Clone, Debug, Default)]
pub(in crate::directory) struct Shown(Arc<Mutex<Vec<CertificateDer<'static>>>>);

impl Trust {
    /// The authorities in `pem`, and no others; the system's where there are none.
    pub(in crate::directory) fn in_authorities(pem: Option<&str>) -> Result<Self> {
        let roots = match pem {
            None => SYSTEM.clone(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(pem)? {
                    roots.add(certificate).context("trust a certificate that was checked")?;
                }
                Arc::new(roots)
            }
        };
        if roots.is_empty() {
            return Ok(Self(Decides::Nobody));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        Ok(Self(Decides::Authorities(verifier.context("make a verifier of certificates")?)))
    }

    /// Whatever a server shows: where an operator permits it.
    pub(in crate::directory) fn unverified() -> Self {
        Self(Decides::Permitted)
    }

    /// Speaks TLS on `line` with the server of this name.
    pub(super) async fn secure<S>(&self, line: S, host: &str, shown: &Shown) -> Result<TlsStream<S>, Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Trouble::Tls("the name is no DNS name".into()))?;
        if matches!(self.0, Decides::Nobody) {
            return Err(Trouble::Tls("this system has no certificate authorities; name those of the directory".into()));
        }
        let verifier = Arc::new(Watching { provider: provider(), decides: self.0.clone(), shown: shown.clone() });
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| Trouble::Tls("no version of TLS is enabled".into()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, line).await;
        connected.map_err(|error| match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            Some(error) => Trouble::Tls(reason(error)),
            None => Trouble::Tls("the server ended the connection instead".into()),
        })
    }
}

impl Shown {
    pub(in crate::directory) fn chain(&self) -> Vec<Certificate> {
        let chain = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        chain.iter().take(10).filter_map(|der| Certificate::read(der).ok()).collect()
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

fn reason(error: &rustls::Error) -> Cow<'static, str> {
    let rustls::Error::InvalidCertificate(error) = error else {
        return match error {
            rustls::Error::InvalidMessage(_) => "the server does not speak it here".into(),
            rustls::Error::AlertReceived(alert) => format!("the server refuses it ({alert:?})").into(),
            rustls::Error::PeerIncompatible(_) => "the server has no version or cipher that is good enough".into(),
            _ => "the handshake fails".into(),
        };
    };
    match error {
        CertificateError::UnknownIssuer => {
            "the certificate's issuer is not among the certificate authorities that are trusted".into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the certificate is for another host".into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "the certificate has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet".into()
        }
        CertificateError::BadSignature => "the certificate's signature is wrong".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the certificate is not for servers".into()
        }
        CertificateError::BadEncoding => "the certificate cannot be read".into(),
        CertificateError::Other(_) => {
            "the certificate or its chain breaks a rule, e.g. an authority's certificate is used as the server's".into()
        }
        _ => "the certificate is not good".into(),
    }
}

/// Keeps what a server showed, and asks who decides.
#[derive(Debug)]
struct Watching {
    provider: Arc<CryptoProvider>,
    decides: Decides,
    shown: Shown,
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|der| der.clone().into_owned()).collect();
        *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        match &self.decides {
            Decides::Authorities(verifier) => {
                verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            Decides::Nobody => Err(CertificateError::UnknownIssuer.into()),
            Decides::Permitted => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
