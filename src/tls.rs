//! TLS by rustls: a certificate and its key, read from files and read anew on demand.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
pub(crate) use tokio_rustls::server::TlsStream;

use crate::protocol::limits::TLS_BUFFER_BYTES;

/// A certificate and its private key, for [`Config::tls`](crate::Config::tls). Cheap to clone:
/// every clone is the same pair, and [`reload`](Tls::reload) changes it for all.
///
/// TLS 1.2 and 1.3 are spoken, with the ciphers that rustls holds safe.
///
/// ```no_run
/// let mut config = parlor::Config::default();
/// let tls = parlor::Tls::load("cert.pem", "key.pem")?;
/// config.tls = Some(tls.clone());
/// // Later, when the files have changed:
/// tls.reload()?;
/// # Ok::<(), parlor::TlsError>(())
/// ```
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    acceptors: Mutex<Acceptors>,
}

/// What new connections are accepted with.
struct Acceptors {
    lines: TlsAcceptor,
    /// The same, which agrees on HTTP/1.1 with a browser.
    web: TlsAcceptor,
}

/// A pair of files that can't be served from. Its text names the file, and says what to do.
#[derive(Debug)]
pub struct TlsError {
    file: PathBuf,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Unreadable(io::Error),
    NotPem(pem::Error),
    NoCertificate,
    NoKey,
    /// The key of another certificate; its file.
    OtherKey(PathBuf),
    Refused(rustls::Error),
}

impl Tls {
    /// Reads a certificate chain, the server's own first, and its private key from files in PEM.
    ///
    /// Fails if a file can't be read or holds something else, if the key is encrypted, or if it
    /// doesn't belong to the certificate.
    pub fn load(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Tls, TlsError> {
        let (certificate, key) = (certificate.into(), key.into());
        let acceptors = Mutex::new(Acceptors::read(&certificate, &key)?);
        Ok(Tls(Arc::new(Inner { certificate, key, acceptors })))
    }

    /// Reads both files anew. New connections get the new certificate; others go on as they are.
    ///
    /// If it fails, for the same reasons as [`load`](Tls::load), the old pair stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = Acceptors::read(&self.0.certificate, &self.0.key)?;
        *self.0.acceptors.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The server's side of a handshake; `is_web`: HTTP is spoken over it.
    pub(crate) async fn accept<S>(&self, stream: S, is_web: bool) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = {
            let acceptors = self.0.acceptors.lock().unwrap_or_else(PoisonError::into_inner);
            if is_web { acceptors.web.clone() } else { acceptors.lines.clone() }
        };
        let bounded = |connection: &mut rustls::ServerConnection| {
            connection.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        };
        acceptor.accept_with(stream, bounded).await
    }
}

impl Acceptors {
    fn read(certificate: &Path, key: &Path) -> Result<Acceptors, TlsError> {
        let failed = |file: &Path, problem| TlsError { file: file.to_owned(), problem };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(certificate, Problem::of_pem(error, Problem::NoCertificate)))?;
        if chain.is_empty() {
            return Err(failed(certificate, Problem::NoCertificate));
        }
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| failed(key, Problem::of_pem(error, Problem::NoKey)))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let lines = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    failed(key, Problem::OtherKey(certificate.to_owned()))
                }
                error => failed(certificate, Problem::Refused(error)),
            })?;
        let mut web = lines.clone();
        web.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Acceptors { lines: Arc::new(lines).into(), web: Arc::new(web).into() })
    }
}

impl Problem {
    /// `none`: what it is if the file is well-formed, and what is looked for isn't in it.
    fn of_pem(error: pem::Error, none: Problem) -> Problem {
        match error {
            pem::Error::Io(error) => Problem::Unreadable(error),
            pem::Error::NoItemsFound => none,
            error => Problem::NotPem(error),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { certificate, key, .. } = &*self.0;
        f.debug_struct("Tls").field("certificate", certificate).field("key", key).finish()
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.problem {
            Problem::Unreadable(error) => write!(f, "cannot read {file}: {error}"),
            Problem::NotPem(error) => write!(f, "{file} is no PEM file: {error}"),
            Problem::NoCertificate => write!(
                f,
                "{file} holds no certificate; it must be a PEM file with a line \
                 -----BEGIN CERTIFICATE-----"
            ),
            Problem::NoKey => write!(
                f,
                "{file} holds no private key that can be used; it must be a PEM file with a line \
                 -----BEGIN PRIVATE KEY-----, not encrypted"
            ),
            Problem::OtherKey(certificate) => write!(
                f,
                "the key in {file} does not belong to the certificate in {}",
                certificate.display()
            ),
            Problem::Refused(error) => {
                write!(f, "the certificate in {file} cannot be used: {error}")
            }
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Unreadable(error) => Some(error),
            Problem::NotPem(error) => Some(error),
            Problem::Refused(error) => Some(error),
            _ => None,
        }
    }
}
