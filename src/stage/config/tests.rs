use std::time::Duration;

use super::*;

fn env(name: &str) -> Option<String> {
    (name == "TOKEN").then(|| "0123".to_owned())
}

fn of(text: &str) -> Result<Config, Problems> {
    Config::of(Some(text), &Flags::default(), &env)
}

fn valid(text: &str) -> Config {
    of(text).unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"))
}

/// A file that has nothing wrong, with something after it.
fn with(rest: &str) -> String {
    format!("{LEAST}{rest}")
}

const LEAST: &str = "receivers: {otlp: }\nexporters: {otlp: {endpoint: 'http://tempo:4317'}}\n";

/// A listener's section of gRPC or HTTP.
fn listening(protocol: &str, section: &str) -> String {
    format!(
        "receivers: {{otlp: {{protocols: {{{protocol}: {section}}}}}}}\nexporters: {{otlp: {{endpoint: 'http://tempo:4317'}}}}"
    )
}

/// An exporter's section.
fn sending(id: &str, section: &str) -> String {
    format!("receivers: {{otlp: }}\nexporters: {{{id}: {section}}}")
}

/// The lines that are said of a file, in any order.
fn refused(text: &str, says: &[&str]) {
    let said = of(text).err().map(|problems| problems.to_string()).unwrap_or_default();
    assert_eq!(said.lines().collect::<Vec<_>>(), says, "of\n{text}");
}

#[test]
fn nothing_is_required_but_a_receiver_and_an_exporter() {
    let config = valid(LEAST);
    assert_eq!(config.listeners, Listeners::default());
    assert_eq!(config.processing.mode, Mode::Observe);
    assert_eq!(config.admin.address.to_string(), "localhost:9464");
    assert_eq!(
        config.summary(),
        "listens at localhost:4317 (gRPC) and localhost:4318 (HTTP); forwards to http://tempo:4317 (gRPC); mode observe"
    );
}

#[test]
fn only_the_protocols_that_are_named_have_a_listener() {
    let config = valid(&listening("grpc", ""));
    assert_eq!(config.listeners, Listeners { grpc: Some(Grpc::default()), http: None });
    let config = valid(&listening("http", "{endpoint: '0.0.0.0:80'}"));
    assert_eq!(config.listeners.grpc, None);
    assert_eq!(config.listeners.http.unwrap().address.to_string(), "0.0.0.0:80");
}

#[test]
fn every_key_of_a_grpc_listener_counts() {
    let config = valid(&listening(
        "grpc",
        "{endpoint: 'a:1', transport: tcp, max_recv_msg_size_mib: 8, max_concurrent_streams: 9, include_metadata: false,
          tls: {cert_file: /c, key_file: /k, client_ca_file: /ca, min_version: 1.3, max_version: '1.3'},
          keepalive: {server_parameters: {max_connection_idle: 1s, max_connection_age: 2s, max_connection_age_grace: 3s,
                                          time: 4s, timeout: 5s}}}",
    ));
    let s = Duration::from_secs;
    let expected = Grpc {
        address: "a:1".parse().unwrap(),
        tls: Some(ServerTls {
            own: KeyPair { certificate: Pem::File("/c".into()), key: Pem::File("/k".into()) },
            client_ca: Some(Pem::File("/ca".into())),
            versions: TlsVersions { lowest: TlsVersion::Tls13, highest: TlsVersion::Tls13 },
        }),
        max_message_bytes: 8 << 20,
        max_concurrent_streams: Some(9),
        keepalive: Keepalive {
            max_connection_idle: Some(s(1)),
            max_connection_age: Some(s(2)),
            max_connection_age_grace: Some(s(3)),
            time: s(4),
            timeout: s(5),
        },
        include_metadata: false,
        auth: None,
    };
    assert_eq!(config.listeners.grpc, Some(expected));
}

