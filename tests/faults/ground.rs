//! Load at a steady pace, and the books: which batch was acknowledged, which arrived, how often.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::Method;
use hyper::body::Bytes;
use memchr::memmem;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use prost::Message;
use tokio::task::JoinHandle;

use crate::Allowed;
use crate::harness::client::{Grpc, Http};
use crate::harness::config::quoted;
use crate::harness::sink::Received;
use crate::harness::wire::{self, Packing};
use crate::harness::{Config, Hop, Reply, Sink, Stage, TRACES, Verdict, Via, free_address, spans};

pub type Result<T> = std::result::Result<T, String>;

/// As SDKs send.
const SPANS: usize = 512;
/// What is offered; what has to be acknowledged, over all of a run.
const OFFERED_PER_S: u64 = 26_000;
const LEAST_PER_S: f64 = 20_000.0;

/// Stands before the number of a batch in each trace id of its spans.
const MARK: [u8; 8] = *b"unskew-f";

/// The program, its next hop, and what arrived there.
pub struct Ground {
    config: Config,
    stage: Option<Stage>,
    next_hop: SocketAddr,
    sink: Option<Sink>,
    arrived: Arrived,
    /// Where requests are recorded; then there is no next hop.
    record: Option<tempfile::TempDir>,
    /// No answer but acceptance is right: nothing gives a reason for another.
    pub only_accepted: bool,
}

/// Of each batch: spans that came in requests that were accepted, spans that came in others, and requests.
type Arrived = BTreeMap<u64, [usize; 3]>;

impl Ground {
    pub async fn new(keys: &str) -> Self {
        let next_hop = free_address();
        let sink = Sink::at(next_hop).await;
        let mut config = Config::to(&sink, Hop::Grpc).http("read_timeout: 5s");
        if !keys.is_empty() {
            config = config.unskew(keys);
        }
        let stage = Stage::start(config.clone()).await;
        let arrived = Arrived::new();
        Self { config, stage: Some(stage), next_hop, sink: Some(sink), arrived, record: None, only_accepted: false }
    }

    /// A stage that records, and sends nothing on.
    pub async fn recording() -> Self {
        let record = tempfile::tempdir().unwrap();
        let keys = format!("out: {}, drain_timeout: 300s", quoted(record.path()));
        let config = Config::to_nowhere().http("read_timeout: 5s").unskew(&keys);
        let (stage, next_hop) = (Some(Stage::start(config.clone()).await), free_address());
        let arrived = Arrived::new();
        Self { config, stage, next_hop, sink: None, arrived, record: Some(record), only_accepted: false }
    }

    /// Has the record become tables, and books their spans.
    pub async fn book_record(&mut self) -> Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        let stage = self.stage.as_mut().unwrap();
        stage.signal("TERM");
        let status = stage.ended(Duration::from_secs(300)).await;
        if status.code() != Some(0) {
            return Err(format!("ended with {status}: {}", stage.log()));
        }
        for window in std::fs::read_dir(record.path().join("windows")).unwrap() {
            for table in std::fs::read_dir(window.unwrap().path().join("traces")).unwrap() {
                let reader = SerializedFileReader::new(std::fs::File::open(table.unwrap().path()).unwrap()).unwrap();
                for row in reader.get_row_iter(None).unwrap() {
                    let row = row.unwrap();
                    let (_, id) = row.get_column_iter().find(|(name, _)| *name == "trace_id").unwrap();
                    let Field::Str(hex) = id else { return Err(format!("a trace id that is no text: {id:?}")) };
                    let number = u64::from_str_radix(&hex[16..], 16).unwrap();
                    self.arrived.entry(number).or_default()[0] += 1;
                }
            }
        }
        match self.arrived.iter().find(|(_, [spans, ..])| *spans != SPANS) {
            Some((number, [spans, ..])) => Err(format!("batch {number}: {spans} spans in tables, not {SPANS}")),
            None => Ok(()),
        }
    }

    pub fn stage(&self) -> &Stage {
        self.stage.as_ref().unwrap()
    }

    pub fn sink(&self) -> &Sink {
        self.sink.as_ref().unwrap()
    }

    /// Books what has come since.
    fn count(&mut self) {
        let received = self.sink.as_ref().map(Sink::take).unwrap_or_default();
        self.book(received);
    }

    /// SIGKILL, and the same again.
    pub async fn kill(&mut self) {
        // Dropping it kills it.
        self.stage = None;
        self.stage = Some(Stage::start(self.config.clone()).await);
        self.count();
    }

    pub async fn drain(&mut self) -> Result<()> {
        let stage = self.stage.as_mut().unwrap();
        stage.signal("TERM");
        let status = stage.ended(Duration::from_secs(10)).await;
        if status.code() != Some(0) {
            return Err(format!("ended with {status}: {}", stage.log()));
        }
        self.stage = Some(Stage::start(self.config.clone()).await);
        Ok(())
    }

    pub fn reload(&mut self, keys: &str) {
        let config = self.config.clone();
        self.stage().reload(&if keys.is_empty() { config } else { config.unskew(keys) });
        self.count();
    }

    pub async fn next_hop_goes(&mut self) {
        // What it has taken stays in the books.
        let last = self.sink.take().unwrap().stop().await;
        self.book(last);
    }

    fn book(&mut self, received: Vec<Received>) {
        for Received { body, accepted, .. } in received {
            book(&mut self.arrived, &body, accepted);
        }
    }

    pub async fn next_hop_comes(&mut self) {
        self.sink = Some(Sink::at(self.next_hop).await);
    }
}

