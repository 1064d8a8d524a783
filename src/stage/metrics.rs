//! What the stage says of itself, as Prometheus reads it (OpenMetrics text).

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::answer::{Accepted, Refusal};
use super::budget::Budget;
use super::request::Signal;
use crate::live::{OUTCOMES, RESETS, Resets, Tally};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Grpc,
    Http,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The next hop accepted all of it.
    Accepted,
    /// But for some of it, or with a warning.
    Partial,
    /// Nobody took it, and it is to be sent again.
    Retryable,
    /// Nobody took it, and nobody will.
    Refused,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Partial => "partial",
            Self::Retryable => "retryable",
            Self::Refused => "refused",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    signal: &'static str,
    transport: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

/// What became of a request that was to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    Written,
    /// It was there already, byte for byte.
    Repeated,
    Failed,
}

impl Recorded {
    fn name(self) -> &'static str {
        match self {
            Self::Written => "recorded",
            Self::Repeated => "repeated",
            Self::Failed => "failed",
        }
    }
}

/// Counters of a running stage.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<RequestLabels, Counter>,
    /// In the order of [`OUTCOMES`].
    spans: [Counter; OUTCOMES.len()],
    pairs: Arc<Recent>,
    reloads: Family<ResultLabel, Counter>,
    recordings: Family<ResultLabel, Counter>,
    windows: Family<ResultLabel, Counter>,
    waiting: Gauge,
    resets: Family<WhyLabel, Counter>,
    held: Counter,
    fell_back: Gauge,
}

impl Metrics {
    pub fn of(budget: Arc<Budget>) -> Self {
        let mut registry = Registry::with_prefix("unskew");
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register("requests", "Requests by what the sender was told", requests.clone());
        let of_outcome = Family::<OutcomeLabel, Counter>::default();
        registry.register("spans", "Spans of traces by what became of them, each time they came", of_outcome.clone());
        let spans = OUTCOMES.map(|(_, outcome)| of_outcome.get_or_create(&OutcomeLabel { outcome }).clone());
        let reloads = Family::<ResultLabel, Counter>::default();
        let results = ["ok", "failed"].map(|result| ResultLabel { result });
        results.iter().for_each(|result| drop(reloads.get_or_create(result)));
        registry.register("reloads", "Times the configuration or the models were read again", reloads.clone());
        let recordings = Family::<ResultLabel, Counter>::default();
        // From the start, so that an increase is seen.
        let all = [Recorded::Written, Recorded::Repeated, Recorded::Failed];
        let results = all.map(|recorded| ResultLabel { result: recorded.name() });
        results.iter().for_each(|result| drop(recordings.get_or_create(result)));
        let text = "Requests of traces that were to be recorded, by what became of it";
        registry.register("recordings", text, recordings.clone());
        let windows = Family::<ResultLabel, Counter>::default();
        let results = ["ok", "failed"].map(|result| ResultLabel { result });
        results.iter().for_each(|result| drop(windows.get_or_create(result)));
        registry.register("windows", "Windows of what was recorded, by what became of them", windows.clone());
        let waiting = Gauge::default();
        registry.register("windows_waiting", "Windows that have ended and have no tables yet", waiting.clone());
        let resets = Family::<WhyLabel, Counter>::default();
        RESETS.iter().for_each(|why| drop(resets.get_or_create(&WhyLabel { why })));
        registry.register("model_resets", "Clocks whose correction changed at once, by why", resets.clone());
        let held = Counter::default();
        let text = "Clocks that were left alone as moving them put calls out of order";
        registry.register("clocks_held", text, held.clone());
        let fell_back = Gauge::default();
        let text = "Whether nothing is corrected, as that put calls out of order";
        registry.register("fell_back", text, fell_back.clone());
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Which program this is", version);
        let pairs = Arc::new(Recent::default());
        registry.register_collector(Box::new(Shown { budget, pairs: Arc::clone(&pairs) }));
        Self {
            registry: Mutex::new(registry),
            requests,
            spans,
            pairs,
            reloads,
            recordings,
            windows,
            waiting,
            resets,
            held,
            fell_back,
        }
    }

