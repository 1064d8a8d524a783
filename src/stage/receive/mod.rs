//! Connections of senders: accepted, kept as long as is asked, and let go in peace.

mod body;
mod grpc;
mod http;

pub use grpc::GrpcService;
pub use http::HttpService;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::stage::workers::Workers;

/// What is answered; its body, whatever it is made of.
pub type Answer = Response<http_body_util::combinators::UnsyncBoxBody<Bytes, tonic::Status>>;

/// Answers requests.
pub trait Service: Clone + Send + Sync + 'static {
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// How long connections are kept, and how they are spoken.
#[derive(Clone, Debug, Default)]
pub struct Patience {
    /// Without a request.
    pub idle: Option<Duration>,
    /// Since it was opened.
    pub age: Option<Duration>,
    /// Beyond the age, for requests to end.
    pub age_grace: Option<Duration>,
    /// Without a word until the sender is pinged, and for its answer (HTTP/2).
    pub ping: Option<(Duration, Duration)>,
    /// For a request's head (HTTP/1).
    pub head: Option<Duration>,
    pub most_streams: Option<u32>,
}

/// For the first byte of a connection.
const FIRST_WORD: Duration = Duration::from_mins(1);

/// For a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// HTTP/2 windows: a batch of 512 spans is some 300 KB, and is to arrive without asking for more room.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const FRAME_BYTES: u32 = 256 << 10;

/// Streams of a connection at once, where nothing is said: enough for any Collector, and few enough for our memory.
const STREAMS: u32 = 128;

/// Accepts connections until `stop` is true, then lets those that are open end. `open` is held by each of them.
pub async fn accept<S: Service>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    patience: Patience,
    service: S,
    workers: Arc<Workers>,
    mut stop: watch::Receiver<bool>,
    open: tokio::sync::mpsc::Sender<()>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        // On no runtime, so that it can go to another.
        let stream = match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => stream,
            Err(error) => {
                // Too many open files, mostly: others must end first.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, patience, service) = (acceptor.clone(), patience.clone(), service.clone());
        let (stop, open) = (stop.clone(), open.clone());
        workers.serve(async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => serve(stream, acceptor, patience, service, stop).await,
                Err(error) => tracing::warn!(%error, "a connection could not be served"),
            }
            drop(open);
        });
    }
}

async fn serve<S: Service>(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    patience: Patience,
    service: S,
    stop: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    match acceptor {
        // Whoever says nothing at all is not waited for.
        None => match timeout(FIRST_WORD, stream.peek(&mut [0])).await {
            Ok(Ok(1..)) => connection(stream, &patience, service, stop).await,
            _ => tracing::debug!("a connection said nothing"),
        },
        Some(acceptor) => match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => connection(stream, &patience, service, stop).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
}

async fn connection<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    patience: &Patience,
    service: S,
    mut stop: watch::Receiver<bool>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience.head);
    let mut http2 = builder.http2();
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(patience.most_streams.unwrap_or(STREAMS));
    if let Some((time, answer)) = patience.ping {
        http2.keep_alive_interval(time).keep_alive_timeout(answer);
    }
    let busy = Arc::new(Busy { requests: AtomicUsize::new(0), idle_since: watch::Sender::new(Instant::now()) });
    let counted = Arc::clone(&busy);
    let answer = move |request: Request<Incoming>| {
        let (service, held) = (service.clone(), Hold::of(&counted));
        async move {
            let answer = service.answer(request).await;
            drop(held);
            Ok::<_, std::convert::Infallible>(answer)
        }
    };
    let served = builder.serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer));
    let mut served = pin!(served);
    let began = Instant::now();
    let ends = tokio::select! {
        ended = served.as_mut() => return ended_with(ended),
        () = until(patience.age.map(|age| began + age)) => patience.age_grace.map(|grace| Instant::now() + grace),
        () = busy.is_idle_for(patience.idle) => None,
        _ = stop.wait_for(|stop| *stop) => None,
    };
    served.as_mut().graceful_shutdown();
    tokio::select! {
        ended = served.as_mut() => ended_with(ended),
        () = until(ends) => {}
    }
}

fn ended_with(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended");
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Requests of a connection that are being answered, and since when there are none.
struct Busy {
    requests: AtomicUsize,
    idle_since: watch::Sender<Instant>,
}

impl Busy {
    async fn is_idle_for(&self, patience: Option<Duration>) {
        let Some(patience) = patience else { return std::future::pending().await };
        loop {
            let since = *self.idle_since.borrow();
            sleep_until(since + patience).await;
            let is_still = self.requests.load(Ordering::Relaxed) == 0 && *self.idle_since.borrow() == since;
            if is_still {
                return;
            }
            if *self.idle_since.borrow() == since {
                // One request takes longer than that; it ends, or its own time does.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

struct Hold(Arc<Busy>);

impl Hold {
    fn of(busy: &Arc<Busy>) -> Self {
        busy.requests.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(busy))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.idle_since.send_replace(Instant::now());
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