#[test]
fn every_key_of_an_http_listener_counts() {
    let config = valid(&listening(
        "http",
        "{endpoint: 'a:1', max_request_body_size: 1000, read_timeout: 0, read_header_timeout: 2s, idle_timeout: 3s}",
    ));
    let expected = Http {
        address: "a:1".parse().unwrap(),
        max_body_bytes: 1000,
        read_timeout: None,
        read_header_timeout: Some(Duration::from_secs(2)),
        idle_timeout: Some(Duration::from_secs(3)),
        ..Http::default()
    };
    assert_eq!(config.listeners.http, Some(expected));
}

fn recording(out: &str, window: Duration, window_spans: u64, [grace, keep]: [Duration; 2], keep_gib: u64) -> Recording {
    Recording { out: out.into(), window, window_spans, grace, keep, keep_bytes: keep_gib << 30, reference: None }
}

#[test]
fn every_key_of_the_processor_counts() {
    let config = valid(&with(
        "processors: {unskew: {mode: correct, models: /m, models_max_age: 24h, leave_alone: [a, b], max_correction: 1m,
                       max_in_flight_mib: 2, metadata_keys: [X-Scope-OrgID], traces_only: true, drain_timeout: 3s, auto_observe: false,
                       out: /d, window: 1m, window_spans: 5, grace: 1s, keep: 2h, keep_gib: 2}}",
    ));
    let expected = Processing {
        mode: Mode::Correct,
        models: Some("/m".into()),
        models_max_age: Duration::from_hours(24),
        leave_alone: vec!["a".to_owned(), "b".to_owned()],
        max_correction: Duration::from_mins(1),
        max_in_flight_bytes: 2 << 20,
        metadata_keys: vec!["x-scope-orgid".parse().unwrap()],
        traces_only: true,
        auto_observe: false,
        drain_timeout: Duration::from_secs(3),
        recording: Some(recording(
            "/d",
            Duration::from_mins(1),
            5,
            [Duration::from_secs(1), Duration::from_hours(2)],
            2,
        )),
    };
    assert_eq!(config.processing, expected);
}

#[test]
fn every_key_of_an_exporter_counts() {
    let section = "{endpoint: 'tempo:4317', compression: zstd, headers: {x-a: b}, timeout: 2s, max_request_size_mib: 3,
        sending_queue: {enabled: false}, retry_on_failure: {enabled: false},
        tls: {insecure: true, insecure_skip_verify: true, ca_file: /ca, cert_pem: c, key_pem: k,
              server_name_override: n, max_version: '1.2'}}";
    let NextHop { target, tls, compression, headers, timeout, auth, max_request_bytes } =
        valid(&sending("otlp_grpc/x", section)).next_hop.unwrap();
    assert_eq!(target.to_string(), "http://tempo:4317 (gRPC)");
    assert_eq!((compression, timeout), (Compression::Zstd, Duration::from_secs(2)));
    assert_eq!((headers["x-a"].as_bytes(), auth, max_request_bytes), (&b"b"[..], None, 3 << 20));
    let pem = |text: &str| Pem::Text(Secret(text.to_owned()));
    let expected = ClientTls {
        ca: Some(Pem::File("/ca".into())),
        own: Some(KeyPair { certificate: pem("c"), key: pem("k") }),
        server_name: Some("n".to_owned()),
        skip_verify: true,
        versions: TlsVersions { lowest: TlsVersion::Tls12, highest: TlsVersion::Tls12 },
    };
    assert_eq!(tls, expected);
}

/// Where an exporter sends: as its summary has it.
fn check_target(id: &str, section: &str, target: &str) {
    assert_eq!(valid(&sending(id, section)).next_hop.unwrap().target.to_string(), target, "{id}: {section}");
}

#[test]
fn an_endpoint_of_grpc_without_a_scheme_is_tls_unless_insecure() {
    check_target("otlp", "{endpoint: 'tempo:4317'}", "https://tempo:4317 (gRPC)");
    check_target("otlp", "{endpoint: 'tempo:4317', tls: {insecure: true}}", "http://tempo:4317 (gRPC)");
    check_target("otlp", "{endpoint: 'dns:///tempo:4317'}", "https://tempo:4317 (gRPC)");
    check_target("otlp_grpc", "{endpoint: 'http://tempo:4317'}", "http://tempo:4317 (gRPC)");
    check_target("otlp", "{endpoint: 'https://tempo:4317', tls: {insecure: true}}", "https://tempo:4317 (gRPC)");
    check_target("otlp", "{endpoint: '[::1]:9'}", "https://[::1]:9 (gRPC)");
}

