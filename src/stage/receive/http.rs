//! OTLP over HTTP: protobuf and JSON, plain, gzip or zstd.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};

use super::body::{Metered, full, too_large};
use super::grpc::{PATIENCE, not_taken, plain, stopping};
use super::{Answer, Service};
use crate::stage::answer::{self, Refusal};
use crate::stage::auth::Gate;
use crate::stage::budget::Claim;
use crate::stage::config;
use crate::stage::metrics::{Outcome, Transport};
use crate::stage::relay::Relay;
use crate::stage::request::{Encoding, Request, Signal, listed};

/// What is asked of one sender's requests.
#[derive(Clone)]
pub struct HttpService {
    relay: Arc<Relay>,
    gate: Arc<Gate>,
    most: usize,
    passes_metadata: bool,
    read_timeout: Option<Duration>,
}

impl HttpService {
    pub fn of(relay: Arc<Relay>, gate: Gate, listener: &config::Http) -> Self {
        let most = usize::try_from(listener.max_body_bytes).unwrap_or(usize::MAX);
        let read_timeout = listener.read_timeout;
        Self { relay, gate: gate.into(), most, passes_metadata: listener.include_metadata, read_timeout }
    }

    async fn take(
        &self,
        request: HttpRequest<Incoming>,
        signal: Signal,
        encoding: Encoding,
    ) -> Result<answer::Accepted, Refusal> {
        if !self.gate.opens(request.headers()) {
            return Err(Refusal::unauthenticated());
        }
        let compression = compression(request.headers())?;
        let keys = &self.relay.settings().metadata;
        let metadata = if self.passes_metadata { listed(request.headers(), keys) } else { HeaderMap::new() };
        let claim = self.relay.budget.claim();
        let body = Metered::of(request.into_body(), Arc::clone(&claim)).collect_up_to(self.most);
        let body = match self.read_timeout {
            Some(patience) => tokio::time::timeout(patience, body)
                .await
                .unwrap_or_else(|_| Err(Refusal::late("the request did not arrive in time"))),
            None => body.await,
        }?;
        let bytes = match compression {
            None => body,
            Some(compression) => decompress(compression, &body, self.most, &claim)?,
        };
        let deadline = Instant::now() + PATIENCE;
        self.relay.pass(Request { signal, encoding, bytes, metadata, deadline, claim }).await
    }
}

