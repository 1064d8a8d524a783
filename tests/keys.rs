//! Keys that hide several clocks, and clocks under several keys: found by times, and split where an attribute tells.
//!
//! Fleets are simulated with one host a process; then what their resources say is changed.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use common::{batches, fix, ints, records, rows, settings, texts};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use unskew::report::ClockRow;
use unskew::run::Outcome;
use unskew::score::{self, Gauge};
use unskew::settings::{Fix, Write};
use unskew::simulate::{self, Scenario};

/// What a resource says of itself.
struct Says<'a>(&'a mut Vec<KeyValue>);

impl Says<'_> {
    fn get(&self, key: &str) -> String {
        let value = self.0.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
        match value.and_then(|value| value.value) {
            Some(Value::StringValue(text)) => text,
            _ => String::new(),
        }
    }

    fn set(&mut self, key: &str, text: &str) {
        self.drop(key);
        let value = Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }

    fn drop(&mut self, key: &str) {
        self.0.retain(|pair| pair.key != key);
    }
}

struct Case {
    folder: tempfile::TempDir,
    outcome: Outcome,
    what: String,
}

/// A fleet's records, whose resources say something else than they did; and its truth.
fn changed(text: &str, seed: u64, says: impl Fn(&str, &mut Says<'_>)) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut scenario = Scenario::parse(text).unwrap();
    scenario.seed = seed;
    let simulated = simulate::run(&scenario).unwrap();
    let requests = records(&simulated.protobuf.unwrap())
        .iter()
        .map(|record| {
            let mut data = TracesData::decode(&record[..]).unwrap();
            for of in &mut data.resource_spans {
                let mut own = Says(&mut of.resource.as_mut().unwrap().attributes);
                let host = own.get("host.name");
                says(&host, &mut own);
            }
            data.encode_to_vec()
        })
        .collect();
    (requests, simulated.truth)
}

/// Such a fleet, corrected.
fn case(text: &str, seed: u64, says: impl Fn(&str, &mut Says<'_>), asked: impl Fn(&mut Fix)) -> Case {
    let (requests, truth) = changed(text, seed, says);
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("traces.binpb");
    fs::write(&input, common::prefixed(&requests)).unwrap();
    fs::write(folder.path().join("truth.parquet"), truth).unwrap();
    let mut settings = settings(&[input], &folder.path().join("out"), &[Write::Parquet]);
    asked(&mut settings);
    let outcome = fix(&settings);
    Case { folder, outcome, what: format!("seed {seed}") }
}

impl Case {
    fn out(&self) -> std::path::PathBuf {
        self.folder.path().join("out")
    }

    fn p95_ms(&self) -> f64 {
        let score = score::score(&self.out(), &self.folder.path().join("truth.parquet"), Gauge::None).unwrap();
        score.corrected.error.p95_ns / 1e6
    }

    fn clock(&self, name: &str) -> &ClockRow {
        self.outcome
            .report
            .clocks
            .iter()
            .find(|row| row.clock == name)
            .unwrap_or_else(|| panic!("{}: no {name}", self.what))
    }

    /// The rows of one kind of finding.
    fn findings(&self, kind: &str) -> Vec<String> {
        let all = rows(&self.out().join("skew/findings.parquet"), &[]);
        all.into_iter().filter(|row| row.contains(&format!("| {kind} |"))).collect()
    }

    /// A clock is off by this at all times, by its bounds.
    fn check_bounds(&self, name: &str, offset_ms: f64) {
        let offset = (offset_ms * 1e6) as i64;
        for batch in batches(&self.out().join("skew/offsets.parquet")) {
            let (lower, upper) = (ints(&batch, "lower_ns"), ints(&batch, "upper_ns"));
            for (row, _) in texts(&batch, "clock").iter().enumerate().filter(|(_, clock)| *clock == name) {
                let within = (lower[row]..=upper[row]).contains(&offset);
                assert!(within, "{}: {name} from {} to {} ns, not {offset}", self.what, lower[row], upper[row]);
            }
        }
    }

    /// Of the spans that were placed by their own trace, the error of the start and what was said of it, ns.
    fn placed(&self) -> Vec<(i64, i64)> {
        let mut truth = BTreeMap::new();
        for batch in batches(&self.folder.path().join("truth.parquet")) {
            truth.extend(texts(&batch, "span_id").into_iter().zip(ints(&batch, "true_start_ns")));
        }
        let mut placed = Vec::new();
        for batch in batches(&common::traces(&self.out())) {
            let (ids, corrections) = (texts(&batch, "span_id"), texts(&batch, "correction"));
            let (starts, bounds) = (ints(&batch, "start_unix_nano"), ints(&batch, "uncertainty_ns"));
            let rows = (0..ids.len()).filter(|&row| corrections[row] == "trace_fallback");
            placed.extend(rows.map(|row| ((starts[row] - truth[&ids[row]]).abs(), bounds[row])));
        }
        placed
    }

    fn nothing_is_told(&self) {
        for kind in ["shared_key", "split_clock"] {
            assert_eq!(self.findings(kind), [""; 0], "{}", self.what);
        }
    }
}

/// Clocks, services, spans.
const SMALL: (usize, usize, usize) = (8, 4, 6_000);
const SPARSE: (usize, usize, usize) = (16, 8, 4_000);

/// Ten minutes of a fleet whose clocks are right but for those given, with these calls and links.
fn fleet((clocks, services, spans): (usize, usize, usize), calls: &str, given: &str) -> String {
    format!(
        "spans = {spans}\nduration_s = 600\noutputs = ['protobuf']\n{calls}\n[fleet]\nclocks = {clocks}\n\
         services = {services}\n[clocks]\nperfect = true\n{given}"
    )
}

const PLAIN: &str = "";
const HOSTILE: &str = "[traffic]\nhostile = 0.25\nretries = 0.05\nerrors = 0.02";

fn given(host: &str, trouble: &str) -> String {
    format!("[[clocks.given]]\nhost = '{host}'\n{trouble}\n")
}

/// Three machines, and how far each is off, ms.
const APP: [(&str, f64); 3] = [("svc01-1", 12.0), ("svc02-1", -25.0), ("svc03-1", 40.0)];

fn is_app(host: &str) -> bool {
    APP.iter().any(|(other, _)| *other == host)
}

fn app(size: (usize, usize, usize), calls: &str) -> String {
    fleet(size, calls, &APP.map(|(host, ms)| given(host, &format!("offset_ms = {ms:?}"))).concat())
}

/// Under one host name they are three all the same, and nobody else is moved.
#[test]
fn three_machines_behind_one_host_name_are_three_clocks() {
    for (size, calls) in [(SMALL, PLAIN), (SPARSE, PLAIN), (SMALL, HOSTILE)] {
        for seed in 1..=2 {
            let says = |host: &str, says: &mut Says<'_>| {
                if is_app(host) {
                    says.set("host.name", "app");
                    says.set("service.instance.id", &format!("at-{host}"));
                }
            };
            let case = case(&app(size, calls), seed, says, |_| ());
            assert_eq!(case.findings("shared_key").len(), 3, "{}", case.what);
            for (host, ms) in APP {
                let name = format!("app (service.instance.id=at-{host})");
                let row = case.clock(&name);
                let off_ms = row.offset_largest_ns.unwrap() as f64 / 1e6;
                assert!(row.state == "corrected" && (off_ms - ms).abs() < 0.5, "{}: {name} at {off_ms}", case.what);
                assert!(row.advice.contains("--clock-key 'service.instance.id'"), "{}", row.advice);
                case.check_bounds(&name, ms);
            }
            let others = case.outcome.report.clocks.iter().filter(|row| !row.clock.starts_with("app"));
            assert_eq!(others.map(|row| row.moved).sum::<i64>(), 0, "{}", case.what);
            let inversions = case.outcome.report.summary.inversions;
            assert!(inversions.before > 200, "{}: {inversions:?}", case.what);
            // Calls that nobody waited for are inverted in truth.
            let most = inversions.before / if calls == HOSTILE { 20 } else { 80 };
            assert!(inversions.after <= most, "{}: {inversions:?}", case.what);
            assert_eq!(case.outcome.report.summary.findings.get("negative_cycle"), None, "{}", case.what);
            assert!(case.p95_ms() < 0.3, "{}: {} ms", case.what, case.p95_ms());
        }
    }
}

#[test]
fn machine_ids_that_are_all_alike_are_split_by_container() {
    let says = |host: &str, says: &mut Says<'_>| {
        if is_app(host) {
            says.set("host.id", "7f3a");
            says.set("container.id", host);
            says.drop("host.name");
        }
    };
    let case = case(&app(SMALL, PLAIN), 3, says, |_| ());
    for (host, ms) in APP {
        case.check_bounds(&format!("7f3a (container.id={host})"), ms);
        assert_eq!(case.clock(&format!("7f3a (container.id={host})")).state, "corrected");
    }
    let told = case.findings("shared_key");
    assert!(told.iter().all(|row| row.contains("host.id `7f3a` hides 3 clocks")), "{told:?}");
}

