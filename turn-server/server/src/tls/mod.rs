//! The server's certificate: read from files, exchanged when they change, without touching connections that are up.

mod expiry;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub use expiry::not_after;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file can't be read or is no PEM file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// No certificate in the file.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// Key and certificate do not belong together, or are of a kind that is not served.
    #[error("{path}: {source}")]
    Key {
        /// File of the key.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// A certificate with its key, from files that are looked at again with [`Certificates::reload_if_changed`].
pub struct Certificates {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Loaded>,
    /// Of the files when they were looked at last.
    seen: Mutex<Fingerprint>,
}

struct Loaded {
    key: Arc<CertifiedKey>,
    expires_at: Option<Duration>,
}

/// Changes when a file changes, is replaced, or what a link points to is.
type Fingerprint = [Option<(SystemTime, u64)>; 2];

impl Certificates {
    /// Reads a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// They can't be used.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, CertificateError> {
        let seen = fingerprint(certificate, key);
        let current = read(certificate, key)?;
        Ok(Arc::new(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            current: RwLock::new(current),
            seen: Mutex::new(seen),
        }))
    }

    /// TLS 1.2 and 1.3 with whatever certificate there is at the time of a handshake. Clients may say with ALPN what they speak.
    #[must_use]
    pub fn server_config(self: &Arc<Self>, protocols: &[&[u8]]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has suites for both versions").with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::new(Resolver(Arc::clone(self))));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    /// When the certificate ends, in time since 1970. `None`: it does not say so in a form that is read here.
    #[must_use]
    pub fn expires_at(&self) -> Option<Duration> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).expires_at
    }

    /// Reads the files again if they have changed. What can't be used is logged, and the old certificate stays.
    pub fn reload_if_changed(&self) -> bool {
        let now = fingerprint(&self.certificate, &self.key);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return false;
        }
        *seen = now;
        match read(&self.certificate, &self.key) {
            Ok(loaded) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
                tracing::info!(certificate = %self.certificate.display(), "the certificate was read again");
                true
            }
            // between the exchange of one file and of the other they do not fit; the next look sees both
            Err(error) => {
                tracing::warn!(%error, "the changed certificate can't be used, the old one stays");
                false
            }
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Resolver(Arc<Certificates>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Loaded, CertificateError> {
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(file_error(certificate))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(file_error(certificate))?;
    let first = chain.first().ok_or_else(|| CertificateError::Empty(certificate.to_owned()))?;
    let expires_at = not_after(first);
    let private = PrivateKeyDer::from_pem_file(key).map_err(file_error(key))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key_error = |source| CertificateError::Key { path: key.to_owned(), source };
    let certified = CertifiedKey::from_der(chain, private, &provider).map_err(key_error)?;
    Ok(Loaded { key: Arc::new(certified), expires_at })
}

fn fingerprint(certificate: &Path, key: &Path) -> Fingerprint {
    [certificate, key].map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}