impl Service for HttpService {
    async fn answer(&self, request: HttpRequest<Incoming>) -> Answer {
        let Some(signal) = Signal::ALL.into_iter().find(|signal| signal.path() == request.uri().path()) else {
            return text(
                StatusCode::NOT_FOUND,
                "OTLP goes to /v1/traces, /v1/metrics, /v1/logs or /v1development/profiles\n",
            );
        };
        if request.method() != Method::POST {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed, supported: [POST]\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return answer;
        }
        let Some(encoding) = encoding(request.headers()) else {
            let supported = "415 unsupported media type, supported: [application/json, application/x-protobuf]\n";
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, supported);
        };
        if !self.relay.settings().takes(signal) {
            self.relay.metrics.refused(signal, Transport::Http, Outcome::Refused);
            return refused(&not_taken(signal), encoding);
        }
        let answered = self.relay.unless_over(self.take(request, signal, encoding)).await;
        let answered = answered.unwrap_or_else(|| Err(stopping()));
        self.relay.metrics.answered(signal, Transport::Http, &answered);
        match answered {
            Ok(accepted) => body(StatusCode::OK, encoding, answer::body(&accepted, encoding, signal)),
            Err(refusal) => refused(&refusal, encoding),
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(plain(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

fn body(status: StatusCode, encoding: Encoding, bytes: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    let media = match encoding {
        Encoding::Protobuf => "application/x-protobuf",
        Encoding::Json => "application/json",
    };
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    answer
}

fn refused(refusal: &Refusal, encoding: Encoding) -> Answer {
    let mut answer = body(refusal.http, encoding, refusal.body(encoding));
    if let Some(delay) = refusal.retry_after {
        // Whole seconds, and not before.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if refusal.http == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        answer.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
    }
    if refusal.http == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(hyper::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// By the media type alone, whatever its parameters.
fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let media = value.split(';').next()?.trim();
    if media.eq_ignore_ascii_case("application/x-protobuf") {
        Some(Encoding::Protobuf)
    } else if media.eq_ignore_ascii_case("application/json") {
        Some(Encoding::Json)
    } else {
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Gzip,
    Zstd,
}

fn compression(headers: &HeaderMap) -> Result<Option<Compression>, Refusal> {
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => Ok(None),
        Some(b"gzip") => Ok(Some(Compression::Gzip)),
        Some(b"zstd") => Ok(Some(Compression::Zstd)),
        Some(other) => {
            let text = format!("Content-Encoding {} is not taken: send gzip or zstd", String::from_utf8_lossy(other));
            Err(Refusal::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
        }
    }
}

/// Counted as it grows: a few kilobytes may hold gigabytes.
fn decompress(compression: Compression, bytes: &[u8], most: usize, claim: &Claim) -> Result<Bytes, Refusal> {
    let invalid = |error: std::io::Error| Refusal::invalid(format!("cannot be decompressed: {error}"));
    let mut reader: Box<dyn Read + '_> = match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(bytes).map_err(invalid)?),
    };
    let mut whole = Vec::with_capacity((4 * bytes.len()).min(most));
    loop {
        // Twice as much each time, but never more than may be needed.
        if whole.capacity() - whole.len() < PIECE_BYTES {
            let room = whole.capacity().clamp(PIECE_BYTES, most + PIECE_BYTES - whole.len().min(most));
            whole.reserve_exact(room);
        }
        let before = whole.len();
        let piece = (whole.capacity() - before) as u64;
        let step = (&mut reader).take(piece.min(MOST_AT_ONCE)).read_to_end(&mut whole).map_err(invalid)?;
        if whole.len() > most {
            return Err(too_large(most));
        }
        claim.hold(whole.len()).map_err(|_| full())?;
        if step == 0 || whole.len() == before {
            return Ok(whole.into());
        }
    }
}

/// So much is decompressed before it is counted, at the least and at the most.
const PIECE_BYTES: usize = 256 << 10;
const MOST_AT_ONCE: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::budget::Budget;

    #[test]
    fn parameters_of_a_media_type_change_nothing() {
        let check = |value: &'static str, expected| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(encoding(&headers), expected, "{value}");
        };
        check("application/json; charset=utf-8", Some(Encoding::Json));
        check("Application/X-Protobuf", Some(Encoding::Protobuf));
        check("application/jsonlines", None);
        check("text/plain", None);
    }

    #[test]
    fn a_bomb_is_put_down_before_it_is_whole() {
        let bomb = zstd::encode_all(std::io::repeat(0).take(1 << 30), 1).unwrap();
        let budget = Budget::of(64 << 20);
        let refusal = decompress(Compression::Zstd, &bomb, 1 << 20, &budget.claim()).unwrap_err();
        assert_eq!(refusal.http, StatusCode::PAYLOAD_TOO_LARGE);
        let other = budget.claim();
        other.more(60 << 20).unwrap();
        let refusal = decompress(Compression::Zstd, &bomb, 1 << 30, &budget.claim()).unwrap_err();
        assert_eq!(refusal.http, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn members_of_a_gzip_are_read_to_the_last() {
        let member = |text: &str| {
            let mut encoder = flate2::read::GzEncoder::new(text.as_bytes(), flate2::Compression::fast());
            let mut bytes = Vec::new();
            encoder.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let bytes = [member("one "), member("other")].concat();
        let whole = decompress(Compression::Gzip, &bytes, 99, &Budget::of(99).claim()).unwrap();
        assert_eq!(whole, "one other");
    }
}