#[test]
fn an_endpoint_of_http_is_a_base_and_those_of_signals_are_whole() {
    check_target("otlphttp", "{endpoint: 'http://a:4318/'}", "http://a:4318/v1/traces (HTTP)");
    check_target("otlp_http", "{endpoint: 'https://a/x?k=v'}", "https://a/x/v1/traces?k=v (HTTP)");
    check_target("otlphttp/x", "{endpoint: 'http://a', traces_endpoint: 'http://b/t'}", "http://b/t (HTTP)");
    let config = valid(&sending("otlphttp", "{traces_endpoint: 'http://b/t', logs_endpoint: 'http://b/l'}"));
    assert_eq!(
        (config.next_hop.as_ref().unwrap().compression, config.next_hop.as_ref().unwrap().timeout),
        (Compression::Gzip, Duration::from_secs(30))
    );
}

const TOKENS: &str = "receivers: {otlp: {protocols: {grpc: {auth: {authenticator: bearertokenauth/in}}}}}
exporters: {otlp: {endpoint: 'http://tempo:4317', auth: {authenticator: bearertokenauth}}}
extensions: {bearertokenauth: {token: '${env:TOKEN}'}, bearertokenauth/in: {scheme: '', filename: /tokens}}
service: {extensions: [bearertokenauth, bearertokenauth/in]}";

#[test]
fn tokens_are_those_of_the_extension_that_is_named() {
    let config = valid(TOKENS);
    let bearer = config.next_hop.unwrap().auth.unwrap();
    assert_eq!(bearer, Bearer { scheme: "Bearer".to_owned(), tokens: Tokens::These(vec![Secret("0123".to_owned())]) });
    let bearer = config.listeners.grpc.unwrap().auth.unwrap();
    assert_eq!(bearer, Bearer { scheme: String::new(), tokens: Tokens::In("/tokens".into()) });
}

#[test]
fn secrets_are_not_shown() {
    let text = TOKENS.replace("4317', auth", "4317', headers: {x-key: s3cret}, tls: {ca_pem: s3cret}, auth");
    let shown = format!("{:?}", valid(&text.replace("${env:TOKEN}", "s3cret")));
    assert!(!shown.contains("s3cret") && shown.contains("x-key"), "{shown}");
}

#[test]
fn pipelines_say_what_takes_part() {
    let config = valid(
        "receivers: {otlp: , otlp/b: {protocols: {http: }}}
exporters: {otlp: {endpoint: 'a:1'}, otlp/b: {endpoint: 'b:1'}}
processors: {unskew: }
service: {pipelines: {traces: {receivers: [otlp/b], processors: [unskew], exporters: [otlp/b]},
                      logs/all: {receivers: [otlp/b], exporters: [otlp/b]}}}",
    );
    assert_eq!(config.listeners, Listeners { grpc: None, http: Some(Http::default()) });
    assert_eq!(config.next_hop.as_ref().unwrap().target.to_string(), "https://b:1 (gRPC)");
}

#[test]
fn telemetry_has_its_own_address_and_log() {
    let config = valid(
        &TOKENS.replace("service: {", "service: {telemetry: {metrics: {address: ':1', auth: {authenticator: bearertokenauth}}, logs: {level: WARN, encoding: json}}, "),
    );
    assert_eq!((config.admin.address.to_string().as_str(), config.admin.auth.is_some()), ("0.0.0.0:1", true));
    assert_eq!(config.logs, Logs { level: LogLevel::Warn, encoding: LogEncoding::Json });
}

