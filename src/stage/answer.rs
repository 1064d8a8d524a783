//! What a sender is told: accepted, in part or not, in the words of gRPC and of HTTP.
//!
//! A refusal keeps what decides what the sender does next: whether to send again, and when. Tables after OTLP's
//! specification, and after what Collectors do between hops.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::request::{Encoding, Signal};

/// The next hop took the request, but for so many items; none and a message: a warning. Every signal's is the same on the
/// wire.
#[derive(Clone, PartialEq, Message)]
pub struct Partial {
    #[prost(int64, tag = "1")]
    pub rejected: i64,
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `Export…ServiceResponse`.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<Partial>,
}

/// What a request came to where it was not refused; `None`: all was accepted.
pub type Accepted = Option<Partial>;

/// The accepted parts of one request, together.
pub fn together(one: Accepted, other: Accepted) -> Accepted {
    match (one, other) {
        (Some(one), Some(other)) => {
            let texts = [one.message, other.message];
            let message = texts.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join("; ");
            Some(Partial { rejected: one.rejected.saturating_add(other.rejected), message })
        }
        (one, other) => one.or(other),
    }
}

/// The answer's message in protobuf.
pub fn to_protobuf(accepted: &Accepted) -> Bytes {
    Response { partial_success: accepted.clone() }.encode_to_vec().into()
}

/// The answer's body in a request's encoding.
pub fn body(accepted: &Accepted, encoding: Encoding, signal: Signal) -> Bytes {
    match (encoding, accepted) {
        (Encoding::Protobuf, _) => to_protobuf(accepted),
        (Encoding::Json, None) => Bytes::from_static(b"{}"),
        (Encoding::Json, Some(Partial { rejected, message })) => {
            let mut partial = serde_json::Map::new();
            if *rejected != 0 {
                partial.insert(signal.rejected_key().to_owned(), rejected.to_string().into());
            }
            if !message.is_empty() {
                partial.insert("errorMessage".to_owned(), message.as_str().into());
            }
            serde_json::json!({ "partialSuccess": partial }).to_string().into()
        }
    }
}

/// What a next hop's answer says; one that is none of ours to understand is an acceptance, as its status says.
pub fn accepted(bytes: &[u8], encoding: Encoding, signal: Signal) -> Accepted {
    match encoding {
        Encoding::Protobuf => {
            let partial = Response::decode(bytes).ok()?.partial_success;
            partial.filter(|partial| *partial != Partial::default())
        }
        Encoding::Json => {
            let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
            let partial = value.get("partialSuccess")?;
            let rejected = partial.get(signal.rejected_key());
            let rejected = rejected.and_then(|it| it.as_i64().or_else(|| it.as_str()?.parse().ok())).unwrap_or(0);
            let message = partial.get("errorMessage").and_then(|it| it.as_str()).unwrap_or_default().to_owned();
            Some(Partial { rejected, message }).filter(|partial| *partial != Partial::default())
        }
    }
}

/// Why a request was not accepted.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: Code,
    pub http: StatusCode,
    pub message: String,
    /// When to try again, where that was said.
    pub retry_after: Option<Duration>,
    /// `google.rpc.Status` as the next hop gave it.
    details: Bytes,
}

impl Refusal {
    fn new(code: Code, http: StatusCode, message: impl Into<String>) -> Self {
        Self { code, http, message: message.into(), retry_after: None, details: Bytes::new() }
    }

    /// There is no room, or the next hop cannot be reached: the sender is to try again.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// No room: again in a second.
    pub fn busy(message: impl Into<String>) -> Self {
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::unavailable(message) }
    }

    /// Nothing that is sent again will be any better.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, StatusCode::BAD_REQUEST, message)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// What is told of a request that is longer than one may be.
    pub fn too_large_for(most: usize) -> Self {
        Self::too_large(format!("larger than {most} bytes, which is the most that is taken: send smaller batches"))
    }

    /// What is told while others hold all the room there is.
    pub fn full() -> Self {
        Self::busy("as many bytes are in flight as may be: the next hop is slower than the senders")
    }

    pub fn unauthenticated() -> Self {
        Self::new(Code::Unauthenticated, StatusCode::UNAUTHORIZED, "a bearer token is asked for, and this is none")
    }

    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, StatusCode::NOT_FOUND, message)
    }

    pub fn http(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, status, message)
    }

    pub fn late(message: impl Into<String>) -> Self {
        Self::new(Code::DeadlineExceeded, StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// A failure within, as gRPC clients are told it.
    pub fn is_retryable(&self) -> bool {
        matches!(self.http.as_u16(), 429 | 502 | 503 | 504)
    }

    /// A next hop's gRPC status.
    pub fn of_status(status: &Status) -> Self {
        let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let http = match status.code() {
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss => StatusCode::SERVICE_UNAVAILABLE,
            // Without a time to try again it is permanent, and 429 is not.
            Code::ResourceExhausted if retry_after.is_some() => StatusCode::TOO_MANY_REQUESTS,
            Code::ResourceExhausted => StatusCode::PAYLOAD_TOO_LARGE,
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unimplemented => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self {
            code: status.code(),
            http,
            message: status.message().to_owned(),
            retry_after,
            details: Bytes::copy_from_slice(status.details()),
        }
    }

    /// A next hop's HTTP status, with what its body says where that is a `google.rpc.Status`.
    pub fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8], encoding: Encoding) -> Self {
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
        let code = match status.as_u16() {
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 | 405 | 415 | 501 => Code::Unimplemented,
            413 => Code::ResourceExhausted,
            429 if retry_after.is_some() => Code::ResourceExhausted,
            429 | 502 | 503 | 504 => Code::Unavailable,
            400..=499 => Code::InvalidArgument,
            _ => Code::Internal,
        };
        let message =
            message_of(body, encoding).unwrap_or_else(|| status.canonical_reason().unwrap_or("refused").to_owned());
        Self { retry_after, ..Self::new(code, status, message) }
    }

    /// As a gRPC status; with `RetryInfo` where there is a time to try again.
    pub fn to_status(&self) -> Status {
        if !self.details.is_empty() {
            return Status::with_details(self.code, &self.message, self.details.clone());
        }
        match self.retry_after {
            Some(delay) => {
                let details = tonic_types::ErrorDetails::with_retry_info(Some(delay));
                Status::with_error_details(self.code, &self.message, details)
            }
            None => Status::new(self.code, &self.message),
        }
    }

    /// The body of an HTTP answer: a `google.rpc.Status` in the request's encoding.
    pub fn body(&self, encoding: Encoding) -> Bytes {
        let code = i32::from(self.code);
        match encoding {
            Encoding::Protobuf => {
                let status = tonic_types::Status { code, message: self.message.clone(), details: Vec::new() };
                status.encode_to_vec().into()
            }
            Encoding::Json => serde_json::json!({ "code": code, "message": self.message }).to_string().into(),
        }
    }
}

/// Seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    let now = i64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()).ok()?;
    Some(Duration::from_secs(u64::try_from(at.timestamp() - now).unwrap_or(0)))
}

fn message_of(body: &[u8], encoding: Encoding) -> Option<String> {
    let message = match encoding {
        Encoding::Protobuf => tonic_types::Status::decode(body).ok()?.message,
        Encoding::Json => serde_json::from_slice::<serde_json::Value>(body).ok()?.get("message")?.as_str()?.to_owned(),
    };
    Some(message).filter(|message| !message.is_empty())
}