    /// Has more told when metrics are asked for.
    pub fn with(&self, collector: Box<dyn Collector>) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register_collector(collector);
    }

    pub fn passed(&self, tally: &Tally) {
        for (counter, count) in self.spans.iter().zip(tally.spans).filter(|(_, count)| *count > 0) {
            counter.inc_by(count);
        }
        if tally.pairs > 0 {
            self.pairs.add(Instant::now(), [tally.pairs, tally.out_of_order[0], tally.out_of_order[1]]);
        }
    }

    pub fn answered(&self, signal: Signal, transport: Transport, answered: &Result<Accepted, Refusal>) {
        let outcome = match answered {
            Ok(None) => Outcome::Accepted,
            Ok(Some(_)) => Outcome::Partial,
            Err(refusal) if refusal.is_retryable() => Outcome::Retryable,
            Err(_) => Outcome::Refused,
        };
        self.refused(signal, transport, outcome);
    }

    /// Counts a request that came to this.
    pub fn refused(&self, signal: Signal, transport: Transport, outcome: Outcome) {
        let labels = RequestLabels { signal: signal.name(), transport: transport.name(), outcome: outcome.name() };
        self.requests.get_or_create(&labels).inc();
    }

    pub fn reloaded(&self, succeeded: bool) {
        let result = if succeeded { "ok" } else { "failed" };
        self.reloads.get_or_create(&ResultLabel { result }).inc();
    }

    pub fn recorded(&self, recorded: Recorded) {
        self.recordings.get_or_create(&ResultLabel { result: recorded.name() }).inc();
    }

    pub fn window_done(&self, succeeded: bool) {
        let result = if succeeded { "ok" } else { "failed" };
        self.windows.get_or_create(&ResultLabel { result }).inc();
    }

    /// So many clocks are left alone from now on.
    pub fn clocks_held(&self, count: usize) {
        self.held.inc_by(count as u64);
    }

    pub fn fell_back(&self, has: bool) {
        self.fell_back.set(i64::from(has));
    }

    /// Models followed others.
    pub fn models_reset(&self, resets: &Resets) {
        for (why, count) in resets {
            self.resets.get_or_create(&WhyLabel { why }).inc_by(*count);
        }
    }

    /// How many windows wait, beside the one that is written.
    pub fn windows_waiting(&self, count: usize) {
        self.waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// All of it, as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = encode(&mut text, &registry) {
            // Writing to memory does not fail.
            let _ = write!(text, "# {error}\n# EOF\n");
        }
        text
    }
}

/// Sums over the last minute, second by second.
#[derive(Default)]
struct Recent(Mutex<VecDeque<(Instant, [u64; 3])>>);

const MINUTE: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);

impl Recent {
    fn add(&self, now: Instant, counts: [u64; 3]) {
        let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while seconds.front().is_some_and(|(begun, _)| now.duration_since(*begun) > MINUTE) {
            seconds.pop_front();
        }
        match seconds.back_mut().filter(|(begun, _)| now.saturating_duration_since(*begun) < SECOND) {
            Some((_, sums)) => sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count),
            None => seconds.push_back((now, counts)),
        }
    }

    fn sum(&self, now: Instant) -> [u64; 3] {
        let seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = seconds.iter().filter(|(begun, _)| now.saturating_duration_since(*begun) <= MINUTE);
        recent.fold([0; 3], |sums, (_, counts)| std::array::from_fn(|index| sums[index] + counts[index]))
    }
}

/// What is looked up when it is asked for.
struct Shown {
    budget: Arc<Budget>,
    pairs: Arc<Recent>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Shown")
    }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let held = i64::try_from(self.budget.held()).unwrap_or(i64::MAX);
        gauge(&mut encoder, "in_flight_bytes", "Bytes of requests that wait for the next hop", held)?;
        let [pairs, before, after] = self.pairs.sum(Instant::now());
        let help = "Calls between two clocks in the last minute, both spans in one request";
        gauge(&mut encoder, "pairs_seen", help, pairs as i64)?;
        let help = "Of these, calls whose server starts before its client: as they came, and as they left";
        let family = Family::<[(&str, &str); 1], Gauge>::default();
        family.get_or_create(&[("when", "before")]).set(before as i64);
        family.get_or_create(&[("when", "after")]).set(after as i64);
        let descriptor = encoder.encode_descriptor("pairs_out_of_order", help, None, family.metric_type())?;
        family.encode(descriptor)
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    let descriptor = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_is_all_that_is_summed() {
        let (recent, began) = (Recent::default(), Instant::now());
        recent.add(began, [4, 2, 1]);
        recent.add(began + SECOND / 2, [4, 2, 1]);
        recent.add(began + 40 * SECOND, [1, 1, 0]);
        assert_eq!(recent.sum(began + 41 * SECOND), [9, 5, 2]);
        assert_eq!(recent.sum(began + 80 * SECOND), [1, 1, 0]);
        assert_eq!(recent.sum(began + 200 * SECOND), [0, 0, 0]);
    }

    #[test]
    fn outcomes_have_one_name_in_counters_and_places() {
        let metrics = Metrics::of(Budget::of(1));
        let mut tally = Tally::default();
        tally.spans[crate::live::Outcome::Capped as usize] = 3;
        metrics.passed(&tally);
        let text = metrics.text();
        assert!(text.contains("unskew_spans_total{outcome=\"capped\"} 3"), "{text}");
        for (place, (outcome, _)) in OUTCOMES.iter().enumerate() {
            assert_eq!(*outcome as usize, place);
        }
    }
}
