//! A next hop without a file: `--forward`, or the variables that every OpenTelemetry SDK knows.
//!
//! `--forward` gives the URL alone; headers, compression, time-out and certificates come from the variables either way.

use std::time::Duration;

use hyper::Uri;
use hyper::header::HeaderMap;

use super::Env;
use super::next_hop::{
    Compression, GRPC_BYTES, HTTP_BYTES, NextHop, Target, Urls, below, grpc_url, header, http_url, url,
};
use super::problems::Found;
use super::tls::{ClientTls, Insecure, KeyPair, Pem};

/// The next hop of `--forward`, or else of `OTEL_EXPORTER_OTLP_*`. None if neither is there, or it is wrong.
pub(super) fn next_hop(forward: Option<&str>, env: Env<'_>, found: &Found) -> Option<NextHop> {
    let variables = Variables { env, found };
    let target = match forward {
        Some(text) => found_or(found, "--forward", forwarded(text))?,
        None => variables.target()?,
    };
    let max_request_bytes = if matches!(target, Target::Grpc(_)) { GRPC_BYTES } else { HTTP_BYTES };
    Some(NextHop {
        target,
        tls: variables.tls(),
        compression: variables.compression(),
        headers: variables.headers(),
        timeout: variables.timeout(),
        auth: None,
        max_request_bytes,
    })
}

fn found_or<T>(found: &Found, path: &str, read: Result<T, String>) -> Option<T> {
    read.map_err(|text| found.wrong(path, text)).ok()
}

/// `grpc` and `grpcs` are gRPC, and so is OTLP's port of gRPC without a path; other `http` and `https` are bases of
/// OTLP/HTTP.
fn forwarded(text: &str) -> Result<Target, String> {
    let wrong = |_| format!("`{text}` is no URL: write one like http://tempo:4318 or grpc://tempo:4317");
    let url = if text.contains("://") { url(text) } else { Err(String::new()) }.map_err(wrong)?;
    let in_clear = match url.scheme_str() {
        Some("grpc") => Some("http"),
        Some("grpcs") => Some("https"),
        Some(scheme @ ("http" | "https")) if url.port_u16() == Some(4317) && url.path() == "/" => Some(scheme),
        _ => None,
    };
    match (in_clear, text.split_once("://")) {
        (Some(scheme), Some((_, rest))) => grpc_url(&format!("{scheme}://{rest}"), Insecure(false)).map(Target::Grpc),
        _ => http_url(text).map(|base| Target::Http(all_below(&base).into())),
    }
}

fn all_below(base: &Uri) -> Urls {
    Urls {
        traces: below(base, "v1/traces"),
        metrics: Some(below(base, "v1/metrics")),
        logs: Some(below(base, "v1/logs")),
        profiles: Some(below(base, "v1development/profiles")),
    }
}

struct Variables<'a> {
    env: Env<'a>,
    found: &'a Found,
}

