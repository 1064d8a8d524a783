//! CPU of the stage per million spans, beside a plain relay, a sink and, where `UNSKEW_COLLECTOR` names one, the real
//! Collector, all in one run.
//!
//! gRPC to gRPC in requests of 512 spans; every process under test is one of its own, and its CPU is what the system
//! books for it: user and system, in ticks of 10 ms. The machine's pace changes from day to day: the ratios are what to
//! compare.
//!
//! `cargo bench --bench stage`; after `--`: `gzip` or `plain` for only those rows, `--millions 6` for more spans a row,
//! and `memory 600` for ten minutes at 50,000 spans a second, memory over time.

mod common;
#[path = "../tests/stage/harness/mod.rs"]
mod harness;
#[path = "stage/load.rs"]
mod load;
#[path = "stage/peers.rs"]
mod peers;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::program::memory_kb;
use harness::wire::Packing;
use harness::{Config, Hop, Stage};
use load::Load;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use peers::Peer;
use prost::Message;
use unskew::otlp::protobuf;
use unskew::span::{SpanId, TraceId};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        // `cargo test --benches` only asks whether it builds.
        ["--test", ..] => {}
        // As processes of their own.
        ["sink", port] => peers::sink(port.parse().unwrap()),
        ["relay", port, to, packing] => peers::relay(port.parse().unwrap(), to.parse().unwrap(), packing == "gzip"),
        ["memory", seconds] => block_on(memory(Duration::from_secs(seconds.parse().unwrap()))),
        _ => {
            let after = |name: &str| words.iter().skip_while(|word| **word != name).nth(1);
            let millions: f64 = after("--millions").map_or(3.0, |millions| millions.parse().unwrap());
            let only = |name: &str| words.contains(&name) || !words.iter().any(|word| ["gzip", "plain"].contains(word));
            for (name, packing) in [("plain", Packing::Plain), ("gzip", Packing::Gzip)] {
                if only(name) {
                    block_on(compare(packing, millions));
                }
            }
        }
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

/// A fleet, its spans in requests of 512, and the models that `fix` has of it.
struct Fleet {
    load: Load,
    /// Of its spans those alone that `fix` moved.
    moved: Option<Load>,
    models: PathBuf,
    _folder: tempfile::TempDir,
}

impl Fleet {
    fn of(clocks: &str, packing: Packing) -> Self {
        let sample = common::sample_of(60_000, clocks);
        let folder = tempfile::tempdir().unwrap();
        let dump = folder.path().join("dump.binpb");
        std::fs::write(&dump, &sample.protobuf).unwrap();
        let models = folder.path().join("fixed");
        let run = Command::new(env!("CARGO_BIN_EXE_unskew"))
            .args(["fix", "--reference", "gateway-1", "--write", "same", "--out"])
            .args([&models, &dump])
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let corrected = std::fs::read(models.join("corrected/dump.binpb")).unwrap();
        let moved = moved_ones(&sample.requests, &corrected);
        let moved = (!moved.is_empty()).then(|| Load::new(&moved, packing));
        Self { load: Load::new(&sample.requests, packing), moved, models, _folder: folder }
    }
}

/// Of requests the spans that `fix` moved, as they were before.
fn moved_ones(requests: &[Vec<u8>], corrected: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = corrected;
    let mut moved = HashSet::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (record, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        let spans = protobuf::locate(record).unwrap().spans;
        moved.extend(spans.iter().filter(|site| site.marks.is_some()).map(|site| (site.head.trace, site.head.span)));
        rest = after;
    }
    let kept = |request: &Vec<u8>| {
        let mut request = ExportTraceServiceRequest::decode(&request[..]).unwrap();
        for scope in request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans) {
            let ids = |span: &Span| (TraceId::from_bytes(&span.trace_id), SpanId::from_bytes(&span.span_id));
            scope.spans.retain(|span| moved.contains(&ids(span)));
        }
        request.encode_to_vec()
    };
    if moved.is_empty() { Vec::new() } else { requests.iter().map(kept).collect() }
}

/// What is measured, and by which fleet's spans.
struct Row<'a> {
    what: String,
    load: &'a Load,
    /// The configuration of ours; else a peer.
    models: Option<(&'a str, &'a Path)>,
    peer: Option<&'a str>,
    /// Least CPU seconds a million spans; of the process and of the sink behind it.
    least: f64,
    most_memory_kb: u64,
    /// Share of its spans that were moved, by its own count.
    moved: f64,
}

/// Of one round.
struct Measured {
    cpu_per_million: f64,
    most_memory_kb: u64,
    moved: f64,
}

