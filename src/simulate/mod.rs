//! Fleets with known wrong clocks: a scenario and a seed in, traces as they would have been recorded and the
//! truth behind them out.
//!
//! Shares nothing with the estimator but the nouns of [`crate::clock`]: what is simulated must not be what is assumed.

mod clocks;
mod dice;
mod fleet;
mod links;
mod otlp;
mod sample;
pub mod scenario;
mod sdk;
mod traffic;
mod truth;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Result, ensure};

use crate::io::{self, Compression, Framing, Layout, RecordWriter};
use crate::otlp::Encoding;
use crate::span::SpanKind;
use dice::Dice;
use fleet::{Fleet, HostId};
use scenario::Output;
pub use scenario::Scenario;
use traffic::Span;

/// What a simulation wrote.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    pub spans: usize,
    pub traces: usize,
    /// Hosts whose spans were written, each with its own clock.
    pub clocks: usize,
    pub seed: u64,
    /// Display name of the clock that is right: the `--reference` to give.
    pub reference: String,
    /// Names of the files.
    pub files: Vec<&'static str>,
}

/// The files of a simulation, as bytes.
pub struct Simulated {
    /// `traces.jsonl`: an export request a line.
    pub json: Option<Vec<u8>>,
    /// `traces.binpb`: export requests, each behind its length in four bytes, big-endian.
    pub protobuf: Option<Vec<u8>>,
    /// `truth.parquet`
    pub truth: Vec<u8>,
    pub summary: Summary,
}

/// Simulates the scenario in a file and writes its outputs and `truth.parquet` into the folder `out`, which is made
/// where it is missing. `seed` overrides the scenario's own.
pub fn write(scenario_path: &Path, out: &Path, seed: Option<u64>) -> Result<Summary> {
    let mut scenario = scenario::read(scenario_path)?;
    scenario.seed = seed.unwrap_or(scenario.seed);
    let simulated = run(&scenario)?;
    for output in &scenario.outputs {
        let (bytes, encoding, compression) = match output {
            Output::Json => (&simulated.json, Encoding::Json, Compression::None),
            Output::JsonZstd => (&simulated.json, Encoding::Json, Compression::Zstd),
            Output::Protobuf => (&simulated.protobuf, Encoding::Protobuf, Compression::None),
            Output::ProtobufGzip => (&simulated.protobuf, Encoding::Protobuf, Compression::Gzip),
        };
        // The records are framed already.
        let layout = Layout { compression, framing: Framing::Bare, encoding };
        let mut file = RecordWriter::create(&out.join(output.name()), layout)?;
        file.write(bytes.as_deref().unwrap_or_default())?;
        file.finish()?;
    }
    io::atomic_write(&out.join("truth.parquet"), &simulated.truth)?;
    Ok(simulated.summary)
}

/// Simulates a scenario. The same scenario gives the same bytes.
pub fn run(scenario: &Scenario) -> Result<Simulated> {
    let fleet = Fleet::new(scenario);
    for given in &scenario.clocks.given {
        let known = fleet.hosts.iter().any(|host| host.name == given.host && host.name != scenario.fleet.reference);
        ensure!(known, "clocks.given: no host {:?} off the reference; they are called svc01-1 and so on", given.host);
    }
    let spans = spans(scenario, &fleet);
    let truth = truth::table(&spans, &links(&spans), &fleet)?;
    let wants = |either: [Output; 2]| scenario.outputs.iter().any(|output| either.contains(output)).then(Vec::new);
    let mut json = wants([Output::Json, Output::JsonZstd]);
    let mut protobuf = wants([Output::Protobuf, Output::ProtobufGzip]);
    for (host, batch) in otlp::batches(&spans, &fleet) {
        let request = otlp::request(host, &batch, &fleet);
        if let Some(out) = &mut json {
            otlp::push_json(&request, out);
        }
        if let Some(out) = &mut protobuf {
            otlp::push_protobuf(&request, out);
        }
    }
    let summary = Summary {
        spans: spans.len(),
        traces: spans.iter().map(|span| span.trace).collect::<BTreeSet<_>>().len(),
        clocks: spans.iter().map(|span| span.host).collect::<BTreeSet<_>>().len(),
        seed: scenario.seed,
        reference: scenario.fleet.reference.clone(),
        files: scenario.outputs.iter().map(|output| output.name()).chain(["truth.parquet"]).collect(),
    };
    Ok(Simulated { json, protobuf, truth, summary })
}