impl Variables<'_> {
    /// A variable; an empty one is one that is not set.
    fn exact(&self, of: &str) -> Option<(String, String)> {
        let name = format!("OTEL_EXPORTER_OTLP_{of}");
        (self.env)(&name).map(|held| held.trim().to_owned()).filter(|held| !held.is_empty()).map(|held| (name, held))
    }

    /// What holds for traces: their own variable, or that of all signals.
    fn get(&self, of: &str) -> Option<(String, String)> {
        self.exact(&format!("TRACES_{of}")).or_else(|| self.exact(of))
    }

    fn parsed<T>(&self, of: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let (name, held) = self.get(of)?;
        found_or(self.found, &name, parse(&held))
    }

    fn target(&self) -> Option<Target> {
        let is_grpc = self.parsed("PROTOCOL", |held| match held {
            "grpc" => Ok(true),
            "http/protobuf" | "http/json" => Ok(false),
            _ => Err(format!("`{held}` is none of `grpc`, `http/protobuf`, `http/json`")),
        });
        if is_grpc == Some(true) {
            let insecure = self.parsed("INSECURE", |held| Ok(held.eq_ignore_ascii_case("true"))).unwrap_or(false);
            return self.parsed("ENDPOINT", |held| grpc_url(held, Insecure(insecure))).map(Target::Grpc);
        }
        let of = |variable: &str| {
            let (name, held) = self.exact(variable)?;
            found_or(self.found, &name, http_url(&held))
        };
        let base = of("ENDPOINT").as_ref().map(all_below);
        Some(Target::Http(
            Urls {
                // As it is, even without a path.
                traces: of("TRACES_ENDPOINT").or_else(|| base.as_ref().map(|base| base.traces.clone()))?,
                metrics: of("METRICS_ENDPOINT").or_else(|| base.as_ref().and_then(|base| base.metrics.clone())),
                logs: of("LOGS_ENDPOINT").or_else(|| base.as_ref().and_then(|base| base.logs.clone())),
                profiles: base.as_ref().and_then(|base| base.profiles.clone()),
            }
            .into(),
        ))
    }

    fn compression(&self) -> Compression {
        let known = self.parsed("COMPRESSION", |held| match held {
            "none" => Ok(Compression::None),
            "gzip" => Ok(Compression::Gzip),
            "zstd" => Ok(Compression::Zstd),
            _ => Err(format!("`{held}` is none of `none`, `gzip`, `zstd`")),
        });
        known.unwrap_or(Compression::None)
    }

    /// In ms.
    fn timeout(&self) -> Duration {
        let ms = self.parsed("TIMEOUT", |held| match held.parse() {
            Ok(ms) if ms > 0 => Ok(ms),
            _ => Err(format!("`{held}` is no number of milliseconds")),
        });
        Duration::from_millis(ms.unwrap_or(10_000))
    }

    /// `key=value,key=value`, as W3C baggage has them.
    fn headers(&self) -> HeaderMap {
        let all = self.parsed("HEADERS", |held| {
            let mut headers = HeaderMap::new();
            for pair in held.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
                let (name, value) = pair.split_once('=').ok_or("must be `key=value` pairs with commas between them")?;
                let (name, value) = header(&decoded(name.trim())?, &decoded(value.trim())?)?;
                headers.append(name, value);
            }
            Ok(headers)
        });
        all.unwrap_or_default()
    }

    fn tls(&self) -> ClientTls {
        let file = |of| self.get(of).map(|(_, path)| Pem::File(path.into()));
        let own = match (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Some(KeyPair { certificate, key }),
            (None, None) => None,
            (_, key) => {
                let lacks = if key.is_some() { "CLIENT_CERTIFICATE" } else { "CLIENT_KEY" };
                self.found.wrong(format!("OTEL_EXPORTER_OTLP_{lacks}"), "a certificate and its key go together");
                None
            }
        };
        ClientTls { ca: file("CERTIFICATE"), own, ..ClientTls::default() }
    }
}