#[test]
fn each_flag_wins_over_its_key() {
    let file = with(
        "processors: {unskew: {mode: annotate, models: /m, traces_only: false, leave_alone: [a],
                           out: /d, window: 1m, window_spans: 5, grace: 1s, keep: 2h, keep_gib: 2}}",
    );
    let seconds = Duration::from_secs;
    let flags = Flags {
        mode: Some(Mode::Correct),
        models: Some("/flag".into()),
        models_max_age: Some(seconds(1)),
        leave_alone: vec!["b".to_owned()],
        max_correction: Some(seconds(2)),
        max_in_flight_mib: Some(3),
        traces_only: true,
        auto_observe: Some(false),
        metadata_keys: vec!["x-a".to_owned()],
        drain_timeout: Some(seconds(4)),
        out: Some("/f".into()),
        window: Some(seconds(5)),
        window_spans: Some(6),
        grace: Some(seconds(9)),
        keep: Some(seconds(8)),
        keep_gib: Some(7),
        reference: Some("c".to_owned()),
        forward: Some("http://next:4318".to_owned()),
        grpc: Some(Listen::At("a:1".parse().unwrap())),
        http: Some(Listen::Nowhere),
        admin: Some("a:2".parse().unwrap()),
    };
    let config = Config::of(Some(&file), &flags, &env).unwrap();
    let expected = Processing {
        mode: Mode::Correct,
        models: Some("/flag".into()),
        models_max_age: seconds(1),
        leave_alone: vec!["b".to_owned()],
        max_correction: seconds(2),
        max_in_flight_bytes: 3 << 20,
        traces_only: true,
        auto_observe: false,
        metadata_keys: vec!["x-a".parse().unwrap()],
        drain_timeout: seconds(4),
        recording: Some(Recording {
            reference: Some("c".to_owned()),
            ..recording("/f", seconds(5), 6, [seconds(9), seconds(8)], 7)
        }),
    };
    assert_eq!(config.processing, expected);
    assert_eq!(config.next_hop.as_ref().unwrap().target.to_string(), "http://next:4318/v1/traces (HTTP)");
    assert_eq!((config.listeners.grpc.unwrap().address.to_string().as_str(), config.listeners.http), ("a:1", None));
    assert_eq!(config.admin.address.to_string(), "a:2");
}

#[test]
fn without_a_file_flags_and_variables_are_enough() {
    let forward = Flags { forward: Some("http://tempo:4317".to_owned()), ..Flags::default() };
    let config = Config::of(None, &forward, &env).unwrap();
    assert_eq!(
        (&config.listeners, config.next_hop.as_ref().unwrap().compression),
        (&Listeners::default(), Compression::None)
    );
    let endpoint = |name: &str| (name == "OTEL_EXPORTER_OTLP_ENDPOINT").then(|| "http://a:1".to_owned());
    let config = Config::of(None, &Flags::default(), &endpoint).unwrap();
    assert_eq!(config.next_hop.as_ref().unwrap().target.to_string(), "http://a:1/v1/traces (HTTP)");
}

#[test]
fn no_next_hop_says_how_to_give_one() {
    let says = Config::of(None, &Flags::default(), &env).unwrap_err().to_string();
    assert!(says.starts_with("exporters: no next hop: write") && says.contains("--forward URL"), "{says}");
}

