//! Where something listens.

use std::fmt;
use std::str::FromStr;

/// A host and a port, as a listener or an HTTP authority has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without brackets; `0.0.0.0` where none was written (`:4317`).
    pub host: String,
    /// 0: any that is free.
    pub port: u16,
}

impl Address {
    pub(super) fn localhost(port: u16) -> Self {
        Self { host: "localhost".to_owned(), port }
    }

    /// Reached from this machine alone.
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    fn ip(&self) -> Option<std::net::IpAddr> {
        self.host.parse().ok()
    }

    /// Whether one that connects to `target` may reach a listener here.
    pub(super) fn answers_to(&self, target: &Self) -> bool {
        let is_any = self.ip().is_some_and(|ip| ip.is_unspecified());
        let is_same_host = self.host == target.host || ((self.is_local() || is_any) && target.is_local());
        self.port != 0 && self.port == target.port && is_same_host
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no address: write host:port, like localhost:4317 or 0.0.0.0:4317");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bare {
            Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter)),
        };
        if !is_host {
            return Err(wrong());
        }
        let host = if host.is_empty() { "0.0.0.0" } else { bare.unwrap_or(host) };
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(out, "[{host}]:{port}") } else { write!(out, "{host}:{port}") }
    }
}

/// Where a flag wants a listener: at an address, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    At(Address),
    Nowhere,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self::Nowhere) } else { text.parse().map(Self::At) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: &str, is_local: bool) {
        let address: Address = text.parse().unwrap();
        assert_eq!((address.to_string().as_str(), address.is_local()), (shown, is_local), "{text}");
    }

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        check("localhost:4317", "localhost:4317", true);
        check("127.0.0.2:0", "127.0.0.2:0", true);
        check("[::1]:4317", "[::1]:4317", true);
        check(":4317", "0.0.0.0:4317", false);
        check("0.0.0.0:4317", "0.0.0.0:4317", false);
        check("Tempo.example:4317", "tempo.example:4317", false);
    }

    #[test]
    fn what_has_no_port_or_a_scheme_is_no_address() {
        for text in ["", "localhost", "localhost:", "localhost:70000", "http://localhost:4317", "::1:4317", "[a]:1"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_listener_answers_to_its_own_address_only() {
        let of = |text: &str| text.parse::<Address>().unwrap();
        assert!(of("0.0.0.0:4317").answers_to(&of("localhost:4317")));
        assert!(of("localhost:4317").answers_to(&of("127.0.0.1:4317")));
        assert!(!of("localhost:4317").answers_to(&of("localhost:4318")));
        assert!(!of("localhost:4317").answers_to(&of("tempo:4317")));
        assert!(!of("localhost:0").answers_to(&of("localhost:0")));
    }
}
