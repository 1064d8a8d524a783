//! Where everything goes next: an exporter `otlp`, `otlp_grpc` (gRPC), `otlphttp` or `otlp_http`.

use std::fmt;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Uri, http::uri::PathAndQuery};

use super::address::Address;
use super::answers;
use super::auth::{Bearer, Extensions};
use super::pipelines::kind;
use super::read::Section;
use super::tls::{ClientTls, Insecure};
use super::tree::Tree;

/// Where everything goes next, and how it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    pub target: Target,
    /// Used where the target's scheme is `https`.
    pub tls: ClientTls,
    /// Default gzip, as a Collector's; none for `--forward` and `OTEL_EXPORTER_OTLP_*`, as an SDK's.
    pub compression: Compression,
    /// Sent with every request; values are not shown.
    pub headers: HeaderMap,
    /// For one request; default 5 s for gRPC, 30 s for HTTP, 10 s by `--forward` and `OTEL_EXPORTER_OTLP_*`.
    pub timeout: Duration,
    pub auth: Option<Bearer>,
    /// Larger requests are split, in bytes before compression; default 4 MiB for gRPC, 20 MiB for HTTP: what a
    /// Collector takes unless told otherwise.
    pub max_request_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `http://host:port` or `https://host:port`.
    Grpc(Uri),
    Http(Box<Urls>),
}

/// Where each signal goes. None: nobody takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Urls {
    pub traces: Uri,
    pub metrics: Option<Uri>,
    pub logs: Option<Uri>,
    pub profiles: Option<Uri>,
}

impl Urls {
    /// Where a signal goes.
    pub fn of(&self, signal: &str) -> Option<&Uri> {
        match signal {
            "traces" => Some(&self.traces),
            "metrics" => self.metrics.as_ref(),
            "logs" => self.logs.as_ref(),
            "profiles" => self.profiles.as_ref(),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

/// How an HTTP exporter encodes; ours leaves each request as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Encoding {
    Proto,
    Json,
}

/// A Collector's own receivers' limits.
pub(super) const GRPC_BYTES: u64 = 4 << 20;
pub(super) const HTTP_BYTES: u64 = 20 << 20;

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(url) => write!(out, "{}://{} (gRPC)", url.scheme_str().unwrap_or("http"), authority(url)),
            Self::Http(urls) => write!(out, "{} (HTTP)", urls.traces),
        }
    }
}

fn authority(url: &Uri) -> &str {
    url.authority().map_or("", hyper::http::uri::Authority::as_str)
}

impl Target {
    /// Where it is reached, to tell whether that is ourselves.
    pub(super) fn address(&self) -> Option<Address> {
        let url = match self {
            Self::Grpc(url) => url,
            Self::Http(urls) => &urls.traces,
        };
        let default = if url.scheme_str() == Some("https") { 443 } else { 80 };
        format!("{}:{}", url.host()?, url.port_u16().unwrap_or(default)).parse().ok()
    }
}

/// Whether an exporter speaks OTLP, by its id.
pub(super) fn is_ours(id: &str) -> bool {
    ["otlp", "otlp_grpc", "otlphttp", "otlp_http"].contains(&kind(id))
}

impl NextHop {
    /// An exporter; none where it is wrong, which is then known.
    pub(super) fn read(id: &str, tree: Tree, extensions: &Extensions, root: &Section<'_>) -> Option<Self> {
        let path = format!("exporters.{id}");
        if !is_ours(id) {
            root.found.not_supported(path, answers::exporter(kind(id)));
            return None;
        }
        let section = Section::of(tree, &path, root.found)?;
        if kind(id).ends_with("http") { Self::http(section, extensions) } else { Self::grpc(section, extensions) }
    }

    fn grpc(mut section: Section<'_>, extensions: &Extensions) -> Option<Self> {
        section.refuse(answers::GRPC_EXPORTER);
        let (tls, insecure) = section.section("tls").map(ClientTls::read).unwrap_or_default();
        let insecure = insecure.unwrap_or(Insecure(false));
        if !section.gives("endpoint") {
            section.wrong("endpoint", "where to? Write one like `endpoint: tempo:4317`");
        }
        let url = section.parsed("endpoint", |text| grpc_url(text, insecure));
        let rest = Self::rest(&mut section, extensions, (Duration::from_secs(5), GRPC_BYTES));
        Some(Self { target: Target::Grpc(url?), tls, ..rest })
    }