/// Then no call leaves the clock, and all that tells is what its processes say of each other.
#[test]
fn a_host_name_that_a_gateway_stamped_on_all_is_split() {
    for key in ["service.instance.id", "k8s.pod.name"] {
        let says = |host: &str, says: &mut Says<'_>| {
            says.set("host.name", "gw");
            says.drop("service.instance.id");
            says.set(key, host);
        };
        let asked = |fix: &mut Fix| fix.reference = Some("gateway-1".to_owned());
        let case = case(&app(SMALL, PLAIN), 2, says, asked);
        for (host, ms) in APP {
            case.check_bounds(&format!("gw ({key}={host})"), ms);
        }
        let inversions = case.outcome.report.summary.inversions;
        assert!(inversions.before > 200 && inversions.after <= inversions.before / 80, "{inversions:?}");
        assert!(case.p95_ms() < 0.3, "{} ms", case.p95_ms());
    }
}

#[test]
fn the_users_own_key_is_told_and_kept() {
    let says = |host: &str, says: &mut Says<'_>| {
        if is_app(host) {
            says.set("host.name", "app");
        }
    };
    let case = case(&app(SMALL, PLAIN), 1, says, |fix| fix.clock_keys = vec!["host.name".to_owned()]);
    let told = case.findings("shared_key");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("| none |") && told[0].contains("--clock-key 'service.instance.id'"), "{told:?}");
    assert!(case.clock("app").state == "corrected" && case.clock("app").advice.contains("hides several clocks"));
}

