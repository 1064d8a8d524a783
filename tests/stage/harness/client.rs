//! Senders: gRPC over HTTP/2 and OTLP/HTTP over HTTP/1.1, with nothing between the test and the bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::wire::{self, Packing, Status};
use super::{Stage, TRACES, spans};

/// How a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Grpc,
    Protobuf,
    Json,
}

pub const VIAS: [Via; 3] = [Via::Grpc, Via::Protobuf, Via::Json];

/// What a sender makes of an answer, by OTLP's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Partial {
        rejected: i64,
        message: String,
    },
    /// To be sent again, after so many seconds if it says so.
    Again {
        after_s: Option<u64>,
    },
    /// Never to be sent again.
    Refused,
}

#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.trailers.get(name).or_else(|| self.headers.get(name))?;
        Some(value.to_str().unwrap())
    }

    /// The media type, without parameters.
    pub fn media_type(&self) -> &str {
        self.header("content-type").unwrap_or("").split(';').next().unwrap().trim()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The status code of a gRPC call.
    pub fn code(&self) -> i32 {
        assert_eq!(self.status, 200, "gRPC speaks of errors in its own status: {self:?}");
        self.header("grpc-status").unwrap_or_else(|| panic!("no status: {self:?}")).parse().unwrap()
    }

    /// The error, wherever the transport carries it.
    pub fn error(&self, via: Via) -> Status {
        match via {
            Via::Grpc => match self.header("grpc-status-details-bin") {
                Some(details) => Status::from_header(details),
                None => Status::new(self.code(), self.header("grpc-message").unwrap_or(""), None),
            },
            Via::Protobuf => {
                assert_eq!(self.media_type(), "application/x-protobuf", "{self:?}");
                Status::decode(self.body.clone()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
            }
            Via::Json => {
                assert_eq!(self.media_type(), "application/json", "{self:?}");
                let body: serde_json::Value =
                    serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
                let code = body.get("code").map_or(0, |code| code.as_i64().unwrap()) as i32;
                let message = body.get("message").map_or("", |message| message.as_str().unwrap());
                Status::new(code, message, None)
            }
        }
    }

    /// The message of a success.
    pub fn message(&self, via: Via) -> Vec<u8> {
        let packing = |name: &str| Packing::named(self.headers.get(name).map(|value| value.to_str().unwrap()));
        match via {
            Via::Grpc => wire::unframe(&self.body, packing("grpc-encoding")),
            _ => packing("content-encoding").unpack(&self.body),
        }
    }

    pub fn verdict(&self, via: Via) -> Verdict {
        match via {
            Via::Grpc => match self.code() {
                0 => self.accepted(via),
                1 | 4 | 10 | 11 | 14 | 15 => Verdict::Again { after_s: self.retry_info() },
                8 if self.retry_info().is_some() => Verdict::Again { after_s: self.retry_info() },
                _ => Verdict::Refused,
            },
            _ => match self.status {
                200 => self.accepted(via),
                429 | 502 | 503 | 504 => Verdict::Again { after_s: self.retry_after() },
                _ => Verdict::Refused,
            },
        }
    }

    fn accepted(&self, via: Via) -> Verdict {
        let message = self.message(via);
        let (rejected, message) = if via == Via::Json {
            let body: serde_json::Value = serde_json::from_slice(&message).unwrap();
            let Some(partial) = body.get("partialSuccess").filter(|partial| !partial.is_null()) else {
                return Verdict::Accepted;
            };
            // 64-bit numbers are texts in proto3's JSON, and may be numbers.
            let rejected = match &partial["rejectedSpans"] {
                serde_json::Value::String(text) => text.parse().unwrap(),
                number => number.as_i64().unwrap_or(0),
            };
            (rejected, partial["errorMessage"].as_str().unwrap_or("").to_owned())
        } else {
            let Some(partial) = ExportTraceServiceResponse::decode(&message[..]).unwrap().partial_success else {
                return Verdict::Accepted;
            };
            (partial.rejected_spans, partial.error_message)
        };
        // The Collector's receivers answer success with one that says nothing.
        if rejected == 0 && message.is_empty() {
            return Verdict::Accepted;
        }
        Verdict::Partial { rejected, message }
    }

    fn retry_info(&self) -> Option<u64> {
        let details = self.header("grpc-status-details-bin")?;
        Some(Status::from_header(details).retry_after()?.as_secs_f64().ceil() as u64)
    }

    fn retry_after(&self) -> Option<u64> {
        let text = self.header("retry-after")?;
        Some(text.parse().unwrap_or_else(|_| panic!("Retry-After: {text}: ours are whole seconds")))
    }
}

type Headers<'a> = &'a [(&'a str, &'a str)];

fn request(method: &Method, uri: &str, headers: Headers<'_>, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body)).unwrap()
}

async fn read(response: hyper::Response<hyper::body::Incoming>) -> hyper::Result<Reply> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok(Reply { status: head.status.as_u16(), headers: head.headers, body: collected.to_bytes(), trailers })
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connect_tls(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, connect(address).await?).await
}

