//! Owns the proof of where a module comes from: a detached Ed25519 signature over its bytes, made with one of the keys that
//! the operator named. Plain Ed25519 (RFC 8032), keys as PEM (PKCS#8 and SPKI), the signature as base64 in a file, so that
//! `openssl` can do the same. Says nothing about which transform a module is for, or that it is the newest.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

/// Larger files are no keys and no signatures.
const MAX_BYTES: u64 = 16 << 10;

/// A key that signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// A key that signatures are made with.
pub struct PrivateKey(SigningKey);

/// A signature over a module's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(ed25519_dalek::Signature);

/// A key or a signature is not one.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// As given.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not PEM, or of another kind of key.
    #[error("{what} is not an Ed25519 {kind} key in PEM")]
    Key {
        /// The file.
        what: String,
        /// Private or public.
        kind: &'static str,
    },
    /// Not base64 of 64 bytes.
    #[error("{0} is not a signature: 64 bytes in base64")]
    Signature(String),
    /// A signature by nobody that is trusted, or of other bytes.
    #[error("the signature {} is by none of the trusted keys, or of another module", .0.display())]
    Untrusted(PathBuf),
    /// The system gave no randomness.
    #[error("no randomness for a key")]
    Random(#[source] std::io::Error),
}

/// What a module's signature is demanded to be.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Those who may sign.
    pub by: &'a [PublicKey],
    /// The detached signature.
    pub file: &'a Path,
}

impl Signed<'_> {
    /// Who signed these bytes.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<&PublicKey, SignatureError> {
        let signature = Signature::read(self.file)?;
        let signer = self.by.iter().find(|key| key.verifies(bytes, &signature));
        signer.ok_or_else(|| SignatureError::Untrusted(self.file.into()))
    }
}

impl PublicKey {
    /// From a PEM file.
    pub fn read(path: &Path) -> Result<Self, SignatureError> {
        let not = || SignatureError::Key { what: path.display().to_string(), kind: "public" };
        VerifyingKey::from_public_key_pem(&read(path)?).map(Self).map_err(|_| not())
    }

    /// Whether the signature is this key's, of these bytes. Strict: no second spelling of a signature passes.
    pub fn verifies(&self, bytes: &[u8], signature: &Signature) -> bool {
        self.0.verify_strict(bytes, &signature.0).is_ok()
    }

    /// As PEM.
    pub fn to_pem(&self) -> String {
        // Cannot fail: the encoding of 32 bytes has a fixed form.
        self.0.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// The first half of the SHA-256 of its 32 bytes, for people to tell keys apart.
    pub fn id(&self) -> String {
        Sha256::digest(self.0.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl PrivateKey {
    /// A new one.
    pub fn generate() -> Result<Self, SignatureError> {
        let mut seed = [0; 32];
        // So few bytes come at once, or not at all.
        let filled = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
        match filled {
            Ok(32) => Ok(Self(SigningKey::from_bytes(&seed))),
            Ok(_) => Err(SignatureError::Random(std::io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(SignatureError::Random(error.into())),
        }
    }

    /// From a PEM file.
    pub fn read(path: &Path) -> Result<Self, SignatureError> {
        let not = || SignatureError::Key { what: path.display().to_string(), kind: "private" };
        SigningKey::from_pkcs8_pem(&read(path)?).map(Self).map_err(|_| not())
    }

    /// As PEM: the first version of PKCS#8, without the public half, which OpenSSL 3.0 cannot read.
    pub fn to_pem(&self) -> String {
        let half = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        // Cannot fail: the encoding of 32 bytes has a fixed form.
        half.to_pkcs8_pem(LineEnding::LF).map(|pem| pem.to_string()).unwrap_or_default()
    }

    /// Its other half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs a module's bytes.
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes))
    }
}

impl Signature {
    /// From a file.
    pub fn read(path: &Path) -> Result<Self, SignatureError> {
        read(path)?.parse().map_err(|_| SignatureError::Signature(path.display().to_string()))
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let bytes = STANDARD.decode(text.trim()).ok();
        let bytes: Option<[u8; 64]> = bytes.and_then(|bytes| bytes.try_into().ok());
        let signature = bytes.map(|bytes| Self(ed25519_dalek::Signature::from_bytes(&bytes)));
        signature.ok_or_else(|| SignatureError::Signature("the text".to_owned()))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.to_bytes()))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public().id())
    }
}

fn read(path: &Path) -> Result<String, SignatureError> {
    let read = || {
        if std::fs::metadata(path)?.len() > MAX_BYTES {
            return Err(std::io::Error::other("it is too large for a key or a signature"));
        }
        std::fs::read_to_string(path)
    };
    read().map_err(|source| SignatureError::Read { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn keys_and_signatures_survive_files() {
        let key = PrivateKey::generate().unwrap();
        let (_a, private) = file("key.pem", &key.to_pem());
        let (_b, public) = file("key.pub.pem", &key.public().to_pem());
        let (_c, signature) = file("m.wasm.sig", &format!("{}\n", PrivateKey::read(&private).unwrap().sign(b"module")));
        let (public, signature) = (PublicKey::read(&public).unwrap(), Signature::read(&signature).unwrap());
        assert_eq!(public, key.public());
        assert!(public.verifies(b"module", &signature));
        assert!(!public.verifies(b"another", &signature));
        assert!(!PrivateKey::generate().unwrap().public().verifies(b"module", &signature));
    }

    /// The same bytes as `openssl pkey` writes: version 0, the algorithm, 32 bytes of key.
    #[test]
    fn a_private_key_is_written_as_openssl_reads_it() {
        let pem = PrivateKey::generate().unwrap().to_pem();
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(body).unwrap();
        let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        assert_eq!((&der[..16], der.len()), (&head[..], 48));
    }

    /// Made with `openssl genpkey -algorithm ed25519`, `openssl pkey -pubout`, `openssl pkeyutl -sign -rawin | base64 -w0`.
    #[test]
    fn what_openssl_made_is_understood() {
        let (_a, public) = file("p", OPENSSL_PUBLIC);
        let signature: Signature = OPENSSL_SIGNATURE.parse().unwrap();
        assert!(PublicKey::read(&public).unwrap().verifies(b"abc", &signature));
        let (_b, private) = file("k", OPENSSL_PRIVATE);
        assert_eq!(PrivateKey::read(&private).unwrap().sign(b"abc"), signature, "Ed25519 is deterministic");
    }

    const OPENSSL_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIB2Kws3y7RXQ80TcoN2mz4DmxKzjXsMZKkuc5fFGLakd\n-----END PRIVATE KEY-----\n";
    const OPENSSL_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAXoeehHs/owTAU4pNktUw9S+hR/bpGxTpOaY4JgIxZ+0=\n-----END PUBLIC KEY-----\n";
    const OPENSSL_SIGNATURE: &str =
        "xAcOEEkKV0qRi5LPFLxUz18dDXMJdb/iqwyPx8OQmXTSbVhe80NLysOjqpp91vadJqxaG1J2fC6eIOcM/ubpAg==";

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "AAAA", &STANDARD.encode([0; 65]), "not base64!"] {
            assert!(text.parse::<Signature>().is_err(), "{text}");
        }
        let key = PrivateKey::generate().unwrap();
        let (_a, private) = file("key.pem", &key.to_pem());
        assert!(matches!(PublicKey::read(&private), Err(SignatureError::Key { .. })), "the wrong half");
        let (_b, large) = file("large", &"x".repeat(20_000));
        assert!(matches!(PublicKey::read(&large), Err(SignatureError::Read { .. })));
    }
}
