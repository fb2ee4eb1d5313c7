//! The flags for TLS.

use std::io;
use std::path::PathBuf;

use clap::Args;
use parlor::Tls;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

#[derive(Debug, Args)]
pub(crate) struct TlsFlags {
    /// Speak TLS on all ports, with the certificate in this PEM file (parlor mkcert makes one); it
    /// is read anew on SIGHUP. Needs --tls-key
    #[arg(long, value_name = "FILE", env = "PARLOR_TLS_CERT")]
    tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert, in a PEM file
    #[arg(long, value_name = "FILE", env = "PARLOR_TLS_KEY")]
    tls_key: Option<PathBuf>,
}

impl TlsFlags {
    pub(crate) fn are_given(&self) -> bool {
        self.tls_cert.is_some()
    }

    pub(crate) fn load(&self) -> Result<Option<Tls>, String> {
        match (&self.tls_cert, &self.tls_key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Tls::load(certificate, key).map(Some).map_err(|error| error.to_string())
            }
            (Some(_), None) => Err("--tls-cert needs its key: give --tls-key too".to_owned()),
            (None, Some(_)) => Err("--tls-key needs a certificate: give --tls-cert too".to_owned()),
        }
    }
}

/// Reads the certificate anew at every SIGHUP from now on. `None`: there is nothing to read.
pub(crate) fn reload_on_hangup(tls: Option<Tls>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match tls.as_ref().map(Tls::reload) {
                Some(Ok(())) => info!("the certificate was read anew; new connections get it"),
                Some(Err(error)) => warn!("the old certificate stays: {error}"),
                None => info!("SIGHUP reads the certificate anew; there is none"),
            }
        }
    });
    Ok(())
}
