//! What operators see and do: the admin port, reload, and the end.

use std::time::{Duration, Instant};

use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::harness::{Answer, Config, Hop, Sink, Stage, Verdict, Via, spans};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_about_forwarding() {
    let sink = Sink::start().await;
    let mut stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    drop(sink);
    let reply = stage.send(Via::Grpc, &spans::request(1)).await;
    assert_eq!(reply.code(), 14, "{reply:?}");
    stage.wait_for("/readyz", 503).await;
    assert_eq!(stage.get("/healthz").await.status, 200, "it lives, and has nobody to speak to");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_are_counted_by_what_became_of_them() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    assert_eq!(stage.metric("unskew_spans_total", "").await, 0.0);
    for via in crate::harness::client::VIAS {
        stage.send(via, &spans::request(5)).await;
    }
    assert_eq!(stage.metric("unskew_spans_total", "outcome=\"no_model\"").await, 15.0);
    assert_eq!(stage.metric("unskew_spans_total", "").await, 15.0, "each span has one outcome");
    let metrics = stage.get("/metrics").await;
    assert!(metrics.media_type() == "text/plain" || metrics.media_type() == "application/openmetrics-text");
    for line in metrics.text().lines().filter(|line| line.starts_with("# TYPE") && line.ends_with(" counter")) {
        // OpenMetrics names the family, Prometheus the series.
        let family = line.split(' ').nth(2).unwrap().trim_end_matches("_total");
        let names = metrics.text();
        let mut names = names.lines().filter_map(|line| line.split(['{', ' ']).next());
        assert!(names.all(|name| name != family), "{family}: counters end in _total");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_alerts_ask_for_is_there() {
    let fixed = crate::fixed::Fixed::of("s1", false);
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).correcting_by(fixed.models())).await;
    assert_eq!(stage.send(Via::Grpc, &spans::request(1)).await.code(), 0);
    let alerts = include_str!("../../deploy/alerts.yaml");
    let metrics = stage.get("/metrics").await.text();
    let asked =
        alerts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("unskew_"));
    let missing: Vec<_> = asked.filter(|name| !metrics.lines().any(|line| line.starts_with(name))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_are_told_as_json() {
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    let clocks = stage.get("/clocks").await;
    assert_eq!((clocks.status, clocks.media_type()), (200, "application/json"), "{clocks:?}");
    serde_json::from_slice::<serde_json::Value>(&clocks.body).unwrap();
    assert_eq!(stage.get("/no-such-path").await.status, 404);
}

fn texts(value: &serde_json::Value) -> std::collections::BTreeSet<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// An object has the members that its description requires, no others, and words of those that it lists.
fn assert_described(object: &serde_json::Value, schema: &serde_json::Value) {
    let members: std::collections::BTreeSet<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, texts(&schema["required"]));
    for (name, member) in object.as_object().unwrap() {
        let property = &schema["properties"][name];
        if property["enum"].is_array() {
            assert!(texts(&property["enum"]).contains(member.as_str().unwrap()), "{name}: {member}");
            continue;
        }
        let kind = match member {
            serde_json::Value::Null => "null",
            serde_json::Value::String(_) => "string",
            serde_json::Value::Array(_) => "array",
            serde_json::Value::Number(number) if number.is_f64() => "number",
            serde_json::Value::Number(_) => "integer",
            _ => "object",
        };
        let kinds = property["type"].as_str().map_or_else(|| texts(&property["type"]), |kind| [kind].into());
        assert!(kinds.contains(kind) || kind == "integer" && kinds.contains("number"), "{name}: {member}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_are_as_their_description_says() {
    let fixed = crate::fixed::Fixed::of("s1", false);
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).correcting_by(fixed.models())).await;
    let parse = |body: &[u8]| serde_json::from_slice::<serde_json::Value>(body).unwrap();
    let described = parse(&stage.get("/openapi.json").await.body);
    let clocks = parse(&stage.get("/clocks").await.body);
    let schemas = &described["components"]["schemas"];
    assert_described(&clocks, &schemas["Clocks"]);
    let all = clocks["clocks"].as_array().unwrap();
    assert!(all.len() > 5);
    all.iter().for_each(|clock| assert_described(clock, &schemas["Clock"]));
    for path in described["paths"].as_object().unwrap().keys() {
        assert_eq!(stage.get(path).await.status, 200, "{path}");
    }
}