/// What nothing tells apart is no evidence and drags nobody along; its calls are placed one by one, where they are surely
/// off.
#[test]
fn clocks_that_no_attribute_tells_apart_are_placed_call_by_call() {
    for seed in 1..=2 {
        let says = |host: &str, says: &mut Says<'_>| {
            if is_app(host) {
                for (key, text) in [("host.name", "app"), ("service.name", "app"), ("telemetry.sdk.language", "go")] {
                    says.set(key, text);
                }
                says.drop("service.instance.id");
            }
        };
        let case = case(&app(SMALL, HOSTILE), seed, says, |_| ());
        let told = case.findings("shared_key");
        assert!(told.len() == 1 && told[0].contains("no attribute tells them apart"), "{}: {told:?}", case.what);
        assert_eq!(case.clock("app").state, "no_evidence");
        assert_eq!(case.outcome.report.summary.moved as i64, case.clock("app").moved, "{}", case.what);
        let inversions = case.outcome.report.summary.inversions;
        assert!(inversions.before > 500 && inversions.after < inversions.before / 20, "{inversions:?}");
        let placed = case.placed();
        let within = placed.iter().filter(|(error, bound)| error <= bound).count();
        assert!(placed.len() > 1_000 && 100 * within > 95 * placed.len(), "{within} of {}", placed.len());
        let mut errors: Vec<i64> = placed.into_iter().map(|(error, _)| error).collect();
        errors.sort_unstable();
        assert!(errors[errors.len() / 2] < 1_000_000, "{} ns", errors[errors.len() / 2]);
    }
}

#[test]
fn the_order_of_the_input_decides_nothing_about_what_is_split() {
    let says = |host: &str, says: &mut Says<'_>| {
        if is_app(host) {
            says.set("host.name", "app");
        }
    };
    let (mut requests, _) = changed(&app(SPARSE, HOSTILE), 1, says);
    let folder = tempfile::tempdir().unwrap();
    let mut skew = |name: &str, parts: usize| {
        let inputs: Vec<_> = (0..parts).map(|part| folder.path().join(format!("{name}-{part}"))).collect();
        for (input, part) in inputs.iter().zip(requests.chunks(requests.len().div_ceil(parts))) {
            fs::write(input, common::prefixed(part)).unwrap();
        }
        requests.reverse();
        let out = folder.path().join(name);
        assert_eq!(fix(&settings(&inputs, &out, &[Write::Parquet])).report.summary.findings["shared_key"], 3);
        ["clocks", "offsets", "findings"].map(|table| fs::read(out.join(format!("skew/{table}.parquet"))).unwrap())
    };
    assert!(skew("whole", 1) == skew("in three, backwards", 3));
}

