//! What was acknowledged is on disk, once, as it was received, in dumps that `fix` reads.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hyper::Method;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use prost::Message;

use crate::harness::client::{VIAS, encoded};
use crate::harness::config::quoted;
use crate::harness::{Config, Hop, METRICS, Sink, Stage, Verdict, Via, spans};

/// All requests that a log has, decoded.
fn recorded(out: &Path) -> Vec<ExportTraceServiceRequest> {
    let mut requests = Vec::new();
    for entry in std::fs::read_dir(out.join("log")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        match path.extension().unwrap().to_str().unwrap() {
            "json" => {
                let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                requests.extend(lines.map(|line| {
                    let data = unskew::otlp::json::decode(line).unwrap();
                    ExportTraceServiceRequest::decode(&data.encode_to_vec()[..]).unwrap()
                }));
            }
            _ => {
                let mut rest = &bytes[..];
                while let Some((length, after)) = rest.split_first_chunk::<4>() {
                    let (record, after) = after.split_at(u32::from_be_bytes(*length) as usize);
                    requests.push(ExportTraceServiceRequest::decode(record).unwrap());
                    rest = after;
                }
            }
        }
    }
    requests
}

fn ids(requests: &[ExportTraceServiceRequest]) -> Vec<Vec<u8>> {
    requests.iter().flat_map(spans::of).map(|span| span.span_id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_next_hop_what_is_acknowledged_is_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let stage = Stage::start(Config::to_nowhere().unskew(&format!("out: {}", quoted(&out)))).await;
    let mut sent = Vec::new();
    for via in VIAS {
        for count in [1, 40] {
            let request = spans::request(count);
            let body = encoded(via, &request);
            for _ in 0..2 {
                let reply = stage.send_bytes(via, &body).await;
                assert_eq!(reply.verdict(via), Verdict::Accepted, "{via:?}: {reply:?}");
            }
            sent.push(request);
        }
    }
    assert_eq!(stage.metric("unskew_recordings_total", "result=\"recorded\"").await, 6.0);
    assert_eq!(stage.metric("unskew_recordings_total", "result=\"repeated\"").await, 6.0);
    let (found, expected) = (ids(&recorded(&out)), ids(&sent));
    assert_eq!(found.len(), expected.len());
    assert_eq!(BTreeSet::from_iter(found), BTreeSet::from_iter(expected.clone()));

    // As `fix` reads it, while it is written.
    let fixed = folder.path().join("fixed");
    let program = env!("CARGO_BIN_EXE_unskew");
    let run = Command::new(program).args(["fix", "--out"]).arg(&fixed).arg(out.join("log")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let summary: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixed.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["spans"], expected.len(), "{summary:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_otlp_or_no_trace_is_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let stage = Stage::start(Config::to_nowhere().unskew(&format!("out: {}", quoted(&out)))).await;
    let reply = stage.send_bytes(Via::Protobuf, b"not OTLP").await;
    assert_eq!(reply.verdict(Via::Protobuf), Verdict::Refused, "{reply:?}");
    let reply = stage.grpc(METRICS, &[], b"").await;
    assert_eq!(reply.code(), 12, "{reply:?}");
    let reply = stage.send(Via::Grpc, &ExportTraceServiceRequest::default()).await;
    assert_eq!(reply.verdict(Via::Grpc), Verdict::Accepted, "{reply:?}");
    assert!(recorded(&out).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_next_hop_what_it_took_is_recorded_and_what_it_refused_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).unskew(&format!("out: {}", quoted(&out)))).await;
    let (taken, refused) = (spans::request(20), spans::request(30));
    let reply = stage.send(Via::Json, &taken).await;
    assert_eq!(reply.verdict(Via::Json), Verdict::Accepted, "{reply:?}");
    sink.answer_once(crate::harness::Answer::code(3));
    let reply = stage.send(Via::Grpc, &refused).await;
    assert_eq!(reply.verdict(Via::Grpc), Verdict::Refused, "{reply:?}");
    sink.take();
    // Sent again, as its acknowledgement was lost: it is not sent on again.
    let reply = stage.send(Via::Json, &taken).await;
    assert_eq!(reply.verdict(Via::Json), Verdict::Accepted, "{reply:?}");
    assert!(sink.received().is_empty());
    assert_eq!(ids(&recorded(&out)), ids(&[taken]));
}

/// Killed at any time: what was acknowledged is in the tables of one window, and nothing is there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let config =
        Config::to_nowhere().unskew(&format!("out: {}, window: 1s, grace: 1s, drain_timeout: 60s", quoted(&out)));
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let mut stage = Stage::start(config.clone()).await;
        let sending = async {
            for number in 0.. {
                let request = spans::request(1 + number % 60);
                let via = VIAS[number % VIAS.len()];
                let path = if via == Via::Grpc { crate::harness::TRACES } else { "/v1/traces" };
                let Some(accepted) = try_send(&config, via, path, &request).await else { return };
                assert!(accepted);
                acknowledged.push(request);
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(300 + 170 * round), sending).await;
        stage.signal("KILL");
        stage.ended(Duration::from_secs(5)).await;
    }
    // What was cut off is told, the rest is read again, and all of it becomes tables.
    let mut stage = Stage::start(config).await;
    stage.signal("TERM");
    assert_eq!(stage.ended(Duration::from_secs(90)).await.code(), Some(0));
    let (found, expected) = (in_windows(&out), ids(&acknowledged));
    let (all, distinct) = (found.len(), BTreeSet::from_iter(found));
    assert_eq!(all, distinct.len(), "recorded twice");
    assert!(expected.len() > 1_000, "{}", expected.len());
    let lost = expected.iter().filter(|id| !distinct.contains(*id)).count();
    assert_eq!(lost, 0, "of {}", expected.len());
}

