//! TLS: whose certificate is shown, and whose is believed.

use std::path::PathBuf;

use super::answers;
use super::auth::Secret;
use super::read::Section;

/// Certificates or a key in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// `cert_file` and the like: where they are.
    File(PathBuf),
    /// `cert_pem` and the like: they themselves.
    Text(Secret),
}

/// A certificate, with those up to its root, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    pub certificate: Pem,
    pub key: Pem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum TlsVersion {
    #[value(name = "1.2")]
    Tls12,
    #[value(name = "1.3")]
    Tls13,
}

/// The versions of TLS that are spoken; default 1.2 and 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsVersions {
    pub lowest: TlsVersion,
    pub highest: TlsVersion,
}

impl Default for TlsVersions {
    fn default() -> Self {
        Self { lowest: TlsVersion::Tls12, highest: TlsVersion::Tls13 }
    }
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    pub own: KeyPair,
    /// If given, a client must show a certificate that one of these has signed.
    pub client_ca: Option<Pem>,
    pub versions: TlsVersions,
}

/// TLS towards the next hop; used where its URL says `https`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Whom to believe; unless given, whom the system believes.
    pub ca: Option<Pem>,
    /// What is shown to a next hop that asks.
    pub own: Option<KeyPair>,
    /// The name that its certificate must have; unless given, the URL's host.
    pub server_name: Option<String>,
    /// Believe any certificate.
    pub skip_verify: bool,
    pub versions: TlsVersions,
}

impl ServerTls {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        section.refuse(answers::SERVER_TLS);
        let own = key_pair(&mut section);
        let client_ca = section.text("client_ca_file").map(|path| Pem::File(path.into()));
        let versions = versions(&mut section);
        if own.is_none() {
            section.wrong("", "a listener with TLS needs cert_file and key_file");
        }
        Some(Self { own: own?, client_ca, versions })
    }
}

impl ClientTls {
    /// With what the endpoint leaves open: whether there is TLS at all.
    pub(super) fn read(mut section: Section<'_>) -> (Self, Option<Insecure>) {
        section.refuse(answers::CLIENT_TLS);
        let insecure = section.flag("insecure").map(Insecure);
        let tls = Self {
            ca: pem(&mut section, "ca_file", "ca_pem"),
            own: key_pair(&mut section),
            server_name: section.text("server_name_override"),
            skip_verify: section.flag("insecure_skip_verify").unwrap_or(false),
            versions: versions(&mut section),
        };
        (tls, insecure)
    }
}

/// Whether a gRPC endpoint without a scheme is spoken to without TLS.
#[derive(Clone, Copy)]
pub(super) struct Insecure(pub bool);

fn pem(section: &mut Section<'_>, file: &'static str, text: &'static str) -> Option<Pem> {
    match (section.text(file), section.text(text)) {
        (Some(_), Some(_)) => {
            section.wrong(text, format!("{file} is given too: take one away"));
            None
        }
        (Some(path), None) => Some(Pem::File(path.into())),
        (None, text) => text.map(|text| Pem::Text(Secret(text))),
    }
}

fn key_pair(section: &mut Section<'_>) -> Option<KeyPair> {
    match (pem(section, "cert_file", "cert_pem"), pem(section, "key_file", "key_pem")) {
        (Some(certificate), Some(key)) => Some(KeyPair { certificate, key }),
        (None, None) => None,
        _ => {
            section.wrong("", "a certificate and its key go together: give cert_file and key_file");
            None
        }
    }
}

fn versions(section: &mut Section<'_>) -> TlsVersions {
    let default = TlsVersions::default();
    let lowest = section.choice("min_version").unwrap_or(default.lowest);
    let highest = section.choice("max_version").unwrap_or(default.highest);
    if highest < lowest {
        section.wrong("max_version", "is lower than min_version");
    }
    TlsVersions { lowest, highest }
}