async fn compare(packing: Packing, millions: f64) {
    let wrong = Fleet::of("frequency_ppm = 15.0", packing);
    let right = Fleet::of("perfect = true", packing);
    let name = if packing == Packing::Plain { "none" } else { "gzip" };
    println!(
        "gRPC to gRPC, compression {name}, {} spans of {:.0} bytes a request",
        load::SPANS,
        wrong.load.bytes_per_span
    );
    let row = |what: &str, load, models, peer| Row {
        what: what.to_owned(),
        load,
        models,
        peer,
        least: f64::MAX,
        most_memory_kb: 0,
        moved: 0.0,
    };
    let (wrong_models, moved) = (&wrong.models, wrong.moved.as_ref().unwrap());
    let relay = if packing == Packing::Plain { "relay, bytes unread" } else { "relay, unpacks and packs (level 1)" };
    let mut rows = vec![
        row("sink", &wrong.load, None, Some("sink")),
        row(relay, &wrong.load, None, Some("relay")),
        row("unskew, observe", &wrong.load, Some(("observe", wrong_models)), None),
        row("unskew, correct, no span to move", &right.load, Some(("correct", &right.models)), None),
        row("unskew, correct, every span moved and marked", moved, Some(("correct", wrong_models)), None),
    ];
    if std::env::var_os("UNSKEW_COLLECTOR").is_some() {
        rows.push(row("OpenTelemetry Collector, no queue", &wrong.load, None, Some("collector")));
    }
    // Rounds in turn: what else the machine does meets all alike. The first counts for nothing.
    for round in 0..4 {
        for row in &mut rows {
            let measured = measure(row, packing, if round == 0 { millions / 10.0 } else { millions }).await;
            row.most_memory_kb = row.most_memory_kb.max(measured.most_memory_kb);
            row.moved = measured.moved;
            if round > 0 {
                row.least = row.least.min(measured.cpu_per_million);
            }
        }
    }
    let relay = rows[1].least;
    let collector = rows.iter().find(|row| row.peer == Some("collector")).map(|row| row.least);
    println!(
        "| process | CPU s per million spans | × relay | of the Collector | moved | MB at the most |\n|---|---|---|---|---|---|"
    );
    for Row { what, least, most_memory_kb, moved, .. } in &rows {
        let share = collector.map_or_else(|| "–".to_owned(), |collector| format!("1/{:.1}", collector / least));
        let (times, moved, megabytes) = (least / relay, moved * 100.0, most_memory_kb / 1024);
        println!("| {what} | {least:.3} | {times:.2} | {share} | {moved:.0} % | {megabytes} |");
    }
    println!();
}

async fn measure(row: &Row<'_>, packing: Packing, millions: f64) -> Measured {
    let sink = Peer::sink().await;
    let compression = if packing == Packing::Plain { "none" } else { "gzip" };
    let (mut stage, mut peer) = (None, None);
    let (pid, address) = match (row.models, row.peer) {
        (Some((mode, models)), _) => {
            let config = Config::to_address(sink.address, Hop::Grpc)
                .compression(compression)
                .unskew(&format!("mode: {mode}, models: \"{}\"", models.display()));
            let stage = stage.insert(Stage::start(config).await);
            (stage.pid(), stage.grpc)
        }
        (None, Some("sink")) => (sink.pid(), sink.address),
        (None, other) => {
            let peer = peer.insert(match other {
                Some("relay") => Peer::relay(sink.address, compression).await,
                _ => Peer::collector(sink.address, compression).await,
            });
            (peer.pid(), peer.address)
        }
    };
    let before = cpu(pid);
    let spans = row.load.run(address, (millions * 1e6) as usize).await;
    let cpu_per_million = (settled(pid).await - before) * 1e6 / spans as f64;
    let moved = match &stage {
        Some(stage) => stage.metric("unskew_spans_total", "outcome=\"moved\"").await / spans as f64,
        None => 0.0,
    };
    Measured { cpu_per_million, most_memory_kb: memory_kb(pid, "VmHWM"), moved }
}

/// CPU time that a process has had, seconds.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("needs Linux, and a process that lives");
    let after_name = &stat[stat.rfind(')').unwrap() + 2..];
    let ticks: u64 = after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

/// The same when it no longer works.
async fn settled(pid: u32) -> f64 {
    let mut last = cpu(pid);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = cpu(pid);
        if now - last < 0.015 {
            return now;
        }
        last = now;
    }
}

/// Memory over time, at 50,000 spans a second, every one moved and marked.
async fn memory(during: Duration) {
    let fleet = Fleet::of("frequency_ppm = 15.0", Packing::Plain);
    let sink = Peer::sink().await;
    let stage = Stage::start(Config::to_address(sink.address, Hop::Grpc).correcting_by(&fleet.models)).await;
    let (before, began) = (cpu(stage.pid()), Instant::now());
    println!("| s | MB now | MB at the most | CPU % of a core |\n|---|---|---|---|");
    for _ in 0..10 {
        fleet.moved.as_ref().unwrap().run_at(stage.grpc, 50_000.0, during / 10).await;
        let [now, most] = ["VmRSS", "VmHWM"].map(|which| stage.memory_kb(which) / 1024);
        let seconds = began.elapsed().as_secs_f64();
        println!("| {seconds:.0} | {now} | {most} | {:.1} |", (cpu(stage.pid()) - before) / seconds * 100.0);
    }
    assert!(stage.memory_kb("VmHWM") <= 150 * 1024, "more than 150 MB");
}