/// Whether a request was accepted; `None` where nobody answered.
async fn try_send(config: &Config, via: Via, path: &str, request: &ExportTraceServiceRequest) -> Option<bool> {
    use crate::harness::client::{Grpc, Http, media_type};
    use crate::harness::wire::{Packing, frame};
    let body = encoded(via, request);
    let reply = if via == Via::Grpc {
        let mut sender = Grpc::to(config.grpc_address).await.ok()?;
        sender.call(path, &[], frame(&body, Packing::Plain)).await.ok()?
    } else {
        let mut sender = Http::to(config.http_address).await.ok()?;
        sender.call(&Method::POST, path, &[("content-type", media_type(via))], body).await.ok()?
    };
    Some(reply.verdict(via) == Verdict::Accepted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_has_one_stage() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let keys = format!("out: {}", quoted(&out));
    let _first = Stage::start(Config::to_nowhere().unskew(&keys)).await;
    let mut second = Stage::begin(&Config::to_nowhere().unskew(&keys));
    assert_eq!(second.ended(Duration::from_secs(5)).await.code(), Some(1));
    assert!(second.log().contains("is another stage's"), "{}", second.log());
}

/// Span ids of the traces tables of all windows.
fn in_windows(out: &Path) -> Vec<Vec<u8>> {
    let mut ids = Vec::new();
    for window in std::fs::read_dir(out.join("windows")).unwrap() {
        let folder = window.unwrap().path();
        assert!(folder.file_name().unwrap().to_str().unwrap().starts_with("window="), "{folder:?}");
        assert!(folder.join("skew/clocks.parquet").exists() && folder.join("summary.json").exists(), "{folder:?}");
        for table in std::fs::read_dir(folder.join("traces")).unwrap() {
            let file = std::fs::File::open(table.unwrap().path()).unwrap();
            let reader = SerializedFileReader::new(file).unwrap();
            for row in reader.get_row_iter(None).unwrap() {
                let row = row.unwrap();
                let (_, id) = row.get_column_iter().find(|(name, _)| *name == "span_id").unwrap();
                ids.push(match id {
                    Field::Bytes(bytes) => bytes.data().to_vec(),
                    Field::Str(hex) => {
                        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
                    }
                    other => panic!("{other:?}"),
                });
            }
        }
    }
    ids
}

/// Each window becomes tables, in any order of windows, kills and the stop; each span is in exactly one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_window_becomes_tables() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let keys = format!("out: {}, window: 1s, grace: 1s, reference: nobody, drain_timeout: 60s", quoted(&out));
    let config = Config::to_nowhere().unskew(&keys);
    let mut sent = Vec::new();
    let mut stage = Stage::start(config.clone()).await;
    for round in 0..8 {
        for via in VIAS {
            let request = spans::request(20);
            assert_eq!(stage.send(via, &request).await.verdict(via), Verdict::Accepted);
            sent.push(request);
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
        if round == 3 {
            stage.signal("KILL");
            stage.ended(Duration::from_secs(5)).await;
            stage = Stage::start(config.clone()).await;
        }
    }
    // What is told once is told from the start.
    assert!(stage.get("/metrics").await.text().contains("unskew_windows_total{result=\"failed\"} 0"));
    stage.signal("TERM");
    assert_eq!(stage.ended(Duration::from_secs(90)).await.code(), Some(0));
    assert_eq!(std::fs::read_dir(out.join("log")).unwrap().count(), 0, "{}", stage.log());
    assert!(!out.join("failed").exists(), "{}", stage.log());
    assert!(std::fs::read_dir(out.join("windows")).unwrap().count() >= 3);
    let (mut found, mut expected) = (in_windows(&out), ids(&sent));
    found.sort();
    expected.sort();
    assert!(found == expected, "{} of {} spans", found.len(), expected.len());
}

/// A window that `fix` cannot make anything of is put aside, and the next goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_twice_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    // In the way of the first window's work: a folder that is a file.
    std::fs::create_dir_all(&out).unwrap();
    std::fs::write(out.join("work"), "").unwrap();
    let mut refused = Stage::begin(&Config::to_nowhere().unskew(&format!("out: {}", quoted(&out))));
    assert_eq!(refused.ended(Duration::from_secs(5)).await.code(), Some(1));
    std::fs::remove_file(out.join("work")).unwrap();

    std::fs::create_dir_all(out.join("log")).unwrap();
    std::fs::create_dir_all(out.join("index")).unwrap();
    let mut stage = Stage::start(
        Config::to_nowhere().unskew(&format!("out: {}, window: 1s, grace: 1s, drain_timeout: 60s", quoted(&out))),
    )
    .await;
    let request = spans::request(5);
    stage.send(Via::Grpc, &request).await;
    // Somebody spoils the dump before its window has ended.
    let dump = std::fs::read_dir(out.join("log")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&dump, "neither OTLP nor anything else").unwrap();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if stage.metric("unskew_windows_total", "result=\"failed\"").await == 1.0 {
            break;
        }
    }
    assert!(out.join("failed").join(dump.file_name().unwrap()).exists(), "{}", stage.log());
    let next = spans::request(6);
    assert_eq!(stage.send(Via::Grpc, &next).await.verdict(Via::Grpc), Verdict::Accepted);
    stage.signal("TERM");
    assert_eq!(stage.ended(Duration::from_secs(90)).await.code(), Some(0));
    assert_eq!(in_windows(&out).len(), 6);
}
