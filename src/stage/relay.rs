//! One request on its way through: corrected, sent on, answered as the next hop answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use bytes::Bytes;
use hyper::header::HeaderName;
use tokio::sync::watch;

use super::answer::{Accepted, Partial, Refusal, together};
use super::budget::Budget;
use super::forward::{Forwarder, Outgoing};
use super::log::{self, NotRecorded, Recorder};
use super::metrics::{Metrics, Recorded};
use super::request::{Encoding, Request, Signal};
use crate::clock::ReferenceTime;
use crate::live::{self, Found, Harm, Mode, Passed, Published, Watch};
use crate::otlp::{self, Payload};

/// What may change while requests pass.
pub struct Settings {
    pub mode: Mode,
    /// None: requests are only recorded.
    pub forwarder: Option<Arc<Forwarder>>,
    /// It was to correct, and did harm: everything passes as it came until the configuration is read again.
    pub fell_back: bool,
    /// Metrics, logs and profiles are refused.
    pub traces_only: bool,
    /// Metadata that is passed on.
    pub metadata: Vec<HeaderName>,
}

impl Settings {
    /// Whether a signal is passed on.
    pub fn takes(&self, signal: Signal) -> bool {
        let forwarder = self.forwarder.as_ref().filter(|_| !self.traces_only);
        signal == Signal::Traces || forwarder.is_some_and(|forwarder| forwarder.takes(signal))
    }
}

/// What all requests share.
pub struct Relay {
    settings: RwLock<Arc<Settings>>,
    /// The seam between those who correct and those who find out by what: replaced whole.
    published: RwLock<Arc<Published>>,
    /// Writes down what is acknowledged, where that is asked for.
    recorder: Option<Recorder>,
    /// Whether corrections do harm.
    watch: Mutex<Watch>,
    pub budget: Arc<Budget>,
    pub metrics: Arc<Metrics>,
    passing: AtomicU64,
    /// What is on its way is given up.
    over: watch::Sender<bool>,
}

impl Relay {
    pub fn of(
        settings: Settings,
        published: Published,
        recorder: Option<Recorder>,
        (budget, metrics): (Arc<Budget>, Arc<Metrics>),
    ) -> Self {
        let (settings, published) = (RwLock::new(Arc::new(settings)), RwLock::new(Arc::new(published)));
        let (passing, over) = (AtomicU64::new(0), watch::Sender::new(false));
        Self { settings, published, recorder, watch: Mutex::default(), budget, metrics, passing, over }
    }

    /// Nothing is recorded any more, and all that was is a segment that has ended.
    pub async fn close(&self) {
        if let Some(recorder) = &self.recorder {
            recorder.close().await;
        }
    }