/// Other programs get the models that the stage corrects by, and again when they change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_are_served_to_other_programs() {
    use unskew::proto::{GetClocksRequest, WatchClocksRequest, clock_service_client::ClockServiceClient};
    let fixed = crate::fixed::Fixed::of("s1", false);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("models.binpb");
    let bytes = std::fs::read(fixed.models().join("skew/models.binpb")).unwrap();
    std::fs::write(&file, &bytes).unwrap();
    let sink = Sink::start().await;
    let stage = Stage::start(Config::to(&sink, Hop::Grpc).correcting_by(&file)).await;
    let connections = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let mut client = ClockServiceClient::with_origin(connections, format!("http://{}", stage.admin).parse().unwrap());
    let clocks = client.get_clocks(GetClocksRequest {}).await.unwrap().into_inner().models.unwrap();
    assert_eq!(prost::Message::encode_to_vec(&clocks), bytes);

    let mut watched = client.watch_clocks(WatchClocksRequest {}).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().models, Some(clocks.clone()));
    assert_eq!(stage.send(Via::Grpc, &spans::request(1)).await.code(), 0);
    let mut other = clocks;
    other.reference = "somebody else".to_owned();
    std::fs::write(&file, prost::Message::encode_to_vec(&other)).unwrap();
    let next = tokio::time::timeout(Duration::from_secs(5), watched.message()).await.expect("the file is looked at");
    let next = next.unwrap().unwrap();
    assert_eq!(next.models, Some(other));
    // From behind all that was sent.
    assert!(next.from_reference_unix_nano > 0, "{}", next.from_reference_unix_nano);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_is_read_again_from_one_request_to_the_next() {
    let sink = Sink::start().await;
    let config = Config::to(&sink, Hop::Grpc);
    let stage = Stage::start(config.clone()).await;
    let body = [0x0a, 0x00];
    let logs = async || stage.grpc(crate::harness::LOGS, &[], &body).await.code();
    assert_eq!(logs().await, 0);
    stage.reload(&config.clone().unskew("traces_only: true"));
    within("the new one is not taken up", async || logs().await == 12).await;

    // A bad one changes nothing, and is said.
    let before = stage.log().len();
    stage.reload(&config.clone().unskew("traces_onyl: false"));
    within("nothing is said of the bad one", async || stage.log()[before..].contains("traces_onyl")).await;
    assert_eq!(logs().await, 12);
    assert_eq!(stage.send(Via::Grpc, &spans::request(1)).await.code(), 0);
    stage.reload(&config);
    within("the good one is not taken up", async || logs().await == 0).await;
}

async fn within(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(5), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_when_all_that_it_holds_is_answered() {
    let sink = Sink::start().await;
    let mut stage = Stage::start(Config::to(&sink, Hop::Grpc)).await;
    sink.answer(Answer::late(Duration::from_secs(2), Answer::Accept));
    let request = spans::request(1);
    let end = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.signal("TERM");
    };
    let (reply, ()) = tokio::join!(stage.send(Via::Grpc, &request), end);
    assert_eq!(reply.verdict(Via::Grpc), Verdict::Accepted, "what was in flight: {reply:?}");
    let status = stage.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0), "{}", stage.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_cannot_bring_away_is_refused_and_counted() {
    let sink = Sink::start().await;
    let mut stage = Stage::start(Config::to(&sink, Hop::Grpc).unskew("drain_timeout: 1s")).await;
    sink.answer(Answer::late(Duration::from_secs(60), Answer::Accept));
    let request = spans::request(1);
    let end = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stage.signal("TERM");
    };
    let (reply, ()) = tokio::join!(async { stage.send(Via::Grpc, &request).await }, end);
    assert!(matches!(reply.verdict(Via::Grpc), Verdict::Again { .. }), "{reply:?}");
    let status = stage.ended(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(1), "{}", stage.log());
    assert!(stage.log().lines().last().unwrap_or("").contains('1'), "no count: {}", stage.log());
}
