//! Authorities, certificates and revocation lists that are made for a test.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use tenantry::pki;

use crate::support::folder;

/// A certificate with its key.
pub struct Made {
    pub certificate: Certificate,
    pub params: CertificateParams,
    pub key: KeyPair,
}

pub fn usual(_: &mut CertificateParams) {}

/// One that has signed itself.
pub fn authority(name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Made {
    let (mut params, key) = (authority_params(name), KeyPair::generate().unwrap());
    edit(&mut params);
    let certificate = params.self_signed(&key).unwrap();
    Made { certificate, params, key }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(name: &str) -> CertificateParams {
    static SERIAL: AtomicU64 = AtomicU64::new(1000);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Acme");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2095, 1, 1);
    params.serial_number = Some(SerialNumber::from(SERIAL.fetch_add(1, Ordering::Relaxed)));
    params
}

impl Made {
    pub fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// An authority below this one.
    pub fn authority(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        self.sign(authority_params(name), KeyPair::generate().unwrap(), edit)
    }

    /// The same name and key as `other`, issued by this one.
    pub fn cross_sign(&self, other: &Self, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::from_pem(&other.key.serialize_pem()).unwrap();
        self.sign(other.params.clone(), key, edit)
    }

    /// Somebody's own, for signing in: `name` with `name@acme.example`.
    pub fn leaf(&self, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = params(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![email(&format!("{name}@acme.example"))];
        self.sign(params, KeyPair::generate().unwrap(), edit)
    }

    fn sign(&self, mut params: CertificateParams, key: KeyPair, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        params.use_authority_key_identifier_extension = true;
        edit(&mut params);
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Self { certificate, params, key }
    }

    /// The same certificate with the same serial number once more, edited.
    pub fn sign_again(&self, other: &Self, edit: impl FnOnce(&mut CertificateParams)) -> Self {
        self.cross_sign(other, edit)
    }

    pub fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub fn read(&self) -> Arc<pki::Certificate> {
        Arc::new(pki::Certificate::read(self.certificate.der()).unwrap())
    }

    pub fn serial(&self) -> SerialNumber {
        self.params.serial_number.clone().unwrap()
    }

    /// Revokes certificates, as of these years.
    pub fn list(
        &self,
        revoked: &[&Self],
        (from, to): (i32, i32),
        url: Option<&str>,
    ) -> rcgen::CertificateRevocationList {
        let revoked = revoked.iter().map(|made| RevokedCertParams {
            serial_number: made.serial(),
            revocation_time: date_time_ymd(from, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let point = |url: &str| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec![url.to_owned()] },
            scope: None,
        };
        CertificateRevocationListParams {
            this_update: date_time_ymd(from, 1, 1),
            next_update: date_time_ymd(to, 1, 1),
            crl_number: SerialNumber::from(u64::try_from(from).unwrap()),
            issuing_distribution_point: url.map(point),
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.issuer())
        .unwrap()
    }
}

pub fn email(address: &str) -> SanType {
    SanType::Rfc822Name(address.try_into().unwrap())
}

pub fn upn(name: &str) -> SanType {
    let oid = vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3];
    SanType::OtherName((oid, rcgen::OtherNameValue::Utf8String(name.to_owned())))
}

/// An extension of this object identifier and content in DER.
pub fn extension(oid: &[u64], content: &[u8], critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// A folder of its own for OpenSSL to work in.
pub fn place() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let place = folder().join(format!("pki-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&place).unwrap();
    place
}

/// Runs OpenSSL, and answers whether it succeeded and what it wrote.
pub fn openssl(place: &PathBuf, arguments: &str) -> (bool, String) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(place).output();
    let done = done.expect("openssl is there: scripts/bootstrap.sh test installs it");
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// One that has signed itself, with what rcgen makes no certificates with.
pub fn authority_by_openssl(key: &str, hash: &str) -> String {
    let place = place();
    let (made, told) = openssl(
        &place,
        &format!("req -x509 -newkey {key} -nodes -keyout ca.key -out ca.pem -subj /CN=old -days 3000 -{hash}"),
    );
    assert!(made, "{told}");
    std::fs::read_to_string(place.join("ca.pem")).unwrap()
}