    fn http(mut section: Section<'_>, extensions: &Extensions) -> Option<Self> {
        section.refuse(answers::HTTP_EXPORTER);
        if matches!(section.choice("encoding"), Some(Encoding::Json)) {
            section.found.not_supported(section.path("encoding"), answers::ENCODING);
        }
        if !section.gives("endpoint") && !section.gives("traces_endpoint") {
            section.wrong("endpoint", "where to? Write one like `endpoint: http://tempo:4318`");
        }
        // Whether there is TLS is for the URL to say.
        let (tls, _) = section.section("tls").map(ClientTls::read).unwrap_or_default();
        let base = section.parsed("endpoint", http_url);
        let mut of = |key, path| section.parsed(key, http_url).or_else(|| base.as_ref().map(|base| below(base, path)));
        let traces = of("traces_endpoint", "v1/traces");
        let (metrics, logs) = (of("metrics_endpoint", "v1/metrics"), of("logs_endpoint", "v1/logs"));
        let profiles = of("profiles_endpoint", "v1development/profiles");
        let rest = Self::rest(&mut section, extensions, (Duration::from_secs(30), HTTP_BYTES));
        Some(Self { target: Target::Http(Urls { traces: traces?, metrics, logs, profiles }.into()), tls, ..rest })
    }

    /// What both have; the target is for the caller to fill in.
    fn rest(section: &mut Section<'_>, extensions: &Extensions, (timeout, bytes): (Duration, u64)) -> Self {
        for (key, instead) in answers::QUEUES {
            section.refuse_enabled(key, instead);
        }
        let given = section.duration("timeout");
        if given.is_some_and(|length| length.is_zero()) {
            section.wrong("timeout", "must be more than nothing: the sender waits for the answer");
        }
        Self {
            target: Target::Grpc(Uri::default()),
            tls: ClientTls::default(),
            compression: section.choice("compression").unwrap_or(Compression::Gzip),
            headers: headers(section),
            timeout: given.unwrap_or(timeout),
            auth: extensions.named_by(section),
            max_request_bytes: section.mib("max_request_size_mib").unwrap_or(bytes),
        }
    }
}

fn headers(section: &mut Section<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in section.named("headers") {
        let key = format!("headers.{name}");
        match value.text().map(|value| header(&name, value)) {
            Some(Ok((name, value))) => drop(headers.append(name, value)),
            Some(Err(text)) => section.wrong(&key, text),
            None => section.wrong(&key, format!("must be text, not {}: put it in quotes", value.described())),
        }
    }
    headers
}

/// A header whose value is not shown.
pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = name.parse().map_err(|_| format!("`{name}` is no name of a header"))?;
    let mut value: HeaderValue =
        value.parse().map_err(|_| "its value has letters that no header may have".to_owned())?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// A URL with scheme and host.
pub(super) fn url(text: &str) -> Result<Uri, String> {
    let wrong = || format!("`{text}` is no URL: write one like http://tempo:4318");
    let url: Uri = text.parse().map_err(|_| wrong())?;
    // Shown in the log, and in problems.
    if authority(&url).contains('@') {
        return Err("has a user in its URL: give `headers` or `auth` instead".to_owned());
    }
    let is_whole = url.scheme().is_some() && url.host().is_some_and(|host| !host.is_empty());
    if is_whole { Ok(url) } else { Err(wrong()) }
}

pub(super) fn http_url(text: &str) -> Result<Uri, String> {
    let url = url(text)?;
    match url.scheme_str() {
        Some("http" | "https") => Ok(url),
        _ => Err(format!("`{text}` is no URL of HTTP: write one like http://tempo:4318")),
    }
}

/// `host:port`, in the clear or not; or a URL, which says so itself.
pub(super) fn grpc_url(text: &str, Insecure(insecure): Insecure) -> Result<Uri, String> {
    let wrong = || format!("`{text}` is no endpoint of gRPC: write one like tempo:4317 or https://tempo:4317");
    if text.starts_with("http://") || text.starts_with("https://") {
        let url = url(text)?;
        return if url.path() == "/" && url.query().is_none() { Ok(url) } else { Err(wrong()) };
    }
    let address: Address = text.strip_prefix("dns:///").unwrap_or(text).parse().map_err(|_| wrong())?;
    let scheme = if insecure { "http" } else { "https" };
    format!("{scheme}://{address}").parse().map_err(|_| wrong())
}

/// A path below a base URL, whose query stays.
pub(super) fn below(base: &Uri, path: &str) -> Uri {
    let query = base.query().map(|query| format!("?{query}")).unwrap_or_default();
    let joined = format!("{}/{path}{query}", base.path().trim_end_matches('/'));
    let mut parts = base.clone().into_parts();
    parts.path_and_query = joined.parse::<PathAndQuery>().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| base.clone())
}