    /// Whether requests are to be recorded and cannot be.
    pub fn cannot_record(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recorder::fails)
    }

    /// Holds from the next request on.
    pub fn set(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer of a request, from its first byte on counted among those that are on their way; `None` where they are
    /// given up.
    pub async fn unless_over<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let _passing = Passing::of(&self.passing);
        let mut over = self.over.subscribe();
        tokio::select! {
            answer = answer => Some(answer),
            _ = over.wait_for(|over| *over) => None,
        }
    }

    /// Gives up what is on its way, and tells its senders to send it again; how many requests those are.
    pub fn give_up(&self) -> u64 {
        let count = self.passing.load(Ordering::Relaxed);
        self.over.send_replace(true);
        count
    }

    /// Replaces what is published by what comes after it. Nothing is looked up meanwhile.
    pub fn publish(&self, next: impl FnOnce(&Published) -> Published) {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        *published = Arc::new(next(&published));
        self.watch().begin_anew();
    }

    /// What does harm, from the calls of the last minutes.
    pub fn harm(&self) -> Harm {
        self.watch().harm(now().nanos())
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, where that is still what comes after it; whether it was.
    pub fn publish_if(&self, next: impl FnOnce(&Published) -> Option<Published>) -> bool {
        let mut published = self.published.write().unwrap_or_else(PoisonError::into_inner);
        match next(&published) {
            Some(next) => *published = Arc::new(next),
            None => return false,
        }
        self.watch().begin_anew();
        true
    }

    /// Passes one request on, and records it.
    ///
    /// # Errors
    /// What the next hop refused, and why; what cannot be understood; or what could be recorded nowhere.
    pub async fn pass(&self, request: Request) -> Result<Accepted, Refusal> {
        let recorder = self.recorder.as_ref().filter(|_| request.signal == Signal::Traces);
        let Some(recorder) = recorder else { return self.forward(request).await };
        let (encoding, bytes, arrival) = (request.encoding, request.bytes.clone(), now());
        let hash = log::hash(&bytes);
        if recorder.holds(hash) {
            // Its acknowledgement was lost, and it is sent again.
            self.metrics.recorded(Recorded::Repeated);
            return Ok(None);
        }
        let forwards = self.settings().forwarder.is_some();
        let claim = Arc::clone(&request.claim);
        let (spans, accepted) = if forwards {
            (None, self.forward(request).await?)
        } else {
            let payload = Self::understood(encoding, &bytes)?;
            self.metrics.passed(&self.passed(&payload, Mode::Observe).tally);
            (Some(payload.spans.len()), None)
        };
        // Of what the next hop took, everything could be read.
        let spans = spans.unwrap_or_else(|| otlp::locate(encoding, &bytes).map_or(0, |payload| payload.spans.len()));
        if spans == 0 {
            return Ok(accepted);
        }
        let recorded = recorder.record((encoding, bytes, hash), spans, arrival.nanos()).await;
        drop(claim);
        self.metrics.recorded(if recorded.is_ok() { Recorded::Written } else { Recorded::Failed });
        match recorded {
            Err(NotRecorded(reason)) if !forwards => Err(Refusal::busy(reason)),
            // The next hop has it: to send it again would be to have it twice there.
            _ => Ok(accepted),
        }
    }

    /// Sends one request to the next hop.
    async fn forward(&self, request: Request) -> Result<Accepted, Refusal> {
        let settings = self.settings();
        let Request { signal, encoding, bytes, metadata, deadline, claim } = request;
        let Some(forwarder) = &settings.forwarder else {
            return Err(Refusal::unimplemented(format!("{} are not passed on: there is no next hop", signal.name())));
        };
        let mut rejected = None;
        let (bytes, encoding) = match (encoding, signal) {
            (Encoding::Json, Signal::Traces) if !forwarder.takes_json() => {
                let (bytes, partial) = to_protobuf(&bytes)?;
                rejected = partial;
                (bytes, Encoding::Protobuf)
            }
            (Encoding::Json, _) if !forwarder.takes_json() => {
                let text = format!(
                    "the next hop speaks gRPC, and only traces are told anew for it: send {} as protobuf",
                    signal.name()
                );
                return Err(Refusal::http(hyper::StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
            }
            _ => (bytes, encoding),
        };
        let bytes = if signal == Signal::Traces {
            match self.correct(bytes, encoding, settings.mode)? {
                Some(bytes) => bytes,
                // Nothing to send on.
                None => return Ok(rejected),
            }
        } else if bytes.is_empty() {
            return Ok(None);
        } else {
            bytes
        };
        let sent = forwarder.send(Outgoing { signal, encoding, bytes, metadata, deadline }).await;
        drop(claim);
        Ok(together(rejected, sent?))
    }

    /// The spans of a record.
    fn understood(encoding: Encoding, bytes: &[u8]) -> Result<Payload<'_>, Refusal> {
        let invalid = |error: otlp::Malformed| Refusal::invalid(format!("not OTLP: {error}"));
        let payload = otlp::locate(encoding, bytes).map_err(invalid)?;
        if payload.is_foreign && payload.spans.is_empty() {
            return Err(Refusal::invalid(FOREIGN));
        }
        Ok(payload)
    }

    /// What becomes of the spans of a record that arrives now.
    fn passed(&self, payload: &Payload<'_>, mode: Mode) -> Passed {
        let arrival = now();
        let (published, found) = self.find(payload, arrival);
        live::pass(payload, &published, &found, arrival, mode)
    }

    /// A record of spans at their new times; `None` where it has no span.
    fn correct(&self, bytes: Bytes, encoding: Encoding, mode: Mode) -> Result<Option<Bytes>, Refusal> {
        let payload = Self::understood(encoding, &bytes)?;
        if payload.spans.is_empty() {
            return Ok(None);
        }
        let Passed { edits, tally, calls } = self.passed(&payload, mode);
        self.metrics.passed(&tally);
        if !calls.is_empty() {
            self.watch().add(now().nanos(), &calls);
        }
        if edits.is_empty() {
            return Ok(Some(bytes));
        }
        if let Some(times) = otlp::overwrites(&payload, &edits) {
            drop(payload);
            let mut bytes = Vec::from(bytes);
            otlp::overwrite(encoding, &mut bytes, &times);
            return Ok(Some(bytes.into()));
        }
        let mut out = Vec::with_capacity(bytes.len() + MARKS_BYTES * edits.len());
        otlp::rewrite(&payload, &edits, &mut out);
        Ok(Some(out.into()))
    }

    /// Looks clocks up under the lock that publishing takes, so that what is published next knows of these spans.
    fn find(&self, payload: &Payload<'_>, arrival: ReferenceTime) -> (Arc<Published>, Vec<Arc<Found>>) {
        let published = self.published.read().unwrap_or_else(PoisonError::into_inner);
        let found = published.find(payload, arrival);
        (Arc::clone(&published), found)
    }
}

/// Counts a request while it is on its way, also where it is given up.
struct Passing<'a>(&'a AtomicU64);

impl<'a> Passing<'a> {
    fn of(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

const FOREIGN: &str = "JSON, but not OTLP's: there is no resourceSpans";

/// Room for the marks of a span.
const MARKS_BYTES: usize = 160;

/// JSON as protobuf, and what of it is rejected: spans with a field that holds what protobuf cannot.
fn to_protobuf(bytes: &[u8]) -> Result<(Bytes, Option<Partial>), Refusal> {
    let encoded =
        |bytes: &[u8]| otlp::json::decode(bytes).map(|data| Bytes::from(prost::Message::encode_to_vec(&data)));
    match encoded(bytes) {
        // A record of another kind is empty to one who passes over keys that are not OTLP's.
        Ok(encoded) if encoded.is_empty() && otlp::json::scan(bytes).is_ok_and(|payload| payload.is_foreign) => {
            Err(Refusal::invalid(FOREIGN))
        }
        Ok(encoded) => Ok((encoded, None)),
        Err(malformed) => {
            let invalid = || Refusal::invalid(format!("not OTLP: {malformed}"));
            let (kept, rejected) = otlp::json::that_can_be_told(bytes).ok_or_else(invalid)?;
            let (message, rejected) = (rejected.first, i64::try_from(rejected.count).unwrap_or(i64::MAX));
            Ok((encoded(&kept).map_err(|_| invalid())?, Some(Partial { rejected, message })))
        }
    }
}

/// The stage's own clock, which is taken for the reference's but for a second.
pub fn now() -> ReferenceTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    ReferenceTime::from_nanos(since.as_nanos().try_into().unwrap_or(i64::MAX))
}
