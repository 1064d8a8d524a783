//! What `deploy/` shows is what the program takes: configurations, ports, probes, time-outs and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;
use unskew::stage::config::{Config, Flags, Listeners, Mode};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The documents of a YAML file.
fn documents(name: &str) -> Vec<Value> {
    let read = |document| Value::deserialize(document).unwrap_or_else(|error| panic!("{name}: {error}"));
    yaml_serde::Deserializer::from_str(&text(name)).map(read).collect()
}

fn unset(_: &str) -> Option<String> {
    None
}

/// The configuration as a container has it.
fn in_container(name: &str) -> Option<String> {
    (name == "UNSKEW_LISTEN").then(|| "0.0.0.0".to_owned())
}

fn config(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Config {
    Config::of(Some(text), &Flags::default(), env).unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"))
}

fn manifest(kind: &str) -> Value {
    documents("kubernetes.yaml").into_iter().find(|document| document["kind"] == kind).unwrap()
}

fn in_manifest() -> Config {
    config(manifest("ConfigMap")["data"]["unskew.yaml"].as_str().unwrap(), &unset)
}

fn ports(config: &Config) -> BTreeSet<u64> {
    let Listeners { grpc, http } = &config.listeners;
    let listening = [grpc.as_ref().map(|grpc| &grpc.address), http.as_ref().map(|http| &http.address)];
    listening.into_iter().flatten().chain([&config.admin.address]).map(|address| address.port.into()).collect()
}

/// The file says that what it gives are the defaults.
#[test]
fn the_whole_configuration_gives_the_defaults() {
    let whole = config(&text("unskew.yaml"), &unset);
    let least = "receivers: {otlp: }\nexporters: {otlp: {endpoint: tempo:4317, tls: {insecure: true}}}";
    assert_eq!(whole, config(least, &unset));
}

/// Every line of the file that is commented out and could be a key is one: each is put in alone.
#[test]
fn what_the_whole_configuration_leaves_out_is_known_too() {
    let is_key = |line: &str| {
        line.trim_start().strip_prefix("# ").is_some_and(|rest| {
            rest.trim_start()
                .split_once(':')
                .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || "_-".contains(c)))
        })
    };
    let all: Vec<String> = text("unskew.yaml")
        .lines()
        .map(|line| if is_key(line) { line.replacen("# ", "", 1) } else { line.to_owned() })
        .collect();
    let config = config(&all.join("\n"), &unset);
    let (grpc, next_hop) = (config.listeners.grpc.unwrap(), config.next_hop.unwrap());
    assert!(grpc.tls.is_some() && grpc.auth.is_some() && grpc.keepalive.max_connection_age.is_some());
    assert!(config.processing.models.is_some() && config.processing.recording.is_some() && next_hop.tls.own.is_some());
    assert_eq!(next_hop.headers.len(), 1);
}

#[test]
fn the_program_says_that_the_file_is_valid() {
    let validate = |path: &Path| Command::new(env!("CARGO_BIN_EXE_unskew")).arg("validate").arg(path).output().unwrap();
    let path = folder().join("unskew.yaml");
    let said = validate(&path);
    let lines = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.status.code(), Some(0));
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            format!("{}: ok", path.display()).as_str(),
            "listens at localhost:4317 (gRPC) and localhost:4318 (HTTP); forwards to http://tempo:4317 (gRPC); mode observe"
        ]
    );
    // A Collector's own file has its queue, its processors, and answers for each.
    let path = folder().join("collector-before.yaml");
    let said = validate(&path);
    let lines = String::from_utf8(said.stderr).unwrap();
    assert_eq!((said.status.code(), lines.lines().count()), (Some(2), 4), "{lines}");
    assert!(lines.lines().all(|line| line.starts_with(&format!("{}: not supported: ", path.display()))), "{lines}");
    assert_eq!(validate(&folder().join("none.yaml")).status.code(), Some(1));
}

#[test]
fn the_manifest_serves_on_the_ports_of_its_configuration() {
    let config = in_manifest();
    let container = &manifest("Deployment")["spec"]["template"]["spec"]["containers"][0];
    let of =
        |list: &Value, key: &str| list.as_array().unwrap().iter().map(|port| port[key].as_u64().unwrap()).collect();
    let exposed: BTreeSet<u64> = of(&container["ports"], "containerPort");
    assert_eq!(exposed, ports(&config));
    assert_eq!(exposed, BTreeSet::from([4317, 4318, 9464]), "the defaults");
    let service = &manifest("Service")["spec"];
    assert_eq!(exposed, of(&service["ports"], "port"));
    let named: BTreeSet<_> =
        container["ports"].as_array().unwrap().iter().map(|port| &port["name"]).map(Value::to_string).collect();
    let targets = service["ports"].as_array().unwrap().iter().map(|port| port["targetPort"].to_string()).collect();
    assert_eq!(named, targets);
    // Probes come from outside of the pod's own network name.
    assert!(!config.admin.address.is_local());
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!((get["path"].as_str(), get["port"].as_u64()), (Some(path), Some(config.admin.address.port.into())));
    }
}

