//! To the next hop, and its answer back: one request at a time, no queue.

mod connect;
mod grpc;
mod http;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use hyper::Uri;
use hyper::header::HeaderMap;

use super::answer::{Accepted, Partial, Refusal, together};
use super::config::{NextHop, Target};
use super::request::{Encoding, Signal};
use crate::otlp;

/// The way to the next hop. Connections are kept, and made anew where they break.
pub struct Forwarder {
    way: Way,
    next_hop: NextHop,
    /// The last that was tried could not be reached.
    is_down: AtomicBool,
}

enum Way {
    Grpc(Box<grpc::Grpc>),
    Http(Box<http::Http>),
}

/// What is sent on.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub signal: Signal,
    pub encoding: Encoding,
    pub bytes: Bytes,
    pub metadata: HeaderMap,
    pub deadline: Instant,
}

impl Forwarder {
    /// Connects when something is sent.
    ///
    /// # Errors
    /// Where a certificate, key or token cannot be read.
    pub fn to(next_hop: &NextHop) -> Result<Self> {
        let way = match &next_hop.target {
            Target::Grpc(uri) => Way::Grpc(grpc::Grpc::to(uri, next_hop)?.into()),
            Target::Http(urls) => Way::Http(http::Http::to(urls, next_hop)?.into()),
        };
        Ok(Self { way, next_hop: next_hop.clone(), is_down: AtomicBool::new(false) })
    }

    pub fn next_hop(&self) -> &NextHop {
        &self.next_hop
    }

    /// Whether the next hop takes JSON as it is.
    pub fn takes_json(&self) -> bool {
        matches!(self.way, Way::Http(_))
    }

    /// Whether the next hop has a place for a signal.
    pub fn takes(&self, signal: Signal) -> bool {
        match &self.next_hop.target {
            Target::Grpc(_) => true,
            Target::Http(urls) => urls.of(signal.name()).is_some(),
        }
    }

    /// Sends all of it, in parts that the next hop takes, and tells what it said to all of them.
    ///
    /// # Errors
    /// Where it refused all of it, or a part for now: then those before are sent again with it.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Accepted, Refusal> {
        let most = usize::try_from(self.next_hop.max_request_bytes).unwrap_or(usize::MAX);
        if outgoing.bytes.len() <= most {
            return self.send_part(outgoing).await;
        }
        let (parts, mut accepted) = split(&outgoing, most)?;
        let (mut taken, mut refused) = (0, None);
        for bytes in parts {
            let items = items(&bytes, outgoing.signal);
            let part = Outgoing { bytes, encoding: Encoding::Protobuf, ..outgoing.clone() };
            match self.send_part(part).await {
                Ok(answer) => (taken, accepted) = (taken + 1, together(accepted, answer)),
                // All of it is sent again.
                Err(refusal) if refusal.is_retryable() => return Err(refusal),
                Err(refusal) => {
                    let rejected = Some(Partial { rejected: items, message: refusal.message.clone() });
                    (refused, accepted) = (Some(refusal), together(accepted, rejected));
                }
            }
        }
        match refused {
            Some(refusal) if taken == 0 => Err(refusal),
            _ => Ok(accepted),
        }
    }

    async fn send_part(&self, outgoing: Outgoing) -> Result<Accepted, Refusal> {
        let deadline = outgoing.deadline.min(Instant::now() + self.next_hop.timeout);
        let send = async {
            match &self.way {
                Way::Grpc(grpc) => grpc.send(outgoing, deadline).await,
                Way::Http(http) => http.send(outgoing).await,
            }
        };
        let late = || {
            Refusal::late(format!("{} did not answer in time; nothing is known of what it took", self.next_hop.target))
        };
        let sent = tokio::time::timeout_at(deadline.into(), send).await;
        let unreached = |refusal: Refusal| {
            self.is_down.store(true, Ordering::Relaxed);
            refusal
        };
        match sent {
            Ok(Ok(accepted)) => {
                self.is_down.store(false, Ordering::Relaxed);
                Ok(accepted)
            }
            Ok(Err(Failure::Answered(refusal))) => {
                self.is_down.store(false, Ordering::Relaxed);
                Err(refusal)
            }
            Ok(Err(Failure::Unreached(text))) => {
                Err(unreached(Refusal::unavailable(format!("{}: {text}", self.next_hop.target))))
            }
            Err(_) => Err(unreached(late())),
        }
    }

    /// Whether it can be reached: what was sent last was answered, or a connection can be made.
    pub async fn is_up(&self) -> bool {
        if !self.is_down.load(Ordering::Relaxed) && self.was_reached() {
            return true;
        }
        let uri: &Uri = match &self.next_hop.target {
            Target::Grpc(uri) => uri,
            Target::Http(urls) => &urls.traces,
        };
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let connect = tokio::net::TcpStream::connect((host, uri.port_u16().unwrap_or(default)));
        let is_up = matches!(tokio::time::timeout(PATIENCE, connect).await, Ok(Ok(_)));
        self.is_down.store(!is_up, Ordering::Relaxed);
        is_up
    }

    fn was_reached(&self) -> bool {
        match &self.way {
            Way::Grpc(grpc) => grpc.was_reached(),
            Way::Http(http) => http.was_reached(),
        }
    }
}

/// For a connection that only asks whether somebody is there.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Why a part was not accepted.
enum Failure {
    /// The next hop said so.
    Answered(Refusal),
    /// Nobody answered, and why.
    Unreached(String),
}

/// Items of a request, as far as they are told apart here.
fn items(bytes: &[u8], signal: Signal) -> i64 {
    let spans = match signal {
        Signal::Traces => otlp::protobuf::locate(bytes).map_or(1, |payload| payload.spans.len()),
        _ => 1,
    };
    i64::try_from(spans).unwrap_or(i64::MAX)
}

/// Parts of at most so many bytes, in protobuf: what JSON is, is decoded for that. An item that is longer by itself is
/// rejected, as a client must not send what is over the limit.
fn split(outgoing: &Outgoing, most: usize) -> Result<(Vec<Bytes>, Accepted), Refusal> {
    let encoded = match outgoing.encoding {
        Encoding::Protobuf => outgoing.bytes.clone(),
        Encoding::Json if outgoing.signal == Signal::Traces => {
            let decoded = otlp::json::decode(&outgoing.bytes).map_err(|error| Refusal::invalid(error.to_string()))?;
            prost::Message::encode_to_vec(&decoded).into()
        }
        Encoding::Json => {
            let (length, signal) = (outgoing.bytes.len(), outgoing.signal.name());
            let text =
                format!("{length} bytes of {signal} in JSON, and the next hop takes {most}: send smaller batches");
            return Err(Refusal::too_large(text));
        }
    };
    let (parts, over) = otlp::protobuf::split(&encoded, most).map_err(|error| Refusal::invalid(error.to_string()))?;
    let rejected = (over > 0).then(|| Partial {
        rejected: i64::try_from(over).unwrap_or(i64::MAX),
        message: format!("longer than the {most} bytes that the next hop takes, each by itself"),
    });
    Ok((parts.into_iter().map(Bytes::from).collect(), rejected))
}