#[test]
fn what_is_recorded_needs_no_next_hop() {
    let listening = "receivers: {otlp: {protocols: {grpc: }}}";
    let service = "service: {pipelines: {traces: {receivers: [otlp], processors: [unskew]}}}";
    let config = valid(&format!("{listening}\nprocessors: {{unskew: {{out: /d, window: 5s}}}}\n{service}"));
    let recording = config.processing.recording.as_ref().unwrap();
    assert_eq!((recording.window, recording.window_spans), (Duration::from_secs(5), 1_000_000));
    assert_eq!((recording.keep, recording.keep_bytes), (Duration::from_hours(168), 20 << 30));
    assert_eq!(recording.grace, Duration::from_secs(30));
    assert_eq!(config.summary(), "listens at localhost:4317 (gRPC); records in /d; mode observe");
    valid(&with("processors: {unskew: {mode: correct, out: /d}}"));
    let flags = Flags { out: Some("/d".into()), ..Flags::default() };
    assert_eq!(Config::of(None, &flags, &env).unwrap().next_hop, None);

    let recorded = |keys: &str| format!("{listening}\nprocessors: {{unskew: {{{keys}}}}}\n{service}");
    refused(&recorded("out: /d, window: 10ms"), &["processors.unskew.window: is shorter than a second"]);
    refused(
        &recorded("out: /d, mode: correct, models: /m"),
        &[
            "processors.unskew.mode: without a next hop requests are recorded as they came: give an exporter, or stay with \
           `mode: observe`",
        ],
    );
    refused(
        &with("processors: {unskew: {keep_gib: 3}}"),
        &["processors.unskew.out: lacks: a window, a reference and what is kept are of what is recorded below it"],
    );
    let metrics =
        "service: {pipelines: {traces: {receivers: [otlp], processors: [unskew]}, metrics: {receivers: [otlp]}}}";
    refused(
        &format!("{listening}\nprocessors: {{unskew: {{out: /d}}}}\n{metrics}"),
        &["service.pipelines.metrics: has nowhere to go: `out` records traces alone, and there is no exporter"],
    );
}

#[test]
fn what_does_not_fit_together_is_told() {
    refused(
        "exporters: {otlp: {endpoint: 'http://tempo:4317'}}",
        &["receivers: no listener: write `otlp: {protocols: {grpc: , http: }}`"],
    );
    refused(
        &sending("otlp", "{endpoint: 'http://127.0.0.1:4317'}"),
        &["exporters: http://127.0.0.1:4317 (gRPC) is our own listener: requests would go round for ever"],
    );
    refused(
        &with("processors: {unskew: {mode: correct}}"),
        &[
            "processors.unskew.models: nothing to correct by: give the output folder of `unskew fix`, or `out` to learn from what passes, or stay with `mode: observe`",
        ],
    );
    refused(
        &(listening("grpc", "{include_metadata: false}") + "\nprocessors: {unskew: {metadata_keys: [x-a]}}"),
        &[
            "processors.unskew.metadata_keys: a listener has `include_metadata: false`, so there is none to pass on: take one away",
        ],
    );
    refused(
        &with("processors: {unskew: {metadata_keys: [te, 'a b']}}"),
        &[
            "processors.unskew.metadata_keys: `a b` is no name of a header",
            "processors.unskew.metadata_keys: `te` is the transport's own and cannot be passed on",
        ],
    );
    refused(
        &with("service: {telemetry: {metrics: {address: 'localhost:4318'}}}"),
        &["service.telemetry.metrics.address: localhost:4318 is HTTP's already"],
    );
    refused(
        "receivers: {otlp: {protocols: {grpc: {endpoint: ':1'}, http: {endpoint: 'localhost:1'}}}}\nexporters: {otlp: {endpoint: 'a:1'}}",
        &["receivers: gRPC and HTTP cannot share localhost:1"],
    );
}

#[test]
fn an_exporter_without_a_target_is_told_where_to_write_one() {
    refused(&sending("otlp", ""), &["exporters.otlp.endpoint: where to? Write one like `endpoint: tempo:4317`"]);
    refused(
        &sending("otlphttp", "{endpoint: }"),
        &["exporters.otlphttp.endpoint: where to? Write one like `endpoint: http://tempo:4318`"],
    );
    refused(
        &sending("otlp", "{endpoint: 'unix:///a'}"),
        &[
            "exporters.otlp.endpoint: `unix:///a` is no endpoint of gRPC: write one like tempo:4317 or https://tempo:4317",
        ],
    );
    refused(
        &sending("otlphttp", "{endpoint: 'http://me:pass@a'}"),
        &["exporters.otlphttp.endpoint: has a user in its URL: give `headers` or `auth` instead"],
    );
}

