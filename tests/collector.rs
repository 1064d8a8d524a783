//! Between two real OpenTelemetry Collectors: what the second writes to a file is what `fix` made of the dump.
//!
//! `UNSKEW_DATA=FOLDER UNSKEW_COLLECTOR=PROGRAM cargo test --release --test collector`; `scripts/collector` builds the
//! program. Without it every test fails.

mod common;
#[path = "stage/fixed.rs"]
mod fixed;
#[path = "stage/harness/mod.rs"]
mod harness;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fixed::Fixed;
use harness::client::Grpc;
use harness::wire::{self, Packing};
use harness::{Config, Hop, Stage, TRACES, Verdict, Via, free_address};

fn program() -> PathBuf {
    let program = std::env::var_os("UNSKEW_COLLECTOR");
    PathBuf::from(program.expect("UNSKEW_COLLECTOR has to name a Collector; scripts/collector builds one"))
}

/// A Collector that receives OTLP, killed when it is dropped.
struct Collector {
    grpc: SocketAddr,
    http: SocketAddr,
    child: Child,
    folder: tempfile::TempDir,
}

impl Collector {
    /// With one exporter, in YAML's flow style.
    async fn start(name: &str, exporter: &str) -> Self {
        let (grpc, http) = (free_address(), free_address());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("collector.yaml");
        let text = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"{grpc}\"}}, http: {{endpoint: \"{http}\"}}}}}}}}\n\
             exporters: {{{name}: {{{exporter}}}}}\n\
             service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [{name}]}}}}, \
                telemetry: {{metrics: {{level: none}}}}}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program())
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut collector = Self { grpc, http, child, folder };
        let began = Instant::now();
        while tokio::net::TcpStream::connect(grpc).await.is_err() {
            assert!(collector.child.try_wait().unwrap().is_none(), "the Collector ended: {}", collector.log());
            assert!(began.elapsed() < Duration::from_secs(20), "the Collector does not listen: {}", collector.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        collector
    }

    /// Sends on without a queue: it answers when the next hop has.
    async fn sending(to: SocketAddr, how: Sending) -> Self {
        let common = "sending_queue: {enabled: false}, retry_on_failure: {enabled: false}";
        let Sending { via, compression } = how;
        match via {
            Via::Grpc => {
                let keys = format!("endpoint: \"{to}\", tls: {{insecure: true}}, compression: {compression}, {common}");
                Self::start("otlp_grpc", &keys).await
            }
            Via::Protobuf | Via::Json => {
                let encoding = if via == Via::Json { "json" } else { "proto" };
                let keys =
                    format!("endpoint: \"http://{to}\", encoding: {encoding}, compression: {compression}, {common}");
                Self::start("otlp_http", &keys).await
            }
        }
    }

    /// Writes each request to a file, as length-prefixed protobuf.
    async fn writing(path: &Path) -> Self {
        Self::start("file", &format!("path: \"{}\", format: proto, flush_interval: 100ms", path.display())).await
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// SIGTERM, and waits until it has written all.
    async fn end(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(20), "the Collector does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(12).collect();
            eprintln!("-- the Collector said, last first:\n{}\n--", tail.join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    via: Via,
    compression: &'static str,
}

/// From the first Collector, and on to the second.
const WAYS: [(Sending, Hop, &str); 6] = [
    (Sending { via: Via::Grpc, compression: "none" }, Hop::Grpc, "none"),
    (Sending { via: Via::Grpc, compression: "gzip" }, Hop::Grpc, "gzip"),
    (Sending { via: Via::Grpc, compression: "zstd" }, Hop::Http, "none"),
    (Sending { via: Via::Protobuf, compression: "gzip" }, Hop::Http, "gzip"),
    (Sending { via: Via::Json, compression: "none" }, Hop::Http, "none"),
    (Sending { via: Via::Json, compression: "gzip" }, Hop::Grpc, "gzip"),
];

/// Spans in = spans out, and field by field those of `fix`.
async fn between_two_collectors(scenario: &'static str, spans: usize, most_per_mille: usize) {
    let fixed = Fixed::of(scenario, false);
    for (sending, hop, compression) in WAYS {
        let what = format!("{scenario}: {sending:?}, then {hop:?} {compression}");
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join("traces.binpb");
        let after = Collector::writing(&written).await;
        let next_hop = if hop == Hop::Grpc { after.grpc } else { after.http };
        let config = Config::to_address(next_hop, hop).compression(compression).correcting_by(fixed.models());
        let stage = Stage::start(config).await;
        let entrance = if sending.via == Via::Grpc { stage.grpc } else { stage.http };
        let before = Collector::sending(entrance, sending).await;
        let mut grpc = Grpc::to(before.grpc).await.unwrap();
        for (nth, record) in fixed.recorded.iter().enumerate() {
            let reply = grpc.call(TRACES, &[], wire::frame(record, Packing::Plain)).await.unwrap();
            assert_eq!(reply.verdict(Via::Grpc), Verdict::Accepted, "{what}: record {nth}: {reply:?}");
        }
        after.end().await;
        let file = std::fs::read(&written).unwrap();
        let records = common::records(&file);
        let (all, excepted) = fixed.check(records.iter().map(|record| &record[..]), false);
        println!("{what}: {all} spans, of which {excepted} are excepted");
        assert_eq!(all, spans, "{what}");
        assert!(excepted * 1_000 <= most_per_mille * all, "{what}: {excepted} excepted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constant_offsets() {
    between_two_collectors("s1", 51_604, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_step() {
    let fixed = Fixed::of("s3", false);
    let spans = fixed.recorded.iter().map(|record| fixed::protobuf_views(record).len()).sum();
    between_two_collectors("s3", spans, 9).await;
}

/// A Collector tells its senders what we told it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_comes_through_as_one() {
    let sink = harness::Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    for via in [Via::Grpc, Via::Protobuf, Via::Json] {
        let entrance = if via == Via::Grpc { stage.grpc } else { stage.http };
        let before = Collector::sending(entrance, Sending { via, compression: "gzip" }).await;
        let mut grpc = Grpc::to(before.grpc).await.unwrap();
        let body = prost::Message::encode_to_vec(&harness::spans::request(3));
        for (code, again) in [(3, false), (14, true), (13, false)] {
            sink.answer(harness::Answer::code(code));
            let reply = grpc.call(TRACES, &[], wire::frame(&body, Packing::Plain)).await.unwrap();
            let verdict = reply.verdict(Via::Grpc);
            assert_eq!(matches!(verdict, Verdict::Again { .. }), again, "{via:?}, {code}: {reply:?}");
            assert_ne!(verdict, Verdict::Accepted, "{via:?}, {code}");
            assert_eq!(sink.take().len(), 1, "{via:?}, {code}");
        }
    }
}
