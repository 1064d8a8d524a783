//! What is said of keys and components that belong to a Collector and not to us: what to do instead.

/// A key, and what to do instead.
type Answers = &'static [(&'static str, &'static str)];

pub(super) const TOP: Answers = &[("connectors", "unskew runs no connectors: put them into the Collector behind it")];

pub(super) const TRANSPORT: &str = "unskew listens on TCP only: leave it out, and give a host and a port";
const BUFFER: &str = "buffers fit themselves to the traffic: leave it out";
const MIDDLEWARES: &str = "unskew runs no middlewares: put them into the Collector before it";

pub(super) const GRPC_LISTENER: Answers =
    &[("read_buffer_size", BUFFER), ("write_buffer_size", BUFFER), ("middlewares", MIDDLEWARES)];

pub(super) const KEEPALIVE: Answers = &[("enforcement_policy", "clients may ping as often as they like: leave it out")];

const PATHS: &str =
    "paths are OTLP's own, /v1/traces, /v1/metrics and /v1/logs: leave it out, or rewrite it in a proxy";

pub(super) const HTTP_LISTENER: Answers = &[
    ("transport", TRANSPORT),
    ("cors", "browsers post to the Collector before unskew: configure it there"),
    ("response_headers", "answers carry OTLP's own headers: add others in a proxy before it"),
    ("compression_algorithms", "gzip, zstd and none are always taken: leave it out"),
    ("write_timeout", "an answer waits for the next hop: give the exporter's `timeout`"),
    ("keep_alives_enabled", "connections are kept: give `idle_timeout`"),
    ("traces_url_path", PATHS),
    ("metrics_url_path", PATHS),
    ("logs_url_path", PATHS),
    ("profiles_url_path", PROFILES),
    ("middlewares", MIDDLEWARES),
];

const CIPHERS: &str = "every suite that is spoken is held to be safe: give min_version";
const RELOAD: &str = "certificates are read when the program starts: leave it out";
const CURVES: &str = "leave it out: the library's own order is taken";
const TPM: &str = "keys are read from PEM: give key_file";
const POOL: &str = "with ca_file that alone is believed, without it the system: leave it out, or join both in one file";
const CLIENT_CA: &str = "a listener asks its clients for certificates by client_ca_file";

pub(super) const SERVER_TLS: Answers = &[
    ("ca_file", CLIENT_CA),
    ("ca_pem", CLIENT_CA),
    ("client_ca_file_reload", RELOAD),
    ("reload_interval", RELOAD),
    ("cipher_suites", CIPHERS),
    ("curve_preferences", CURVES),
    ("include_system_ca_certs_pool", CLIENT_CA),
    ("tpm", TPM),
];

pub(super) const CLIENT_TLS: Answers = &[
    ("reload_interval", RELOAD),
    ("cipher_suites", CIPHERS),
    ("curve_preferences", CURVES),
    ("include_system_ca_certs_pool", POOL),
    ("tpm", TPM),
];

pub(super) const AUTH: Answers = &[("request_params", "tokens come in the `authorization` header only")];
pub(super) const BEARER: Answers = &[("header", "tokens come in the `authorization` header only: leave it out")];

/// Switches for what is not here: off is fine.
pub(super) const QUEUES: Answers = &[
    ("sending_queue", "unskew has no queue: the sender's is the queue"),
    ("retry_on_failure", "unskew has no queue: the sender's is the queue, and it retries"),
    ("batcher", "unskew sends a request on as it comes: batch in the Collector before it"),
];

const CONNECTIONS: &str = "connections are opened as they are needed: leave it out";
const EXPORTER_MIDDLEWARES: &str = "unskew runs no middlewares: put them into the Collector behind it";

pub(super) const GRPC_EXPORTER: Answers = &[
    ("read_buffer_size", BUFFER),
    ("write_buffer_size", BUFFER),
    ("keepalive", CONNECTIONS),
    ("wait_for_ready", "a sender is told at once that the next hop is away, and retries: leave it out"),
    ("balancer_name", "unskew sends to one next hop: put a load balancer behind it"),
    ("authority", "the endpoint's own is sent: give tls.server_name_override"),
    ("user_agent", "unskew says who it is: leave it out"),
    ("middlewares", EXPORTER_MIDDLEWARES),
];