#[test]
fn tls_and_tokens_are_whole_or_wrong() {
    refused(
        &listening("grpc", "{tls: }"),
        &["receivers.otlp.protocols.grpc.tls: a listener with TLS needs cert_file and key_file"],
    );
    refused(
        &sending("otlp", "{endpoint: 'a:1', tls: {cert_file: a}}"),
        &["exporters.otlp.tls: a certificate and its key go together: give cert_file and key_file"],
    );
    refused(
        &sending("otlp", "{endpoint: 'a:1', tls: {ca_file: a, ca_pem: b, min_version: 1.3, max_version: 1.2}}"),
        &[
            "exporters.otlp.tls.ca_pem: ca_file is given too: take one away",
            "exporters.otlp.tls.max_version: is lower than min_version",
        ],
    );
    refused(
        &sending("otlp", "{endpoint: 'a:1', tls: {min_version: '1.1'}}"),
        &["exporters.otlp.tls.min_version: `1.1` is none of `1.2`, `1.3`"],
    );
    refused(
        &with(
            "extensions: {bearertokenauth: {token: a, tokens: [b]}, bearertokenauth/b: , bearertokenauth/c: {token: ''}}",
        ),
        &[
            "extensions.bearertokenauth: give its tokens once: as `token`, `tokens` or `filename`",
            "extensions.bearertokenauth/b: give its tokens once: as `token`, `tokens` or `filename`",
            "extensions.bearertokenauth/c: an empty token lets everybody in",
        ],
    );
    refused(
        &TOKENS.replace("authenticator: bearertokenauth/in", "authenticator: bearertokenauth/on"),
        &[
            "receivers.otlp.protocols.grpc.auth.authenticator: `bearertokenauth/on` is not among the extensions; the nearest is `bearertokenauth/in`",
        ],
    );
}

/// What a Collector's file is told, of a key in some section.
fn check_answer(text: &str, path: &str) {
    let said = of(text).err().map(|problems| problems.to_string()).unwrap_or_default();
    let begins = format!("not supported: {path}: ");
    assert!(said.starts_with(&begins) && said.lines().count() == 1, "{begins} of\n{text}\nsaid\n{said}");
}

#[test]
fn keys_of_a_collector_are_answered() {
    let sections: [(&str, &[&str]); 2] = [
        ("grpc", &["read_buffer_size", "write_buffer_size", "middlewares"]),
        (
            "http",
            &[
                "cors",
                "response_headers",
                "compression_algorithms",
                "write_timeout",
                "keep_alives_enabled",
                "traces_url_path",
                "transport",
                "middlewares",
            ],
        ),
    ];
    for (protocol, keys) in sections {
        for key in keys {
            check_answer(
                &listening(protocol, &format!("{{{key}: 1}}")),
                &format!("receivers.otlp.protocols.{protocol}.{key}"),
            );
        }
        for key in
            ["cipher_suites", "reload_interval", "client_ca_file_reload", "include_system_ca_certs_pool", "ca_file"]
        {
            let text = listening(protocol, &format!("{{tls: {{cert_file: a, key_file: b, {key}: c}}}}"));
            check_answer(&text, &format!("receivers.otlp.protocols.{protocol}.tls.{key}"));
        }
    }
    check_answer(&listening("grpc", "{transport: unix}"), "receivers.otlp.protocols.grpc.transport");
    for id in ["otlp", "otlphttp"] {
        for key in ["sending_queue", "retry_on_failure", "batcher", "read_buffer_size", "middlewares"] {
            check_answer(&sending(id, &format!("{{endpoint: 'http://a', {key}: }}")), &format!("exporters.{id}.{key}"));
        }
    }
    check_answer(&sending("otlphttp", "{endpoint: 'http://a', encoding: json}"), "exporters.otlphttp.encoding");
    check_answer(&with("service: {telemetry: {metrics: {level: detailed}}}"), "service.telemetry.metrics.level");
}