#[test]
fn the_manifest_can_be_turned_to_correct() {
    assert_eq!(in_manifest().processing.mode, Mode::Observe);
    let text = manifest("ConfigMap")["data"]["unskew.yaml"].as_str().unwrap().replace("# models:", "models:");
    let correcting = config(&text, &|name| (name == "UNSKEW_MODE").then(|| "correct".to_owned()));
    assert_eq!(correcting.processing.mode, Mode::Correct);
    let mounts = &manifest("Deployment")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"];
    let path = correcting.processing.models.unwrap();
    assert!(mounts.as_array().unwrap().iter().any(|mount| mount["mountPath"].as_str() == path.to_str()), "{path:?}");
}

#[test]
fn what_was_begun_is_finished_before_anybody_kills() {
    let drain = in_manifest().processing.drain_timeout.as_secs();
    let grace = &manifest("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    assert!(grace.as_u64().unwrap() > drain, "{grace} s, and {drain} s to drain");
    let unit = text("unskew.service");
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    assert!(stop.parse::<u64>().unwrap() > config(&text("unskew.yaml"), &unset).processing.drain_timeout.as_secs());
}

#[test]
fn the_image_exposes_what_its_configuration_opens() {
    let file = text("Dockerfile");
    let exposed = file.lines().find_map(|line| line.strip_prefix("EXPOSE ")).unwrap();
    let config = config(&text("unskew.yaml"), &in_container);
    assert_eq!(exposed.split(' ').map(|port| port.parse().unwrap()).collect::<BTreeSet<u64>>(), ports(&config));
    assert!(file.contains("ENV UNSKEW_LISTEN=0.0.0.0\n") && !config.admin.address.is_local());
    let user = manifest("Deployment")["spec"]["template"]["spec"]["securityContext"]["runAsUser"].clone();
    assert!(file.contains(&format!("\nUSER {user}:{user}\n")));
}

/// The Collectors are at both ends of one line: before us one sends to our port, behind us one listens where we send.
#[test]
fn the_collectors_fit_before_and_behind() {
    let [before, after] = ["collector-before.yaml", "collector-after.yaml"].map(|name| documents(name).remove(0));
    let config = in_manifest();
    let port =
        |endpoint: &Value| endpoint.as_str().unwrap().trim_end_matches('}').rsplit_once(':').unwrap().1.to_owned();
    let sends = &before["exporters"]["otlp"];
    assert_eq!(port(&sends["endpoint"]), config.listeners.grpc.unwrap().address.port.to_string());
    assert!(sends["sending_queue"]["enabled"] == true && sends["retry_on_failure"]["enabled"] == true);
    let patience = unskew::stage::config::parse_duration(sends["timeout"].as_str().unwrap()).unwrap();
    let next_hop = config.next_hop.unwrap();
    assert!(patience > next_hop.timeout);
    let listens = port(&after["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]);
    assert!(next_hop.target.to_string().contains(&format!(":{listens} ")), "{}", next_hop.target);
}

/// Our metrics, and the labels that tell their series apart.
const METRICS: [(&str, &[&str]); 14] = [
    ("unskew_spans_total", &["outcome"]),
    ("unskew_models_expired_clocks", &[]),
    ("unskew_pairs_out_of_order", &["when"]),
    ("unskew_requests_total", &["outcome"]),
    ("unskew_in_flight_bytes", &[]),
    ("unskew_reloads_total", &["result"]),
    ("unskew_recordings_total", &["result"]),
    ("unskew_windows_total", &["result"]),
    ("unskew_windows_waiting", &[]),
    ("unskew_model_resets_total", &["why"]),
    ("unskew_fell_back", &[]),
    ("unskew_clocks_held_total", &[]),
    ("unskew_clock_offset_seconds", &["clock"]),
    ("unskew_clock_uncertainty_seconds", &["clock"]),
];

#[test]
fn alerts_ask_for_metrics_that_there_are() {
    let known = BTreeMap::from(METRICS);
    let mut asked = BTreeSet::new();
    for rule in documents("alerts.yaml")[0]["groups"][0]["rules"].as_array().unwrap() {
        let expression = rule["expr"].as_str().unwrap();
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("unskew_")) {
            asked.insert(known.get_key_value(word).unwrap_or_else(|| panic!("{word} in {rule}")).0);
        }
        for matcher in expression.split('{').skip(1) {
            let label = matcher.split(['=', '!']).next().unwrap();
            assert!(known.values().any(|labels| labels.contains(&label)), "{label} in {rule}");
        }
        assert!(rule["annotations"]["summary"].is_string() && rule["annotations"]["description"].is_string(), "{rule}");
    }
    assert_eq!(asked.len(), METRICS.len(), "each has an alert");
}