fn book(arrived: &mut Arrived, body: &[u8], accepted: bool) {
    let mut here: BTreeMap<u64, usize> = BTreeMap::new();
    for at in memmem::find_iter(body, &MARK) {
        *here.entry(u64::from_be_bytes(body[at + 8..at + 16].try_into().unwrap())).or_default() += 1;
    }
    for (number, spans) in here {
        let entry = arrived.entry(number).or_default();
        entry[usize::from(!accepted)] += spans;
        entry[2] += 1;
    }
}

/// Batches that differ in the numbers of their traces alone.
struct Template {
    body: Vec<u8>,
    numbers: Vec<usize>,
}

impl Template {
    fn new() -> Self {
        let mut request = spans::request(SPANS);
        for scope in request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans) {
            scope.spans.iter_mut().for_each(|span| span.trace_id = [MARK, [0; 8]].concat());
        }
        let body = request.encode_to_vec();
        let numbers: Vec<usize> = memmem::find_iter(&body, &MARK).map(|at| at + MARK.len()).collect();
        assert_eq!(numbers.len(), SPANS);
        Self { body, numbers }
    }

    fn batch(&self, number: u64) -> Vec<u8> {
        let mut body = self.body.clone();
        self.numbers.iter().for_each(|at| body[*at..*at + 8].copy_from_slice(&number.to_be_bytes()));
        body
    }
}

/// What a sender came to know of a batch; `None` while it tries.
type Known = BTreeMap<u64, Option<Verdict>>;

/// Senders that each try until a batch is taken or refused.
pub struct Load {
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<()>>,
    began: Instant,
}

struct Shared {
    grpc: SocketAddr,
    http: SocketAddr,
    template: Template,
    next: AtomicU64,
    ending: AtomicBool,
    known: Mutex<Known>,
    again: AtomicU64,
}

impl Load {
    pub fn start(ground: &Ground, senders: usize) -> Self {
        let shared = Arc::new(Shared {
            grpc: ground.stage().grpc,
            http: ground.stage().http,
            template: Template::new(),
            next: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            known: Mutex::default(),
            again: AtomicU64::new(0),
        });
        let began = Instant::now();
        let senders = (0..senders).map(|nth| tokio::spawn(send(shared.clone(), nth, began))).collect();
        Self { shared, senders, began }
    }

    /// No new batches; waits until each one begun is taken or refused.
    pub async fn end(self, ground: &mut Ground) -> Result<Tally> {
        self.shared.ending.store(true, Ordering::Relaxed);
        let limit = Instant::now() + Duration::from_secs(30);
        for sender in self.senders {
            if tokio::time::timeout_at(limit.into(), sender).await.is_err() {
                let known = self.shared.known.lock().unwrap();
                let open = known.values().filter(|verdict| verdict.is_none()).count();
                return Err(format!("{open} batches are neither taken nor refused after half a minute"));
            }
        }
        let took = self.began.elapsed();
        ground.count();
        ground.book_record().await?;
        let known = std::mem::take(&mut *self.shared.known.lock().unwrap());
        let again = self.shared.again.load(Ordering::Relaxed);
        Ok(Tally { known, arrived: std::mem::take(&mut ground.arrived), again, took, calm: ground.only_accepted })
    }
}