#[test]
fn components_of_a_collector_are_answered() {
    check_answer(&with("connectors: {spanmetrics: }"), "connectors");
    check_answer(
        &with("extensions: {health_check: }\nservice: {extensions: [health_check]}"),
        "extensions.health_check",
    );
    refused(
        "receivers: {otlp: , jaeger: }
processors: {batch: , memory_limiter: , unskew: }
exporters: {otlp: {endpoint: 'a:1', sending_queue: {queue_size: 10}}, debug: }
service: {pipelines: {traces: {receivers: [otlp, jaeger], processors: [memory_limiter, unskew, batch], exporters: [otlp, debug]}}}",
        &[
            "not supported: exporters.debug: unskew sends OTLP only (`otlp_grpc`, `otlp_http`): put a Collector with `debug` behind it",
            "not supported: exporters.otlp.sending_queue: unskew has no queue: the sender's is the queue",
            "not supported: processors.batch: unskew runs no other processors: put it between two Collectors",
            "not supported: processors.memory_limiter: unskew runs no other processors: put it between two Collectors",
            "not supported: receivers.jaeger: unskew receives OTLP only (`otlp`): put a Collector with `jaeger` before it",
        ],
    );
}

/// What is said of pipelines amid two exporters `otlp` and `otlp/b`.
fn check_pipelines(pipelines: &str, says: &[&str]) {
    refused(
        &format!(
            "receivers: {{otlp: , otlp/b: }}
processors: {{unskew: }}
exporters: {{otlp: {{endpoint: 'a:1'}}, otlp/b: {{endpoint: 'b:1'}}}}
service: {{pipelines: {pipelines}}}"
        ),
        says,
    );
}

#[test]
fn pipelines_that_unskew_cannot_be_are_answered() {
    check_pipelines(
        "",
        &[
            "service.pipelines: which exporter? There are otlp, otlp/b",
            "service.pipelines: which receiver? There are otlp, otlp/b",
        ],
    );
    let hops = "unskew has one next hop for all signals, and answers when that has taken them: fan out in the Collector behind it";
    check_pipelines(
        "{traces: {receivers: [otlp], processors: [unskew], exporters: [otlp, otlp/b]}}",
        &[&format!("not supported: service.pipelines.traces.exporters: {hops}")],
    );
    check_pipelines(
        "{traces: {receivers: [otlp], processors: [unskew], exporters: [otlp]}, logs: {receivers: [otlp], exporters: [otlp/b]}}",
        &[&format!("not supported: service.pipelines.traces.exporters: {hops}")],
    );
    check_pipelines(
        "{traces: {receivers: [otlp], processors: [unskew], exporters: [otlp]}, traces/b: {receivers: [otlp], processors: [unskew], exporters: [otlp]}}",
        &[
            "not supported: service.pipelines.traces/b: a signal has one pipeline: fan out in the Collector behind unskew",
        ],
    );
    check_pipelines(
        "{traces: {receivers: [oltp], exporters: [otlp]}}",
        &[
            "service.pipelines.traces.processors: `unskew` is configured and not among them: write `[unskew]`",
            "service.pipelines.traces.receivers: `oltp` is not among the receivers; the nearest is `otlp`",
        ],
    );
    check_pipelines(
        "{metrics: {receivers: [otlp], exporters: [otlp]}}",
        &["service.pipelines: lacks `traces`, which is what unskew is for"],
    );
    refused(
        &with(
            "processors: {unskew: {traces_only: true}}\nservice: {pipelines: {traces: {receivers: [otlp], processors: [unskew], exporters: [otlp]}, logs: {receivers: [otlp], exporters: [otlp]}}}",
        ),
        &["service.pipelines.logs: is there, and processors.unskew.traces_only is true: take one away"],
    );
}

#[test]
fn unknown_keys_are_told_all_at_once_with_their_nearest() {
    refused(
        "receivers: {otlp: {protocol: {grpc: }}}
procesors: {unskew: }
exporters: {otlp: {endpoint: 'a:1', compresion: gzip, tls: {insecur: true}}}
service: {telemetry: {metrics: {adress: 'a:1'}}}",
        &[
            "exporters.otlp.compresion: unknown key; the nearest is `compression`",
            "exporters.otlp.tls.insecur: unknown key; the nearest is `insecure`",
            "procesors: unknown key; the nearest is `processors`",
            "receivers.otlp.protocol: unknown key; the nearest is `protocols`",
            "service.telemetry.metrics.adress: unknown key; the nearest is `address`",
        ],
    );
}