/// A connection for gRPC; clones share it.
#[derive(Clone)]
pub struct Grpc {
    sender: http2::SendRequest<Full<Bytes>>,
    scheme: &'static str,
}

impl Grpc {
    pub async fn to(address: SocketAddr) -> std::io::Result<Self> {
        Self::over(connect(address).await?, "http").await
    }

    pub async fn to_tls(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        Self::over(connect_tls(address, config).await?, "https").await
    }

    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        scheme: &'static str,
    ) -> std::io::Result<Self> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(4 << 20).initial_connection_window_size(4 << 20).max_send_buf_size(1 << 20);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender, scheme })
    }

    /// One call with a body as it is to be on the wire.
    pub async fn call(&mut self, path: &str, headers: Headers<'_>, body: impl Into<Bytes>) -> hyper::Result<Reply> {
        let mut all = vec![("content-type", "application/grpc"), ("te", "trailers")];
        all.extend(headers);
        self.post(path, &all, body).await
    }

    /// A POST over the same kind of connection that is no gRPC.
    pub async fn post(&mut self, path: &str, all: Headers<'_>, body: impl Into<Bytes>) -> hyper::Result<Reply> {
        self.sender.ready().await?;
        let uri = format!("{}://localhost{path}", self.scheme);
        read(self.sender.send_request(request(&Method::POST, &uri, all, body.into())).await?).await
    }
}

/// A connection for HTTP/1.1.
pub struct Http {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Http {
    pub async fn to(address: SocketAddr) -> std::io::Result<Self> {
        Self::over(connect(address).await?).await
    }

    pub async fn to_tls(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        Self::over(connect_tls(address, config).await?).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> std::io::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub async fn call(
        &mut self,
        method: &Method,
        path: &str,
        headers: Headers<'_>,
        body: impl Into<Bytes>,
    ) -> hyper::Result<Reply> {
        let mut all = vec![("host", "localhost")];
        all.extend(headers);
        self.sender.ready().await?;
        read(self.sender.send_request(request(method, path, &all, body.into())).await?).await
    }
}

pub async fn try_get(address: SocketAddr, path: &str) -> Option<Reply> {
    let answered = async { Http::to(address).await.ok()?.call(&Method::GET, path, &[], Bytes::new()).await.ok() };
    tokio::time::timeout(Duration::from_secs(5), answered).await.ok()?
}

impl Stage {
    /// A gRPC call of one message.
    pub async fn grpc(&self, path: &str, headers: Headers<'_>, message: &[u8]) -> Reply {
        self.grpc_framed(path, headers, wire::frame(message, Packing::Plain)).await
    }

    /// A gRPC call with a body as it is to be on the wire.
    pub async fn grpc_framed(&self, path: &str, headers: Headers<'_>, body: Vec<u8>) -> Reply {
        Grpc::to(self.grpc).await.unwrap().call(path, headers, body).await.unwrap()
    }

    /// A POST, its headers as given.
    pub async fn post(&self, path: &str, headers: Headers<'_>, body: &[u8]) -> Reply {
        self.http(&Method::POST, path, headers, body).await
    }

    pub async fn http(&self, method: &Method, path: &str, headers: Headers<'_>, body: &[u8]) -> Reply {
        Http::to(self.http).await.unwrap().call(method, path, headers, body.to_vec()).await.unwrap()
    }

    /// A request in one of the three ways, packed, with more headers.
    pub async fn send_packed(&self, via: Via, packing: Packing, headers: Headers<'_>, body: &[u8]) -> Reply {
        let mut all = headers.to_vec();
        let plain = packing == Packing::Plain;
        match via {
            Via::Grpc => {
                all.extend((!plain).then(|| ("grpc-encoding", packing.name())));
                self.grpc_framed(TRACES, &all, wire::frame(body, packing)).await
            }
            Via::Protobuf | Via::Json => {
                all.push(("content-type", media_type(via)));
                all.extend((!plain).then(|| ("content-encoding", packing.name())));
                self.post("/v1/traces", &all, &packing.pack(body)).await
            }
        }
    }

    pub async fn send_bytes(&self, via: Via, body: &[u8]) -> Reply {
        self.send_packed(via, Packing::Plain, &[], body).await
    }

    pub async fn send(&self, via: Via, request: &ExportTraceServiceRequest) -> Reply {
        self.send_bytes(via, &encoded(via, request)).await
    }
}

pub fn media_type(via: Via) -> &'static str {
    match via {
        Via::Grpc => "application/grpc",
        Via::Protobuf => "application/x-protobuf",
        Via::Json => "application/json",
    }
}

/// A request as it goes over the wire.
pub fn encoded(via: Via, request: &ExportTraceServiceRequest) -> Vec<u8> {
    if via == Via::Json { spans::json(request).into_bytes() } else { request.encode_to_vec() }
}
