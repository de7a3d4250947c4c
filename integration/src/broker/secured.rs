//! What a secured broker has besides: a listener with TLS and SASL, and rights. The plain listener stays for the other side of
//! the tests, which may do everything.

use anyhow::{Context, Result};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};

/// A user and its password for SASL/PLAIN. It has no rights but those that a test gives it.
pub const PLAIN: (&str, &str) = ("plain-user", "plain-password");

/// The secure listener.
#[derive(Debug)]
pub struct Secured {
    /// `host:port`.
    pub bootstrap: String,
    /// The broker's certificate, which it has signed itself, as PEM.
    pub certificate: String,
    key: String,
}

impl Secured {
    pub(super) fn new(bootstrap: String) -> Result<Self> {
        let (certificate, key) = certificate().context("no certificate can be made")?;
        Ok(Secured { bootstrap, certificate, key })
    }

    /// The broker's properties for it, besides `listeners` and the like.
    pub(super) fn properties(&self) -> String {
        let (user, password) = PLAIN;
        let pem = |text: &str| text.replace('\n', "\\n");
        let (certificate, key) = (pem(&self.certificate), pem(&self.key));
        format!(
            "listener.name.secured.ssl.keystore.type=PEM\n\
             listener.name.secured.ssl.keystore.certificate.chain={certificate}\n\
             listener.name.secured.ssl.keystore.key={key}\n\
             listener.name.secured.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
             listener.name.secured.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
             user_{user}=\"{password}\";\n\
             listener.name.secured.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS\n"
        )
    }
}

/// Of 127.0.0.1, and its key.
fn certificate() -> Result<(String, String), ErrorStack> {
    let key = PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?)?;
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", "Kafka of Pelton's tests")?;
    let name = name.build();
    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    certificate.set_serial_number(&*BigNum::from_u32(1)?.to_asn1_integer()?)?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(&name)?;
    certificate.set_pubkey(&key)?;
    certificate.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    certificate.set_not_after(&*Asn1Time::days_from_now(2)?)?;
    certificate.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    let of = SubjectAlternativeName::new().ip("127.0.0.1").build(&certificate.x509v3_context(None, None))?;
    certificate.append_extension(of)?;
    certificate.sign(&key, MessageDigest::sha256())?;
    let text = |pem: Vec<u8>| String::from_utf8_lossy(&pem).into_owned();
    Ok((text(certificate.build().to_pem()?), text(key.private_key_to_pem_pkcs8()?)))
}