/// With `%20` and the like as what they stand for.
fn decoded(text: &str) -> Result<String, String> {
    let wrong = || "a `%` must be followed by two hex digits".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(wrong);
        let (high, low) = (digit()?, digit()?);
        bytes.push((high * 16 + low).try_into().map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 once decoded".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::problems::Problems;
    use super::*;

    fn read(forward: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<NextHop>, String> {
        let found = Found::default();
        let env = |name: &str| {
            let short = name.strip_prefix("OTEL_EXPORTER_OTLP_")?;
            variables.iter().find(|(known, _)| *known == short).map(|(_, held)| (*held).to_owned())
        };
        let hop = next_hop(forward, &env, &found);
        if found.is_empty() { Ok(hop) } else { Err(Problems::from(found).to_string()) }
    }

    fn check(forward: Option<&str>, variables: &[(&str, &str)], target: &str) {
        let hop = read(forward, variables).unwrap();
        let shown = hop.map_or_else(|| "nowhere".to_owned(), |hop| hop.target.to_string());
        assert_eq!(shown, target, "{forward:?} {variables:?}");
    }

    #[test]
    fn the_scheme_or_the_port_of_forward_says_which_protocol() {
        check(Some("http://tempo:4317"), &[], "http://tempo:4317 (gRPC)");
        check(Some("https://tempo:4317/"), &[], "https://tempo:4317 (gRPC)");
        check(Some("grpc://tempo:9000"), &[], "http://tempo:9000 (gRPC)");
        check(Some("grpcs://tempo:443"), &[], "https://tempo:443 (gRPC)");
        check(Some("http://tempo:4318"), &[], "http://tempo:4318/v1/traces (HTTP)");
        check(Some("https://tempo/otlp/"), &[], "https://tempo/otlp/v1/traces (HTTP)");
        check(Some("http://tempo:4317/otlp"), &[], "http://tempo:4317/otlp/v1/traces (HTTP)");
    }

    #[test]
    fn variables_are_those_of_any_sdk() {
        check(None, &[], "nowhere");
        check(None, &[("ENDPOINT", " ")], "nowhere");
        check(None, &[("ENDPOINT", "http://a:4318")], "http://a:4318/v1/traces (HTTP)");
        check(None, &[("TRACES_ENDPOINT", "http://a:4318")], "http://a:4318/ (HTTP)");
        check(None, &[("ENDPOINT", "http://a:1"), ("TRACES_ENDPOINT", "http://b:2/x")], "http://b:2/x (HTTP)");
        check(None, &[("ENDPOINT", "http://a:4317"), ("PROTOCOL", "grpc")], "http://a:4317 (gRPC)");
        check(None, &[("ENDPOINT", "a:4317"), ("PROTOCOL", "grpc")], "https://a:4317 (gRPC)");
        check(
            None,
            &[("ENDPOINT", "a:4317"), ("TRACES_PROTOCOL", "grpc"), ("INSECURE", "true")],
            "http://a:4317 (gRPC)",
        );
        check(Some("http://b:4318"), &[("ENDPOINT", "http://a:4318")], "http://b:4318/v1/traces (HTTP)");
    }

    #[test]
    fn signals_without_an_endpoint_have_none() {
        let Target::Http(urls) = read(None, &[("TRACES_ENDPOINT", "http://a:1/t")]).unwrap().unwrap().target else {
            panic!()
        };
        assert_eq!((urls.metrics, urls.logs), (None, None));
    }

    #[test]
    fn the_rest_comes_from_variables_with_forward_too() {
        let hop = read(
            Some("grpc://a:1"),
            &[
                ("HEADERS", "authorization=Bearer%20x, b=%41"),
                ("COMPRESSION", "gzip"),
                ("TIMEOUT", "2500"),
                ("CERTIFICATE", "/ca.pem"),
                ("CLIENT_KEY", "/key.pem"),
                ("CLIENT_CERTIFICATE", "/own.pem"),
            ],
        );
        let hop = hop.unwrap().unwrap();
        assert_eq!(
            (hop.headers["authorization"].as_bytes(), hop.headers["b"].as_bytes()),
            (&b"Bearer x"[..], &b"A"[..])
        );
        assert_eq!((hop.compression, hop.timeout), (Compression::Gzip, Duration::from_millis(2500)));
        assert_eq!(hop.tls.ca, Some(Pem::File("/ca.pem".into())));
        assert_eq!(hop.tls.own.unwrap().key, Pem::File("/key.pem".into()));
    }

    #[test]
    fn what_cannot_be_meant_is_told_by_its_variable() {
        let says = |forward, variables: &[_]| read(forward, variables).unwrap_err();
        let url = "is no URL: write one like http://tempo:4318 or grpc://tempo:4317";
        assert_eq!(says(Some("tempo:4317"), &[]), format!("--forward: `tempo:4317` {url}"));
        assert!(says(Some("ftp://tempo"), &[]).starts_with("--forward: `ftp://tempo` is no URL of HTTP"));
        let endpoint = ("ENDPOINT", "http://a:1");
        for (variable, held) in [("PROTOCOL", "thrift"), ("COMPRESSION", "br"), ("TIMEOUT", "5s"), ("HEADERS", "a%2=b")]
        {
            let said = says(None, &[endpoint, (variable, held)]);
            assert!(said.starts_with(&format!("OTEL_EXPORTER_OTLP_{variable}: ")), "{said}");
        }
        let said = says(None, &[endpoint, ("CLIENT_KEY", "/key.pem")]);
        assert_eq!(said, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE: a certificate and its key go together");
    }
}
