//! The stage from start to end: listen, pass requests on, read again what is changed, stop in peace.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{interval, timeout};

use super::admin::Admin;
use super::auth::Gate;
use super::budget::Budget;
use super::clocks::{Shown, clocks};
use super::config::{self, Address, Config};
use super::forward::Forwarder;
use super::learner::{Learner, Sets};
use super::log::Recorder;
use super::metrics::Metrics;
use super::receive::{GrpcService, HttpService, Patience, accept};
use super::relay::{Relay, Settings, now};
use super::tls;
use super::windows::Windows;
use super::workers::Workers;
use crate::live::{Limits, Mode, Published};
use crate::run;

/// How the configuration is read, at the start and again.
pub type Read<'a> = &'a dyn Fn() -> Result<Config>;

/// What a stage came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Requests that were cut off as the time to drain was over.
    pub cut_off: u64,
}

/// Runs until it is told to stop.
///
/// # Errors
/// Where it cannot begin: an address is taken, a file cannot be read.
pub fn serve(config: Config, read: Read<'_>) -> Result<Served> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(config, read))
}

async fn run(mut config: Config, read: Read<'_>) -> Result<Served> {
    let (mut hangup, mut end, mut interrupt) =
        (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut source = Source::of(config.processing.models.as_deref());
    let models = source.read()?;
    let sets = config.processing.recording.as_ref().map(|recording| Sets::below(&recording.out));
    // What was learnt goes on from what was given.
    let learnt = sets.as_ref().map_or_else(Vec::new, |sets| {
        // Of another version, or spoilt: no reason to receive nothing.
        sets.last().unwrap_or_else(|error| {
            tracing::warn!("{error:#}; clocks are learnt anew");
            Vec::new()
        })
    });
    let first = if learnt.is_empty() { models.into_iter().collect() } else { learnt };
    let published = Published::of(first, &limits(&config));
    let budget = Budget::of(in_flight(&config));
    let metrics = Arc::new(Metrics::of(Arc::clone(&budget)));
    let (told, ended) = std::sync::mpsc::channel();
    let recorder = config.processing.recording.as_ref().map(|to| Recorder::open(to, told)).transpose()?;
    let settings = settings(&config, None)?;
    let relay = Arc::new(Relay::of(settings, published, recorder, (budget, Arc::clone(&metrics))));
    let windows = config.processing.recording.as_ref().zip(sets).map(|(recording, sets)| {
        let learner = Learner::of(sets, Arc::clone(&relay), Arc::clone(&metrics));
        Windows::start(recording, ended, learner, Arc::clone(&metrics))
    });
    let windows = windows.transpose()?;
    metrics.with(Box::new(Shown(Arc::clone(&relay))));

    let (stop, stopped) = watch::channel(false);
    let (changed, watched) = watch::channel(0);
    let (open, mut closed) = mpsc::channel(1);
    let draining = Arc::new(AtomicBool::new(false));
    let workers = Arc::new(Workers::start()?);
    listen(&config, &relay, &workers, (&stopped, &open)).await?;
    let (admin_stop, admin_stopped) = watch::channel(false);
    let admin = admin(&config, &relay, Arc::clone(&draining), watched)?;
    let (admin_open, _admin_closed) = mpsc::channel(1);
    let address = bind(&config.admin.address).await?;
    tracing::info!(address = %config.admin.address, "admin port open");
    tokio::spawn(accept(address, None, Patience::default(), admin, Arc::clone(&workers), admin_stopped, admin_open));
    tell(&config, &relay);

    let (mut look, mut expired) = (interval(LOOK), 0);
    loop {
        tokio::select! {
            _ = end.recv() => break,
            _ = interrupt.recv() => break,
            Some(()) = hangup.recv() => {
                let done = again(&mut config, read, &relay, &mut source);
                metrics.reloaded(done.is_ok());
                match done {
                    Ok(()) => tell(&config, &relay),
                    Err(error) => tracing::error!("{error:#}; the configuration stays as it was"),
                }
                changed.send_modify(|count| *count += 1);
            }
            _ = look.tick() => {
                if source.has_changed() {
                    let done = publish(&relay, &mut source, &limits(&config));
                    metrics.reloaded(done.is_ok());
                    if let Err(error) = done {
                        tracing::error!("{error:#}; the models stay as they were");
                    }
                    changed.send_modify(|count| *count += 1);
                }
                tell_of_expiry(&relay, &mut expired);
                if config.processing.auto_observe {
                    stop_harm(&relay);
                }
            }
        }
    }

    tracing::info!("stopping: no new connections, and what was begun is finished");
    let began = Instant::now();
    draining.store(true, Ordering::Relaxed);
    stop.send_replace(true);
    drop(open);
    let ended = drained(config.processing.drain_timeout, &mut closed, (&mut end, &mut interrupt)).await;
    let cut_off = if ended { 0 } else { relay.give_up() };
    if !ended {
        // For the answers to leave.
        let _ = timeout(LOOK, closed.recv()).await;
    }
    relay.close().await;
    if let Some(windows) = windows {
        windows.finish(config.processing.drain_timeout.saturating_sub(began.elapsed()));
    }
    admin_stop.send_replace(true);
    Ok(Served { cut_off })
}

/// Whether all connections ended in time, and before a second signal.
async fn drained(
    patience: Duration,
    closed: &mut mpsc::Receiver<()>,
    (end, interrupt): (&mut Signal, &mut Signal),
) -> bool {
    tokio::select! {
        ended = timeout(patience, closed.recv()) => ended.is_ok(),
        _ = end.recv() => false,
        _ = interrupt.recv() => false,
    }
}

/// How often the file of models is looked at.
const LOOK: Duration = Duration::from_secs(1);

fn limits(config: &Config) -> Limits {
    let nanos = |length: Duration| i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
    Limits {
        max_age_ns: nanos(config.processing.models_max_age),
        max_correction_ns: nanos(config.processing.max_correction),
        leave_alone: config.processing.leave_alone.clone(),
    }
}

fn in_flight(config: &Config) -> usize {
    usize::try_from(config.processing.max_in_flight_bytes).unwrap_or(usize::MAX)
}

fn mode(config: &Config) -> Mode {
    match config.processing.mode {
        config::Mode::Observe => Mode::Observe,
        config::Mode::Annotate => Mode::Annotate,
        config::Mode::Correct => Mode::Correct,
    }
}

/// A forwarder is kept where its next hop is the same: connections are.
fn settings(config: &Config, known: Option<&Settings>) -> Result<Settings> {
    let known = known.and_then(|known| known.forwarder.as_ref());
    let forwarder = match (&config.next_hop, known) {
        (Some(next_hop), Some(known)) if known.next_hop() == next_hop => Some(Arc::clone(known)),
        (Some(next_hop), _) => Some(Arc::new(Forwarder::to(next_hop)?)),
        (None, _) => None,
    };
    let metadata = config.processing.metadata_keys.clone();
    let traces_only = config.processing.traces_only;
    Ok(Settings { mode: mode(config), fell_back: false, forwarder, traces_only, metadata })
}

async fn bind(address: &Address) -> Result<TcpListener> {
    let (host, port) = (address.host.as_str(), address.port);
    TcpListener::bind((host, port)).await.with_context(|| format!("cannot listen at {address}"))
}

async fn listen(
    config: &Config,
    relay: &Arc<Relay>,
    workers: &Arc<Workers>,
    (stopped, open): (&watch::Receiver<bool>, &mpsc::Sender<()>),
) -> Result<()> {
    if let Some(grpc) = &config.listeners.grpc {
        let tls = grpc.tls.as_ref().map(|tls| tls::server(tls, &["h2"])).transpose()?;
        let keepalive = &grpc.keepalive;
        let patience = Patience {
            idle: keepalive.max_connection_idle,
            age: keepalive.max_connection_age,
            age_grace: keepalive.max_connection_age_grace,
            ping: Some((keepalive.time, keepalive.timeout)),
            head: None,
            most_streams: grpc.max_concurrent_streams,
        };
        let gate = Gate::of(grpc.auth.as_ref())?;
        let service = GrpcService::of(Arc::clone(relay), gate, grpc);
        let listener = bind(&grpc.address).await?;
        tracing::info!(address = %grpc.address, tls = tls.is_some(), "OTLP over gRPC is received");
        tokio::spawn(accept(listener, tls, patience, service, Arc::clone(workers), stopped.clone(), open.clone()));
    }
    if let Some(http) = &config.listeners.http {
        let tls = http.tls.as_ref().map(|tls| tls::server(tls, &["h2", "http/1.1"])).transpose()?;
        // A whole request is no shorter than its head.
        let head = [http.read_header_timeout, http.read_timeout].into_iter().flatten().min();
        let patience = Patience { idle: http.idle_timeout, head, ..Patience::default() };
        let gate = Gate::of(http.auth.as_ref())?;
        let service = HttpService::of(Arc::clone(relay), gate, http);
        let listener = bind(&http.address).await?;
        tracing::info!(address = %http.address, tls = tls.is_some(), "OTLP over HTTP is received");
        tokio::spawn(accept(listener, tls, patience, service, Arc::clone(workers), stopped.clone(), open.clone()));
    }
    Ok(())
}

fn admin(
    config: &Config,
    relay: &Arc<Relay>,
    draining: Arc<AtomicBool>,
    changed: watch::Receiver<u64>,
) -> Result<Admin> {
    let gate = Gate::of(config.admin.auth.as_ref())?;
    let serves_clocks = config.admin.auth.is_some() || config.admin.address.is_local();
    Ok(Admin::of(Arc::clone(relay), gate, serves_clocks, draining, changed))
}

/// What is done from now on; to someone who has only looked so far, how to begin.
fn tell(config: &Config, relay: &Relay) {
    let clocks = relay.published().eras.last().map_or(0, |era| era.models.clocks.len());
    let mode = config.processing.mode.word();
    let forward = config.next_hop.as_ref().map(|next_hop| tracing::field::display(&next_hop.target));
    let record = config.processing.recording.as_ref().map(|to| tracing::field::display(to.out.display()));
    tracing::info!(mode, clocks, forward, record, "ready");
    if config.next_hop.is_none() {
        return;
    }
    match (config.processing.mode, &config.processing.models) {
        _ if config.processing.recording.is_some() => {
            tracing::info!("clocks are learnt from what is recorded, window by window");
        }
        (config::Mode::Observe, None) => tracing::info!(
            "nothing is corrected: run `unskew fix` over a dump of this traffic, then give its --out as `models` and set `mode: correct`"
        ),
        (config::Mode::Observe, Some(_)) => {
            tracing::info!("nothing is corrected: /metrics and /clocks say what would be; `mode: correct` begins");
        }
        _ => {}
    }
}

/// Lets pass unmoved what corrections leave more out of order than it came: clocks until their next models, and where all of them
/// together do harm, everything until the configuration is read again.
fn stop_harm(relay: &Relay) {
    let harm = relay.harm();
    let published = relay.published();
    let Some(newest) = published.eras.last() else { return };
    if !harm.clocks.is_empty() {
        let names: Vec<&str> = harm.clocks.iter().map(|clock| newest.models.clock(*clock).0.name.as_str()).collect();
        let clocks = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        tracing::warn!(
            clocks = names.len(),
            "their calls are more out of order after they are moved than before: left alone until their next models ({clocks})"
        );
        let is_newest =
            |current: &Published| current.eras.last().is_some_and(|era| Arc::ptr_eq(&era.models, &newest.models));
        if relay.publish_if(|current| is_newest(current).then(|| current.holding(&harm.clocks))) {
            relay.metrics.clocks_held(names.len());
        }
    } else if harm.all && !relay.settings().fell_back {
        tracing::error!(
            "calls are more out of order behind this stage than before it: nothing is corrected until SIGHUP (auto_observe)"
        );
        let settings = relay.settings();
        let (forwarder, metadata) = (settings.forwarder.clone(), settings.metadata.clone());
        let traces_only = settings.traces_only;
        relay.metrics.fell_back(true);
        relay.set(Settings { mode: Mode::Observe, fell_back: true, forwarder, traces_only, metadata });
    }
}

/// Says so when models get too old to correct by, or others come.
fn tell_of_expiry(relay: &Relay, before: &mut usize) {
    let clocks = clocks(&relay.published(), "", now()).clocks;
    let expired: Vec<&str> =
        clocks.iter().filter(|clock| clock.spans == "model_expired").map(|clock| clock.clock.as_str()).collect();
    if expired.len() > *before {
        let some = expired.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        tracing::warn!(
            clocks = expired.len(),
            "models are too old, and their spans pass unmoved ({some}): run `fix` again"
        );
    }
    *before = expired.len();
}

/// Reads configuration and models again. Nothing is changed where any of it is bad.
fn again(config: &mut Config, read: Read<'_>, relay: &Relay, source: &mut Source) -> Result<()> {
    let next = read()?;
    let settings = settings(&next, Some(&relay.settings()))?;
    let mut from = if next.processing.models == config.processing.models {
        source.clone()
    } else {
        Source::of(next.processing.models.as_deref())
    };
    publish(relay, &mut from, &limits(&next))?;
    *source = from;
    relay.set(settings);
    relay.metrics.fell_back(false);
    relay.budget.limit(in_flight(&next));
    if (&next.listeners, &next.admin) != (&config.listeners, &config.admin) {
        tracing::warn!("listeners and admin port stay as they are until the program is started again");
    }
    if next.processing.recording != config.processing.recording {
        tracing::warn!("what is recorded stays as it is until the program is started again");
    }
    *config = next;
    Ok(())
}

fn publish(relay: &Relay, source: &mut Source, limits: &Limits) -> Result<()> {
    let models = source.read_changed()?;
    relay.publish(|published| match models {
        Some(models) => published.limited(limits).followed_by(models, now()),
        None => published.limited(limits),
    });
    Ok(())
}

/// Where models come from, and what they were when they were read last.
#[derive(Clone, Debug)]
struct Source {
    path: Option<PathBuf>,
    stamp: Option<(SystemTime, u64)>,
    bytes: Vec<u8>,
}

impl Source {
    fn of(path: Option<&Path>) -> Self {
        Self { path: path.map(Path::to_owned), stamp: None, bytes: Vec::new() }
    }

    /// When the file was written, and its length; `None` where it is not there.
    fn stamp(&self) -> Option<(SystemTime, u64)> {
        let metadata = std::fs::metadata(run::models_file(self.path.as_ref()?)).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    /// A file that has gone is being replaced.
    fn has_changed(&self) -> bool {
        self.stamp().is_some_and(|stamp| Some(stamp) != self.stamp)
    }

    /// The models; `None` where none are asked for.
    fn read(&mut self) -> Result<Option<Arc<crate::models::Models>>> {
        let Some(path) = self.path.clone() else { return Ok(None) };
        // Before it is read: what is written meanwhile is read again.
        self.stamp = self.stamp();
        let (bytes, models) = run::models(&path).map_err(|error| anyhow!("models: {error:#}"))?;
        self.bytes = bytes;
        Ok(Some(Arc::new(models)))
    }

    /// The models, where they are others than before.
    fn read_changed(&mut self) -> Result<Option<Arc<crate::models::Models>>> {
        let before = self.bytes.clone();
        let models = self.read()?;
        Ok(models.filter(|_| self.bytes != before))
    }
}