/// Hosts of a fleet but its reference, by name.
fn hosts(text: &str, seed: u64) -> Vec<String> {
    let mut scenario = Scenario::parse(text).unwrap();
    scenario.seed = seed;
    let simulated = simulate::run(&scenario).unwrap();
    let mut hosts = BTreeSet::new();
    for record in records(&simulated.protobuf.unwrap()) {
        let mut data = TracesData::decode(&record[..]).unwrap();
        let resources = data.resource_spans.iter_mut().filter_map(|of| of.resource.as_mut());
        hosts.extend(resources.map(|resource| Says(&mut resource.attributes).get("host.name")));
    }
    hosts.into_iter().filter(|host| host != "gateway-1").collect()
}

/// A fleet whose every third host is on one machine: the same clock, and `says` of the machine's number.
fn machines(calls: &str, seed: u64, trouble: fn(usize) -> String, says: fn(&str, usize, &mut Says<'_>)) -> Case {
    let hosts = hosts(&fleet(SPARSE, calls, ""), seed);
    let machine = |host: &str| hosts.iter().position(|other| other == host).map(|place| place % 5);
    let troubles = hosts.iter().map(|host| given(host, &trouble(machine(host).unwrap()))).collect::<String>();
    let says = |host: &str, own: &mut Says<'_>| {
        if let Some(machine) = machine(host) {
            says(host, machine, own);
        }
    };
    case(&fleet(SPARSE, calls, &troubles), seed, says, |_| ())
}

fn by_host_name(_: &str, machine: usize, says: &mut Says<'_>) {
    says.set("host.name", &format!("node-{machine}"));
}

/// Wrong as they are, by steps, slews and seconds a minute, and through slow and crooked links: each is one clock.
#[test]
fn several_processes_on_one_clock_are_one_clock() {
    let offsets = |machine| format!("offset_ms = {:?}", 30.0 * machine as f64 - 50.0);
    let steps = |machine| {
        let ms = 60.0 * machine as f64 - 100.0;
        format!("steps = [{{ at_s = 200.0, ms = {ms:?} }}, {{ at_s = 400.0, ms = -300000.0 }}]")
    };
    let slews =
        |machine| format!("slews = [{{ at_s = 150.0, ms = {:?}, last_s = 60.0 }}]", 90.0 * machine as f64 - 200.0);
    let saw = |machine| match machine {
        0 => {
            let tooth = |minute: usize| format!("{{ at_s = {}.0, ms = -4466.58 }}", 60 * minute);
            format!("frequency_ppm = 74443.0\nsteps = [{}]", (1..=9).map(tooth).collect::<Vec<_>>().join(", "))
        }
        _ => "offset_ms = 2.0".to_owned(),
    };
    let crooked = "[links]\none_way_ms = [0.16, 80.0]\nasymmetry = 0.9\nspikes = 0.2\nset_up = 0.3";
    let troubles: [fn(usize) -> String; 4] = [offsets, steps, slews, saw];
    for (place, trouble) in troubles.into_iter().enumerate() {
        let calls = [HOSTILE, crooked][place % 2];
        let case = machines(calls, place as u64 + 1, trouble, by_host_name);
        assert_eq!(case.outcome.report.clocks.len(), 6, "{}", case.what);
        case.nothing_is_told();
    }
}

/// Without a node's name each has a clock of its own; that they go as one is told, and nothing is merged.
#[test]
fn pods_on_a_node_are_told_to_be_one_clock() {
    let says = |host: &str, machine: usize, says: &mut Says<'_>| {
        by_host_name(host, machine, says);
        says.set("k8s.pod.uid", host);
    };
    let case = machines(PLAIN, 1, |machine| format!("offset_ms = {:?}", 30.0 * machine as f64 - 50.0), says);
    assert_eq!(case.outcome.report.clocks.len(), 16, "{}", case.what);
    let told = case.findings("split_clock");
    assert_eq!(told.len(), 15, "{told:?}");
    assert!(told.iter().all(|row| row.contains("host.name `node-") && row.contains("--clock-key 'host.name'")));
    assert_eq!(case.findings("shared_key"), [""; 0]);

    // All agree: that these do shows nothing.
    let case = machines(PLAIN, 1, |_| "offset_ms = 0.0".to_owned(), says);
    case.nothing_is_told();
    // And a name that is on two machines is none to go by.
    let says = |host: &str, machine: usize, own: &mut Says<'_>| {
        own.set("host.name", if machine < 2 { "shared" } else { "node" });
        own.set("k8s.pod.uid", host);
    };
    let case = machines(PLAIN, 1, |machine| format!("offset_ms = {:?}", 30.0 * machine as f64 - 50.0), says);
    case.nothing_is_told();
}