fn spans(scenario: &Scenario, fleet: &Fleet) -> Vec<Span> {
    let mut requests = Vec::new();
    let mut made = 0;
    for index in 0.. {
        if made >= scenario.spans {
            break;
        }
        let request = traffic::request(scenario, fleet, index);
        made += request.len();
        requests.push(request);
    }
    if let Some(sampling) = scenario.sampling {
        requests = sample::tail(requests, sampling, &mut Dice::new(scenario.seed, "sampling", 0));
    }
    let mut spans: Vec<Span> = requests.into_iter().flatten().collect();
    sample::lose(&mut spans, scenario.traffic.lost, &mut Dice::new(scenario.seed, "lost", 0));
    spans
}

/// Client and server host of every written call.
fn links(spans: &[Span]) -> Vec<(HostId, HostId)> {
    let clients: HashMap<(u128, u64), HostId> = spans
        .iter()
        .filter(|span| span.kind == SpanKind::Client)
        .map(|span| ((span.trace, span.id), span.host))
        .collect();
    let servers = spans.iter().filter(|span| span.kind == SpanKind::Server);
    let links: BTreeSet<_> =
        servers.filter_map(|span| Some((*clients.get(&(span.trace, span.parent?.id))?, span.host))).collect();
    links.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use prost::Message;

    use super::*;

    fn scenario(text: &str) -> Scenario {
        Scenario { spans: 6_000, ..Scenario::parse(text).unwrap() }
    }

    fn made(text: &str) -> (Fleet, Vec<Span>) {
        let scenario = scenario(text);
        let fleet = Fleet::new(&scenario);
        let spans = spans(&scenario, &fleet);
        (fleet, spans)
    }

    fn share(spans: &[Span], of: impl Fn(&Span) -> bool) -> f64 {
        spans.iter().filter(|span| of(span)).count() as f64 / spans.len() as f64
    }

    const TROUBLED: &str = "
        [traffic]
        hostile = 0.25
        retries = 0.05
        background = 0.05
        [fleet]
        replaced = { share = 0.3, every_s = 200.0 }
        [clocks]
        frequency_ppm = 15.0
        wander_ppm = 2.0
        steps = { share = 0.35, each = [1, 3], ms = [5.0, 1600.0] }
        slews = { share = 0.3, ppm = [10000.0, 83333.0], ms = [200.0, 1000.0] }";

    #[test]
    fn a_seed_is_a_fleet() {
        let bytes = |seed| {
            let simulated = run(&Scenario { seed, ..scenario(TROUBLED) }).unwrap();
            (simulated.json.unwrap(), simulated.protobuf.unwrap(), simulated.truth)
        };
        assert!(bytes(1) == bytes(1));
        assert!(bytes(1) != bytes(2));
    }

    #[test]
    fn both_files_say_the_same_and_the_truth_has_each_span_once() {
        let simulated = run(&scenario(TROUBLED)).unwrap();
        let mut from_protobuf = BTreeMap::new();
        let mut rest = &simulated.protobuf.unwrap()[..];
        while let Some((length, after)) = rest.split_first_chunk() {
            let (record, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            rest = after;
            let request = ExportTraceServiceRequest::decode(record).unwrap();
            for span in request.resource_spans.iter().flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans) {
                let id = span.span_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                from_protobuf.insert(id, (span.start_time_unix_nano, span.end_time_unix_nano, i64::from(span.kind)));
            }
        }
        let mut from_json = BTreeMap::new();
        for line in std::str::from_utf8(&simulated.json.unwrap()).unwrap().lines() {
            let request: serde_json::Value = serde_json::from_str(line).unwrap();
            for span in request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap() {
                let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
                let times = (time("startTimeUnixNano"), time("endTimeUnixNano"), span["kind"].as_i64().unwrap());
                from_json.insert(span["spanId"].as_str().unwrap().to_owned(), times);
            }
        }
        assert_eq!(from_json, from_protobuf);
        assert_eq!(from_json.len(), simulated.summary.spans);
        let truth = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(prost::bytes::Bytes::from(
            simulated.truth,
        ))
        .unwrap();
        assert_eq!(truth.metadata().file_metadata().num_rows() as usize, simulated.summary.spans);
    }

    #[test]
    fn batches_are_of_one_process_and_minute_and_at_most_two_hundred() {
        let (fleet, spans) = made("duration_s = 120");
        let batches = otlp::batches(&spans, &fleet);
        assert_eq!(batches.iter().map(|(_, batch)| batch.len()).sum::<usize>(), spans.len());
        assert_eq!(batches.iter().map(|(_, batch)| batch.len()).max(), Some(200));
        for (host, batch) in batches {
            let ends = batch.iter().map(|span| span.stamp.true_end.nanos());
            assert!(ends.clone().max().unwrap() - ends.min().unwrap() < 60_000_000_000);
            assert!(batch.iter().all(|span| span.host == host));
        }
    }

    #[test]
    fn away_from_steps_a_reading_is_truth_and_offset() {
        let (fleet, spans) = made("[clocks]\nfrequency_ppm = 15.0\nwander_ppm = 2.0");
        for span in &spans {
            let clock = &fleet.hosts[span.host].clock;
            for (read, truth) in [(span.stamp.start, span.stamp.true_start), (span.stamp.end, span.stamp.true_end)] {
                let left_ns = (read.nanos() - truth.nanos()) as f64 - clock.offset_ns(truth);
                // The offset is that of the reading's own instant, up to 1 ms of flooring and 60 ppm away.
                assert!(left_ns.abs() < 60.0, "{left_ns} ns on {}", fleet.hosts[span.host].name);
            }
        }
    }

    #[test]
    fn the_standard_fleet_is_as_it_is_defined() {
        let (fleet, spans) = made("");
        assert_eq!((fleet.services.len(), fleet.hosts.len()), (12, 24));
        assert!(fleet.services.iter().all(|service| (1..=3).contains(&service.calls.len())));
        let traces = spans.iter().map(|span| span.trace).collect::<BTreeSet<_>>().len();
        let per_trace = spans.len() as f64 / traces as f64;
        assert!((8.0..10.0).contains(&per_trace), "{per_trace} spans per trace");
        let habits = fleet.hosts.iter().skip(1).fold(BTreeMap::new(), |mut counts, host| {
            *counts.entry(host.habit.language()).or_insert(0) += 1;
            counts
        });
        assert!(habits.values().all(|count| (5..=6).contains(count)), "{habits:?}");
        assert!(
            spans
                .iter()
                .filter(|span| span.host == 0)
                .all(|span| span.stamp.start.nanos() == span.stamp.true_start.nanos())
        );
        let floored = |span: &Span| span.stamp.start.nanos() % 1_000_000 == 0;
        let nodejs = |span: &Span| fleet.hosts[span.host].habit.language() == "nodejs";
        assert!(spans.iter().all(|span| floored(span) == nodejs(span)));
    }

    #[test]
    fn every_hostile_kind_occurs_about_as_often_as_asked() {
        let (_, spans) = made("[traffic]\nhostile = 0.4\nlost = 0.0");
        let by_id: HashMap<u64, &Span> = spans.iter().map(|span| (span.id, span)).collect();
        let parent = |span: &Span| span.parent.and_then(|parent| by_id.get(&parent.id));
        let calls = spans.iter().filter(|span| span.parent.is_some_and(|parent| parent.remote)).count() as f64;
        let among = |of: &dyn Fn(&Span, &Span) -> bool| {
            spans.iter().filter(|span| parent(span).is_some_and(|parent| of(span, parent))).count() as f64 / calls
        };
        let outlives = |child: &Span, parent: &Span| child.stamp.true_end > parent.stamp.true_end.plus(2_000_000);
        let rpc = |child: &Span, parent: &Span| child.kind == SpanKind::Server && parent.kind == SpanKind::Client;
        let check = |what: &str, share: f64, [low, high]: [f64; 2]| {
            assert!((low..high).contains(&share), "{what}: {share} of the calls");
        };
        check("client missing", among(&|c, p| c.kind == SpanKind::Server && p.kind != SpanKind::Client), [0.07, 0.15]);
        check("messages", among(&|c, p| c.kind == SpanKind::Consumer && p.kind == SpanKind::Producer), [0.05, 0.12]);
        let says = |parent: &Span| parent.attributes.iter().any(|(key, _)| *key == "error.type");
        let left = |c: &Span, p: &Span| rpc(c, p) && outlives(c, p);
        check("gives up and says so", among(&|c, p| left(c, p) && p.failed && says(p)), [0.03, 0.08]);
        check(
            "ends with an error, and which is not said",
            among(&|c, p| left(c, p) && p.failed && !says(p)),
            [0.01, 0.05],
        );
        check("leaves without a word", among(&|c, p| left(c, p) && !p.failed), [0.06, 0.18]);
        let polled = |c: &Span, p: &Span| p.kind == SpanKind::Producer && c.stamp.true_start < p.stamp.true_start;
        check("polls before the publish", among(&polled), [0.01, 0.05]);
        let linked = spans.iter().filter(|span| span.link.is_some()).count() as f64 / calls;
        check("linked messages", linked, [0.01, 0.05]);
    }

    #[test]
    fn work_is_done_before_the_calls_as_far_as_asked() {
        // Calls without a client span, on quick links: what is left of the caller's span is its own work.
        let missing = "mix = { client_missing = 1.0, messaging = 0.0, gives_up = 0.0, fire_and_forget = 0.0 }";
        let links = "[links]\nset_up = 0.0\nspikes = 0.0\none_way_ms = [0.01, 0.02]";
        let share_before = |work_ahead: &str| {
            let (_, spans) = made(&format!("[traffic]\nlost = 0.0\nhostile = 1.0\n{missing}\n{work_ahead}\n{links}"));
            let mut calls: HashMap<u64, Vec<&Span>> = HashMap::new();
            for call in &spans {
                if let Some(parent) = call.parent.filter(|parent| parent.remote) {
                    calls.entry(parent.id).or_default().push(call);
                }
            }
            let (mut before, mut all) = (0, 0);
            for caller in &spans {
                if let Some([call]) = calls.get(&caller.id).map(Vec::as_slice) {
                    before += call.stamp.true_start - caller.stamp.true_start;
                    all += (caller.stamp.true_end - caller.stamp.true_start)
                        - (call.stamp.true_end - call.stamp.true_start);
                }
            }
            before as f64 / all as f64
        };
        let (even, ahead) = (share_before(""), share_before("work_ahead = 0.9"));
        assert!((0.4..0.6).contains(&even) && (0.8..0.95).contains(&ahead), "{even} {ahead}");
    }

    #[test]
    fn a_service_works_as_long_as_asked() {
        let median_ms = |text: &str| {
            let (_, spans) = made(&format!("[links]\none_way_ms = [0.01, 0.02]\nspikes = 0.0\n{text}"));
            let servers = spans.iter().filter(|span| span.kind == SpanKind::Server);
            let mut took: Vec<i64> = servers.map(|span| span.stamp.true_end - span.stamp.true_start).collect();
            took.sort_unstable();
            took[took.len() / 2] as f64 / 1e6
        };
        let (usual, long) = (median_ms(""), median_ms("[traffic]\nwork_ms = 500.0"));
        assert!((5.0..30.0).contains(&usual) && (90.0..110.0).contains(&(long / usual)), "{usual} {long}");
    }

    #[test]
    fn a_reference_elsewhere_is_far_from_all_and_the_others_are_not() {
        let (fleet, _) = made("[links]\nreference_ms = [20.0, 40.0]");
        for host in 1..fleet.hosts.len() {
            for (client, server) in [(0, host), (host, 0)] {
                assert!((20e6..=40e6).contains(&fleet.link(client, server).base_ns));
            }
            assert!(fleet.link(host, 1).base_ns <= 8e6);
        }
    }

    #[test]
    fn retries_make_a_client_span_each_or_two_servers_under_one() {
        let (_, spans) = made("[traffic]\nhostile = 0.0\nretries = 0.2\nlost = 0.0");
        let resent = |span: &Span| span.attributes.iter().any(|(key, _)| *key == "http.request.resend_count");
        assert!(share(&spans, resent) > 0.01);
        let mut servers = HashMap::new();
        for span in spans.iter().filter(|span| span.kind == SpanKind::Server) {
            *servers.entry(span.parent.map(|parent| parent.id)).or_insert(0) += 1;
        }
        assert!(servers.iter().filter(|(parent, count)| parent.is_some() && **count == 2).count() > 20);
    }

    #[test]
    fn a_twentieth_lost_is_a_twentieth_fewer() {
        let count = |lost| made(&format!("[traffic]\nlost = {lost}")).1.len() as f64;
        let kept = count(0.05) / count(0.0);
        assert!((0.94..0.96).contains(&kept), "{kept}");
    }

    #[test]
    fn a_tail_sampler_keeps_whole_traces_all_errors_and_few_of_the_rest() {
        let all = made("[traffic]\nlost = 0.0").1;
        let kept = made("[traffic]\nlost = 0.0\n[sampling]\nslowest = 0.01\nrest = 0.04").1;
        let traces = |spans: &[Span], of: &dyn Fn(&Span) -> bool| {
            spans.iter().filter(|span| of(span)).map(|span| span.trace).collect::<BTreeSet<_>>()
        };
        assert_eq!(traces(&all, &|span| span.failed), traces(&kept, &|span| span.failed));
        let share = kept.len() as f64 / all.len() as f64;
        assert!((0.05..0.25).contains(&share), "{share}");
        let whole = traces(&kept, &|_| true);
        assert_eq!(kept.len(), all.iter().filter(|span| whole.contains(&span.trace)).count());
    }

    #[test]
    fn replaced_hosts_take_turns() {
        let (fleet, spans) = made("[fleet]\nreplaced = { share = 0.3, every_s = 150.0 }");
        let replaced: Vec<HostId> =
            (0..fleet.hosts.len()).filter(|&host| fleet.hosts[host].name.contains("-r")).collect();
        assert!(replaced.len() >= 7 * 3, "{}", replaced.len());
        assert!(replaced.iter().any(|&host| spans.iter().any(|span| span.host == host)));
        let second = replaced.iter().copied().find(|&host| fleet.hosts[host].name.ends_with("-r2")).unwrap();
        let started = |host| {
            spans
                .iter()
                .filter(move |span| span.host == host && span.kind == SpanKind::Server)
                .map(|span| span.stamp.true_start)
        };
        // A leg of a spike's length may pass between the choice of a host and the start of its span.
        let slack = 1_000_000_000;
        assert!(started(second - 1).max().unwrap() < started(second).min().unwrap().plus(slack));
    }

    #[test]
    fn an_injected_delay_lengthens_one_leg_of_some_links_for_a_while() {
        let text = "[traffic]\nhostile = 0.0\n[links]\nspikes = 0.0\ninjected = { links = 2, ms = [200.0, 500.0], for_s = 180.0 }";
        let (_, spans) = made(text);
        let clients: HashMap<u64, &Span> =
            spans.iter().filter(|span| span.kind == SpanKind::Client).map(|span| (span.id, span)).collect();
        let mut links = BTreeSet::new();
        for server in spans.iter().filter(|span| span.kind == SpanKind::Server) {
            let Some(client) = server.parent.and_then(|parent| clients.get(&parent.id)) else { continue };
            let request = server.stamp.true_start - client.stamp.true_start;
            let response = client.stamp.true_end - server.stamp.true_end;
            if request.max(response) > 190_000_000 {
                links.insert((client.host, server.host));
                assert!(request.min(response) < 100_000_000, "one direction only");
            }
        }
        assert_eq!(links.len(), 2);
    }

    #[test]
    fn broken_spans_end_before_they_start() {
        let (_, spans) = made("[sdk]\nbroken = 0.01\nbroken_ms = 2.0");
        let broken = share(&spans, |span| span.stamp.end - span.stamp.start == -2_000_000);
        assert!((0.006..0.014).contains(&broken), "{broken}");
    }

    #[test]
    fn a_given_clock_is_the_one_that_its_host_has() {
        let (fleet, spans) =
            made("[clocks]\nperfect = true\n[[clocks.given]]\nhost = \"svc03-1\"\noffset_ms = -33.604");
        for span in &spans {
            let wrong_ns = if fleet.hosts[span.host].name == "svc03-1" { -33_604_000 } else { 0 };
            assert_eq!(span.stamp.start.nanos() - span.stamp.true_start.nanos(), wrong_ns);
        }
        assert!(spans.iter().any(|span| fleet.hosts[span.host].name == "svc03-1"));
    }

    #[test]
    fn a_given_clock_without_a_host_is_refused() {
        let refusal = run(&scenario("[[clocks.given]]\nhost = \"svc3-1\"")).err().unwrap();
        assert!(refusal.to_string().contains("svc3-1"), "{refusal}");
    }

    #[test]
    fn every_committed_scenario_runs() {
        let mut names = Vec::new();
        for folder in ["accuracy/scenarios", "cases"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
            let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            for path in paths.filter(|path| path.extension().is_some_and(|name| name == "toml")) {
                let scenario = scenario::read(&path).unwrap();
                run(&Scenario { spans: 100, ..scenario }).unwrap();
                names.push(path);
            }
        }
        assert!(names.len() >= 19, "{names:?}");
    }
}
