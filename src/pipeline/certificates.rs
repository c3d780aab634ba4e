//! When the certificates of the Kafka client's TLS settings expire. librdkafka reads them when a
//! client is made, so what the files held at the start counts until a restart. They are looked at
//! again and again all the same: one that expires sooner is used by the next start.

use std::{collections::BTreeMap, fs};

use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    error::ErrorStack,
    x509::X509,
};
use tracing::warn;

use super::Shared;

/// Properties that name a file in PEM. A PKCS#12 keystore needs its password and is not looked at.
const FILES: [&str; 2] = ["ssl.ca.location", "ssl.certificate.location"];
/// Properties that hold the PEM itself.
const TEXTS: [&str; 2] = ["ssl.ca.pem", "ssl.certificate.pem"];

/// What the files held when they could first be read: seconds since the epoch, by their names.
#[derive(Default)]
pub(super) struct Certificates(BTreeMap<String, f64>);

impl Certificates {
    /// Publishes when the first certificate of each file expires, of what is loaded or of what is
    /// there now; one that cannot be read is warned of, as the next start will fail at it.
    pub(super) fn look(&mut self, shared: &Shared) {
        let kafka = &shared.config.kafka;
        let files = FILES.iter().filter_map(|name| kafka.property(name));
        // A folder of certificates is a way to give CAs, too, and `probe` looks for one.
        let files = files.filter(|path| !fs::metadata(path).is_ok_and(|found| found.is_dir()));
        let files = files.filter(|path| *path != "probe");
        let files = files.map(|path| (path, fs::read(path).map_err(anyhow::Error::from)));
        let texts = TEXTS.iter().filter_map(|name| Some((*name, kafka.property(name)?)));
        let texts = texts.map(|(name, text)| (name, Ok(text.as_bytes().to_vec())));
        for (name, pem) in files.chain(texts) {
            match pem.and_then(|pem| Ok(first_expiry_s(&pem)?)) {
                Ok(Some(at)) => {
                    let at = self.note(name, at);
                    shared.metrics.tls_not_after.with_label_values(&[name]).set(at);
                }
                Ok(None) => warn!("{name} holds no certificate"),
                Err(cause) => warn!("{name} cannot be read as certificates in PEM: {cause}"),
            }
        }
    }

    /// A file holds a certificate that expires at `at`: what to tell of it.
    fn note(&mut self, name: &str, at: f64) -> f64 {
        at.min(*self.0.entry(name.to_owned()).or_insert(at))
    }
}

/// When the first of the certificates in `pem` expires, in seconds since the epoch.
fn first_expiry_s(pem: &[u8]) -> Result<Option<f64>, ErrorStack> {
    let mut first = None;
    for certificate in X509::stack_from_pem(pem)? {
        let at = epoch_s(certificate.not_after())?;
        first = Some(first.map_or(at, |first: f64| first.min(at)));
    }
    Ok(first)
}

fn epoch_s(time: &Asn1TimeRef) -> Result<f64, ErrorStack> {
    let since = Asn1Time::from_unix(0)?.diff(time)?;
    Ok(f64::from(since.days) * 86_400.0 + f64::from(since.secs))
}

#[cfg(test)]
mod tests {
    use openssl::{
        asn1::Asn1Integer, bn::BigNum, ec::EcGroup, ec::EcKey, hash::MessageDigest, nid::Nid,
        pkey::PKey,
    };

    use super::*;

    fn certificate(expires_s: i64) -> Vec<u8> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut builder = X509::builder().unwrap();
        let number = Asn1Integer::from_bn(&BigNum::from_u32(1).unwrap()).unwrap();
        builder.set_serial_number(&number).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_unix(expires_s).unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        builder.build().to_pem().unwrap()
    }

    #[test]
    fn the_certificate_that_expires_first_counts() {
        let far = 4_102_444_800;
        let chain = [certificate(far), certificate(1_800_000_001), certificate(far)].concat();
        assert_eq!(first_expiry_s(&chain).unwrap(), Some(1_800_000_001.0));
    }

    #[test]
    fn a_new_certificate_in_the_place_of_an_old_one_takes_a_restart_to_count() {
        let mut certificates = Certificates::default();
        let told = [100.0, 900.0, 50.0].map(|at| certificates.note("ca.pem", at));
        // The old one is in use; the next start would use the one that expires first.
        assert_eq!(format!("{told:?}"), "[100.0, 100.0, 50.0]");
        let after_a_restart = Certificates::default().note("ca.pem", 900.0);
        assert_eq!(format!("{after_a_restart:?}"), "900.0");
    }

    #[test]
    fn what_holds_no_certificate_has_no_expiry_and_what_is_damaged_is_an_error() {
        assert_eq!(first_expiry_s(b"").unwrap(), None);
        let mut damaged = certificate(1_800_000_000);
        damaged.truncate(damaged.len() / 2);
        assert!(first_expiry_s(&damaged).is_err());
    }
}
