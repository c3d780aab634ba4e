//! Certificates for the tests: an authority that nobody else trusts.

use openssl::{
    asn1::{Asn1Integer, Asn1Time},
    bn::{BigNum, MsbOption},
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    symm::Cipher,
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{BasicConstraints, KeyUsage, SubjectAlternativeName},
    },
};

/// Longer than any test takes, shorter than anybody could make use of.
const DAYS: u32 = 2;

/// Signs certificates for the loopback.
pub(crate) struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate and its key, as PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    key: PKey<Private>,
}

impl Authority {
    /// With a key of its own.
    pub(crate) fn new() -> Self {
        let key = new_key();
        let mut builder = builder("exfilwatch tests", &key);
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.append_extension(KeyUsage::new().key_cert_sign().build().unwrap()).unwrap();
        let subject = name("exfilwatch tests");
        builder.set_issuer_name(&subject).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key }
    }

    /// Its own certificate, as PEM.
    pub(crate) fn certificate(&self) -> String {
        text(self.certificate.to_pem().unwrap())
    }

    /// A certificate of `subject` at 127.0.0.1.
    pub(crate) fn issue(&self, subject: &str) -> Issued {
        let key = new_key();
        let mut builder = builder(subject, &key);
        builder.set_issuer_name(self.certificate.subject_name()).unwrap();
        let mut names = SubjectAlternativeName::new();
        names.ip("127.0.0.1");
        let names = names.build(&builder.x509v3_context(Some(&self.certificate), None)).unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        Issued { certificate: text(builder.build().to_pem().unwrap()), key }
    }
}

impl Issued {
    /// The key as it is.
    pub(crate) fn key(&self) -> String {
        text(self.key.private_key_to_pem_pkcs8().unwrap())
    }

    /// The key under a password.
    pub(crate) fn key_under(&self, password: &str) -> String {
        let (cipher, password) = (Cipher::aes_256_cbc(), password.as_bytes());
        text(self.key.private_key_to_pem_pkcs8_passphrase(cipher, password).unwrap())
    }
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn builder(subject: &str, key: &PKey<Private>) -> X509Builder {
    let mut builder = X509::builder().unwrap();
    let mut number = BigNum::new().unwrap();
    number.rand(100, MsbOption::ONE, false).unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&Asn1Integer::from_bn(&number).unwrap()).unwrap();
    builder.set_subject_name(&name(subject)).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(DAYS).unwrap()).unwrap();
    builder
}

fn name(common: &str) -> openssl::x509::X509Name {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", common).unwrap();
    name.build()
}

fn text(pem: Vec<u8>) -> String {
    String::from_utf8(pem).expect("PEM is text")
}
