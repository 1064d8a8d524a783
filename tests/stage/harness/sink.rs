//! A next hop that keeps what it gets, and answers as it is told.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::spans;
use super::wire::{self, Packing, Status};

/// What the next hop says to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    Accept,
    Partial {
        rejected: i64,
        message: &'static str,
    },
    /// A gRPC status.
    Code {
        code: i32,
        message: &'static str,
        retry_after: Option<Duration>,
    },
    /// An HTTP status.
    Http {
        status: u16,
        message: &'static str,
        retry_after: Option<String>,
    },
    Late(Duration, Box<Answer>),
}

impl Answer {
    /// A gRPC status without more.
    pub fn code(code: i32) -> Self {
        Self::Code { code, message: "as-the-next-hop-says", retry_after: None }
    }

    /// An HTTP status without more.
    pub fn http(status: u16) -> Self {
        Self::Http { status, message: "as-the-next-hop-says", retry_after: None }
    }

    pub fn late(by: Duration, answer: Self) -> Self {
        Self::Late(by, Box::new(answer))
    }

    fn accepts(&self) -> bool {
        match self {
            Self::Accept | Self::Partial { .. } => true,
            Self::Code { .. } | Self::Http { .. } => false,
            Self::Late(_, answer) => answer.accepts(),
        }
    }
}

/// A request as it came, without its packing.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// As it was on the wire, gRPC's frame included.
    pub packed_len: usize,
    pub packing: Packing,
    /// Whether it was answered with success, partial or not.
    pub accepted: bool,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn is_json(&self) -> bool {
        self.header("content-type") == Some("application/json")
    }

    pub fn request(&self) -> ExportTraceServiceRequest {
        assert!(!self.is_json());
        ExportTraceServiceRequest::decode(self.body.clone()).unwrap()
    }

    pub fn spans(&self) -> Vec<Span> {
        spans::of(&self.request())
    }
}

struct Shared {
    standing: Mutex<Answer>,
    once: Mutex<VecDeque<Answer>>,
    received: Mutex<Vec<Received>>,
}

/// Stops, with all its connections, when it is dropped.
pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl Sink {
    pub async fn start() -> Self {
        Self::at(super::free_address()).await
    }

    pub async fn at(address: SocketAddr) -> Self {
        Self::serve(address, None)
    }

    pub async fn with_tls(config: Arc<ServerConfig>) -> Self {
        Self::serve(super::free_address(), Some(config))
    }

    fn serve(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1024).unwrap();
        let shared = Arc::new(Shared {
            standing: Mutex::new(Answer::Accept),
            once: Mutex::default(),
            received: Mutex::default(),
        });
        let serving = tokio::spawn(accept(listener, tls.map(TlsAcceptor::from), shared.clone()));
        Self { address, shared, serving }
    }

    /// From now on.
    pub fn answer(&self, answer: Answer) {
        *self.shared.standing.lock().unwrap() = answer;
    }

    /// To the next request, or the one after those that an answer is already there for.
    pub fn answer_once(&self, answer: Answer) {
        self.shared.once.lock().unwrap().push_back(answer);
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.shared.received.lock().unwrap())
    }

    /// The one request that came since it was last asked.
    pub fn only(&self) -> Received {
        let mut received = self.take();
        assert_eq!(received.len(), 1, "requests at the next hop");
        received.pop().unwrap()
    }

    /// Ends it, and returns what came until the very end.
    pub async fn stop(mut self) -> Vec<Received> {
        self.serving.abort();
        let _ = (&mut self.serving).await;
        self.take()
    }

    /// All spans that came.
    pub fn spans(&self) -> Vec<Span> {
        self.received().iter().flat_map(Received::spans).collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    // Ends its tasks when it is dropped itself.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (shared, tls) = (shared.clone(), tls.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| answer(shared.clone(), request));
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http2().initial_stream_window_size(4 << 20).initial_connection_window_size(16 << 20);
            let _ = match tls {
                None => builder.serve_connection(TokioIo::new(stream), service).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => builder.serve_connection(TokioIo::new(stream), service).await,
                    Err(_) => Ok(()),
                },
            };
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> hyper::Result<Response<BoxBody<Bytes, Infallible>>> {
    let (head, body) = request.into_parts();
    let packed = body.collect().await?.to_bytes();
    let text = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
    let media_type = text("content-type").unwrap_or("").to_owned();
    let grpc = media_type.starts_with("application/grpc");
    let packing = Packing::named(text(if grpc { "grpc-encoding" } else { "content-encoding" }));
    let body = if grpc { wire::unframe(&packed, packing) } else { packing.unpack(&packed) };
    let once = shared.once.lock().unwrap().pop_front();
    let mut answer = once.unwrap_or_else(|| shared.standing.lock().unwrap().clone());
    shared.received.lock().unwrap().push(Received {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body: body.into(),
        packed_len: packed.len(),
        packing,
        accepted: answer.accepts(),
    });
    while let Answer::Late(by, then) = answer {
        tokio::time::sleep(by).await;
        answer = *then;
    }
    Ok(if grpc { grpc_reply(&answer) } else { http_reply(&answer, &media_type) })
}

fn grpc_reply(answer: &Answer) -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    let mut body = Bytes::new();
    match answer {
        Answer::Code { code, message, retry_after } => {
            trailers.insert("grpc-status", (*code).into());
            trailers.insert("grpc-message", message.parse().unwrap());
            if retry_after.is_some() {
                let details = Status::new(*code, message, *retry_after).to_header();
                trailers.insert("grpc-status-details-bin", details.parse().unwrap());
            }
        }
        answer => {
            trailers.insert("grpc-status", 0.into());
            body = wire::frame(&success(answer).encode_to_vec(), Packing::Plain).into();
        }
    }
    let body = Full::new(body).with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap()
}

fn http_reply(answer: &Answer, media_type: &str) -> Response<BoxBody<Bytes, Infallible>> {
    let json = media_type == "application/json";
    let mut response = Response::builder().header("content-type", media_type);
    let body = match answer {
        Answer::Http { status, message, retry_after } => {
            response = response.status(*status);
            if let Some(after) = retry_after {
                response = response.header("retry-after", after);
            }
            match json {
                true => serde_json::json!({ "message": message }).to_string().into_bytes(),
                false => Status::new(0, message, None).encode_to_vec(),
            }
        }
        Answer::Partial { rejected, message } if json => {
            let partial = serde_json::json!({ "rejectedSpans": rejected.to_string(), "errorMessage": message });
            serde_json::json!({ "partialSuccess": partial }).to_string().into_bytes()
        }
        _ if json => b"{}".to_vec(),
        answer => success(answer).encode_to_vec(),
    };
    response.body(Full::new(body.into()).boxed()).unwrap()
}

fn success(answer: &Answer) -> ExportTraceServiceResponse {
    let partial_success = match answer {
        Answer::Accept => None,
        Answer::Partial { rejected, message } => {
            Some(ExportTracePartialSuccess { rejected_spans: *rejected, error_message: (*message).to_owned() })
        }
        other => panic!("{other:?}: not for this transport"),
    };
    ExportTraceServiceResponse { partial_success }
}
