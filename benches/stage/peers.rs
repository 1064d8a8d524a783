//! What the stage is held beside: a sink that throws away, a relay that passes bytes on, and the Collector.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::harness::client::Grpc;
use crate::harness::wire::{self, Packing};
use crate::harness::{TRACES, free_address};

/// One of them as a process, killed when it is dropped.
pub struct Peer {
    pub address: SocketAddr,
    child: Child,
    /// Of its configuration.
    folder: Option<tempfile::TempDir>,
}

impl Peer {
    pub async fn sink() -> Self {
        let address = free_address();
        Self::ourselves(address, &["sink", &address.port().to_string()]).await
    }

    pub async fn relay(to: SocketAddr, compression: &str) -> Self {
        let address = free_address();
        Self::ourselves(address, &["relay", &address.port().to_string(), &to.to_string(), compression]).await
    }

    /// Without a queue: it answers when the sink has.
    pub async fn collector(to: SocketAddr, compression: &str) -> Self {
        let address = free_address();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("collector.yaml");
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"{address}\"}}}}}}}}\n\
             exporters: {{otlp_grpc: {{endpoint: \"{to}\", tls: {{insecure: true}}, compression: {compression}, \
                sending_queue: {{enabled: false}}, retry_on_failure: {{enabled: false}}}}}}\n\
             service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [otlp_grpc]}}}}, \
                telemetry: {{metrics: {{level: none}}}}}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(std::env::var_os("UNSKEW_COLLECTOR").unwrap());
        command.arg("--config").arg(&file);
        let mut peer = Self::spawn(address, &mut command).await;
        peer.folder = Some(folder);
        peer
    }

    async fn ourselves(address: SocketAddr, role: &[&str]) -> Self {
        Self::spawn(address, Command::new(std::env::current_exe().unwrap()).args(role)).await
    }

    async fn spawn(address: SocketAddr, command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut peer = Self { address, child, folder: None };
        let began = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            assert!(peer.child.try_wait().unwrap().is_none(), "{command:?} ended");
            assert!(began.elapsed() < Duration::from_secs(20), "{command:?} does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        peer
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Reply = Response<BoxBody<Bytes, Infallible>>;

fn accepted() -> Reply {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", 0.into());
    let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap()
}

/// Receives and throws away: the floor of gRPC in.
pub fn sink(port: u16) {
    crate::block_on(serve(port, |mut request: Request<Incoming>| async move {
        while let Some(frame) = request.body_mut().frame().await {
            frame?;
        }
        Ok(accepted())
    }));
}

/// Sends on what it receives and answers when the next hop has; packed bodies are unpacked and packed again, as whoever
/// looks into them has to.
pub fn relay(port: u16, to: SocketAddr, gzip: bool) {
    crate::block_on(async {
        let next_hop = Grpc::to(to).await.unwrap();
        serve(port, move |request: Request<Incoming>| {
            let mut next_hop = next_hop.clone();
            async move {
                let mut body = request.into_body().collect().await?.to_bytes();
                let mut headers = &[][..];
                if gzip {
                    body = wire::frame(&wire::unframe(&body, Packing::Gzip), Packing::Gzip).into();
                    headers = &[("grpc-encoding", "gzip")];
                }
                let reply = next_hop.call(TRACES, headers, body).await?;
                assert_eq!(reply.code(), 0);
                Ok(accepted())
            }
        })
        .await;
    });
}

/// Windows as wide as a few requests: narrow ones cost a turn each 64 KB.
async fn serve<F>(port: u16, answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static)
where
    F: Future<Output = hyper::Result<Reply>> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let service = service_fn(answer.clone());
        tokio::spawn(async move {
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(4 << 20).initial_connection_window_size(16 << 20);
            builder.max_frame_size(1 << 20);
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
