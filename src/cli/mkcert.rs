//! `parlor mkcert`.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use parlor::Config;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::next_steps;

/// How long a certificate is valid: what Apple's systems accept at most from any authority.
const LIFETIME: Duration = Duration::from_secs(825 * 24 * 3600);
/// It is valid before it was made as well, for clocks that are behind.
const EARLIER: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Args)]
pub(crate) struct Mkcert {
    /// Where the certificate is written
    #[arg(long, value_name = "FILE", default_value = "parlor-cert.pem")]
    cert: PathBuf,

    /// Where the private key is written, readable by its owner only
    #[arg(long, value_name = "FILE", default_value = "parlor-key.pem")]
    key: PathBuf,

    /// Overwrite the files if they are there
    #[arg(long)]
    force: bool,

    /// Names and addresses to put in, besides localhost and this machine's own
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
}

impl Mkcert {
    pub(crate) fn run(self) -> ExitCode {
        match self.make() {
            Ok(text) => {
                // Nobody may be reading.
                let _ = io::stdout().write_all(text.as_bytes());
                ExitCode::SUCCESS
            }
            Err((code, text)) => {
                eprintln!("parlor: {text}");
                code
            }
        }
    }

    /// Returns what a person does next.
    fn make(&self) -> Result<String, (ExitCode, String)> {
        let usage = |text: String| (ExitCode::from(2), text);
        let failed = |text: String| (ExitCode::FAILURE, text);
        let own = own_hosts();
        let mut names = BTreeSet::new();
        let mut subjects = Vec::new();
        for host in self.hosts.iter().chain(&own) {
            if names.insert(host.to_lowercase()) {
                subjects.push(subject(host).map_err(usage)?);
            }
        }
        if self.cert == self.key {
            return Err(usage("--cert and --key are two files; give them two names".to_owned()));
        }
        if !self.force
            && let Some(file) = [&self.cert, &self.key].into_iter().find(|file| file.exists())
        {
            let file = file.display();
            return Err(failed(format!("{file} is there already; --force overwrites it")));
        }
        let (certificate, key) = generate(subjects)
            .map_err(|error| failed(format!("cannot make a certificate: {error}")))?;
        for (file, content, mode) in [(&self.key, &key, 0o600), (&self.cert, &certificate, 0o644)] {
            write(file, content, mode, self.force)
                .map_err(|error| failed(format!("cannot write {}: {error}", file.display())))?;
        }
        let host = self.hosts.first().or(own.last()).map_or("localhost", String::as_str);
        Ok(self.next_steps(host, &names))
    }

    fn next_steps(&self, host: &str, names: &BTreeSet<String>) -> String {
        let (cert, key, port) = (self.cert.display(), self.key.display(), Config::PORT);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        format!(
            "{cert} and {key} are a self-signed pair for {}, valid for {} days.\n\
             \n\
             The server:    parlor --public --tls-cert {cert} --tls-key {key}\n\
             A client:      ncat --ssl {host} {port}\n\
             One that checks whom it talks with, by a copy of {cert}:\n\
             \x20              ncat --ssl-verify --ssl-trustfile {cert} {host} {port}\n\
             \n\
             No browser and no system trusts this certificate: accept it once in the browser, or \
             import it.\n\
             Who doesn't check it is safe from listeners, but not from somebody who takes the \
             server's place.\n",
            names.join(", "),
            LIFETIME.as_secs() / (24 * 3600),
        )
    }
}

/// The names and addresses of this machine.
fn own_hosts() -> Vec<String> {
    let mut hosts: Vec<_> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    hosts.extend(next_steps::network_addresses().map(|address| address.to_string()));
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // A name that is none, such as one with an underscore, is nothing that a client could ask for.
    hosts.extend(subject(&name).is_ok().then_some(name));
    hosts
}

fn subject(host: &str) -> Result<SanType, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_name = host.len() <= 253 && host.trim_start_matches("*.").split('.').all(is_label);
    let name = is_name.then(|| host.try_into().ok()).flatten().map(SanType::DnsName);
    name.ok_or_else(|| {
        format!(
            "{host:?} is no name and no address of a host: give one like chat.example or \
             192.0.2.1, and one with other letters as its xn-- form"
        )
    })
}

fn generate(subjects: Vec<SanType>) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = subjects;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "parlor (self-signed)");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (SystemTime::now() - EARLIER).into();
    params.not_after = (SystemTime::now() - EARLIER + LIFETIME).into();
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// A file of its own: one that is there is neither followed nor does it keep its mode.
fn write(file: &Path, content: &str, mode: u32, force: bool) -> io::Result<()> {
    if force
        && let Err(error) = fs::remove_file(file)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(file)?;
    file.write_all(content.as_bytes())
}