pub(super) const ENCODING: &str = "each request leaves in the encoding in which it came: leave it out";

pub(super) const HTTP_EXPORTER: Answers = &[
    ("profiles_endpoint", PROFILES),
    ("read_buffer_size", BUFFER),
    ("write_buffer_size", BUFFER),
    ("compression_params", "compression is tuned for speed: leave it out"),
    ("proxy_url", "unskew connects to the next hop itself: give the proxy as `endpoint` if it speaks OTLP"),
    ("max_idle_conns", CONNECTIONS),
    ("max_idle_conns_per_host", CONNECTIONS),
    ("max_conns_per_host", CONNECTIONS),
    ("idle_conn_timeout", CONNECTIONS),
    ("disable_keep_alives", CONNECTIONS),
    ("force_attempt_http2", CONNECTIONS),
    ("http2_read_idle_timeout", CONNECTIONS),
    ("http2_ping_timeout", CONNECTIONS),
    ("cookies", "unskew keeps no cookies: a balancer that needs them cannot be the next hop"),
    ("middlewares", EXPORTER_MIDDLEWARES),
];

pub(super) const TELEMETRY: Answers =
    &[("traces", "unskew makes no spans of its own: leave it out"), ("resource", "let the scraper add labels")];

const READERS: &str = "metrics are answered to Prometheus: give service.telemetry.metrics.address";

pub(super) const METRICS: Answers = &[
    ("level", "there is one set of metrics: leave it out"),
    ("readers", READERS),
    ("views", "let the scraper drop what you do not want"),
];

const LOG: &str = "the log goes to standard error, with `level` and `encoding`: leave it out";

pub(super) const LOGS: Answers = &[
    ("development", LOG),
    ("sampling", LOG),
    ("output_paths", LOG),
    ("error_output_paths", LOG),
    ("initial_fields", LOG),
    ("disable_caller", LOG),
    ("disable_stacktrace", LOG),
    ("processors", LOG),
];

pub(super) const PROCESSOR: &str = "unskew runs no other processors: put it between two Collectors";
pub(super) const PIPELINE: &str = "a signal has one pipeline: fan out in the Collector behind unskew";
pub(super) const PROFILES: &str = "unskew passes traces, metrics and logs: send profiles past it";
pub(super) const RECEIVERS: &str = "unskew has one receiver for all signals: give it both protocols";
pub(super) const EXPORTERS: &str =
    "unskew has one next hop for all signals, and answers when that has taken them: fan out in the Collector behind it";

pub(super) fn receiver(kind: &str) -> String {
    format!("unskew receives OTLP only (`otlp`): put a Collector with `{kind}` before it")
}

pub(super) fn exporter(kind: &str) -> String {
    format!("unskew sends OTLP only (`otlp_grpc`, `otlp_http`): put a Collector with `{kind}` behind it")
}

pub(super) fn extension(kind: &str) -> String {
    match kind {
        "health_check" | "healthcheckv2" => {
            "/healthz and /readyz are always answered, at service.telemetry.metrics.address: leave it out".to_owned()
        }
        "zpages" | "pprof" => "/metrics and /clocks tell of it, at service.telemetry.metrics.address".to_owned(),
        "file_storage" | "db_storage" => "unskew has no queue, so nothing to store: leave it out".to_owned(),
        "headers_setter" => "give processors.unskew.metadata_keys: what they name is passed on".to_owned(),
        "memory_ballast" => "leave it out: give processors.unskew.max_in_flight_mib".to_owned(),
        _ => format!("unskew has bearertokenauth only: put a Collector with `{kind}` before or behind it"),
    }
}

pub(super) const OWN_NAME: &str = "there is one processor, and it has no name of its own: write `unskew`";

pub(super) const NO_NEXT_HOP: &str = "no next hop: write `otlp_grpc: {endpoint: \"http://tempo:4317\"}`, or give --forward URL or OTEL_EXPORTER_OTLP_ENDPOINT";