enum Connection {
    Grpc(Grpc),
    Http(Http),
}

impl Connection {
    /// Even ones speak gRPC.
    async fn new(shared: &Shared, nth: usize) -> Option<Self> {
        match nth % 2 {
            0 => Grpc::to(shared.grpc).await.ok().map(Self::Grpc),
            _ => Http::to(shared.http).await.ok().map(Self::Http),
        }
    }

    async fn send(&mut self, body: Vec<u8>) -> hyper::Result<(Reply, Via)> {
        match self {
            Self::Grpc(grpc) => {
                let frame: Bytes = wire::frame(&body, Packing::Plain).into();
                Ok((grpc.call(TRACES, &[("grpc-timeout", "10S")], frame).await?, Via::Grpc))
            }
            Self::Http(http) => {
                let headers = [("content-type", "application/x-protobuf")];
                Ok((http.call(&Method::POST, "/v1/traces", &headers, body).await?, Via::Protobuf))
            }
        }
    }
}

async fn send(shared: Arc<Shared>, nth: usize, began: Instant) {
    let mut connection = Connection::new(&shared, nth).await;
    while !shared.ending.load(Ordering::Relaxed) {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        shared.known.lock().unwrap().insert(number, None);
        let due = Duration::from_secs_f64(number as f64 * SPANS as f64 / OFFERED_PER_S as f64);
        tokio::time::sleep_until((began + due).into()).await;
        let verdict = loop {
            if connection.is_none() {
                connection = Connection::new(&shared, nth).await;
            }
            let answer = match &mut connection {
                Some(open) => open.send(shared.template.batch(number)).await.ok(),
                None => None,
            };
            match answer.map(|(reply, via)| reply.verdict(via)) {
                // An answer is known; a connection that broke says nothing of the batch.
                Some(Verdict::Again { .. }) => {}
                Some(verdict) => break verdict,
                None => connection = None,
            }
            shared.again.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(30 + 7 * (nth as u64 % 16))).await;
        };
        shared.known.lock().unwrap().insert(number, Some(verdict));
    }
}

/// The books of a run.
pub struct Tally {
    known: Known,
    arrived: Arrived,
    /// Answers and ends of connections that made a sender try again.
    again: u64,
    took: Duration,
    calm: bool,
}

impl Tally {
    pub fn check(&self, allowed: Allowed) -> Result<String> {
        let (mut refused, mut rejected, mut twice) = (0, 0, 0);
        for (number, verdict) in &self.known {
            let [accepted, declined, requests] = self.arrived.get(number).copied().unwrap_or_default();
            if accepted % SPANS != 0 {
                return Err(format!("batch {number}: {accepted} spans arrived, which is no multiple of {SPANS}"));
            }
            match verdict.as_ref().expect("all are known at the end") {
                Verdict::Accepted if accepted == 0 => {
                    return Err(format!("batch {number} was acknowledged and is lost"));
                }
                Verdict::Accepted => twice += accepted / SPANS - 1,
                Verdict::Partial { rejected: some, .. } => {
                    rejected += some;
                    if requests != 1 {
                        return Err(format!("batch {number}, rejected in part, was sent {requests} times"));
                    }
                }
                Verdict::Refused => {
                    refused += 1;
                    if (accepted, declined, requests) != (0, SPANS, 1) {
                        return Err(format!("batch {number}, refused, was sent {requests} times"));
                    }
                }
                Verdict::Again { .. } => unreachable!("senders try again"),
            }
        }
        if let Some(stranger) = self.arrived.keys().find(|number| !self.known.contains_key(number)) {
            return Err(format!("batch {stranger} arrived and was never sent"));
        }
        if (refused, rejected) != (allowed.refused, allowed.rejected) {
            return Err(format!("{refused} batches refused and {rejected} spans rejected"));
        }
        if self.calm && self.again > 0 {
            return Err(format!("{} answers but acceptance", self.again));
        }
        let spans = self.known.len() * SPANS;
        let per_second = spans as f64 / self.took.as_secs_f64();
        if per_second < LEAST_PER_S {
            return Err(format!("{per_second:.0} spans a second, which is less than {LEAST_PER_S}"));
        }
        Ok(format!("{spans} spans, {per_second:.0} a second, {} tries again, {twice} batches twice", self.again))
    }
}
