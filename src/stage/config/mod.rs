//! The configuration of `unskew serve`: YAML in the OpenTelemetry Collector's manner.
//!
//! A text, flags and a look-up of environment variables come in; a [`Config`] goes out, or all that is wrong with it,
//! each with the path of its key. Nothing is opened here: certificates, tokens and models are named by their paths.
//! Keys are a Collector's where a Collector has them, with its defaults; what it has and we have not is refused with what
//! to do instead (`answers.rs`), and a key that nobody knows with the nearest that somebody does.

mod address;
mod answers;
mod auth;
mod duration;
mod expand;
mod flags;
mod listeners;
mod next_hop;
mod otel;
mod pipelines;
mod problems;
mod processing;
mod read;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod tree;

pub use address::{Address, Listen};
pub use auth::{Bearer, Secret, Tokens};
pub use duration::parse_duration;
pub use flags::Flags;
pub use listeners::{Grpc, Http, Keepalive, Listeners};
pub use next_hop::{Compression, NextHop, Target, Urls};
pub use problems::{Problem, Problems, What};
pub use processing::{Mode, Processing, Recording};
pub use telemetry::{Admin, LogEncoding, LogLevel, Logs};
pub use tls::{ClientTls, KeyPair, Pem, ServerTls, TlsVersion, TlsVersions};

use auth::Extensions;
use pipelines::{Components, Configured, Route, kind};
use problems::Found;
use read::Section;
use tree::Tree;

/// What a variable holds, if it is set.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// All that a stage is told. Secrets are not shown by `{:?}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub listeners: Listeners,
    pub processing: Processing,
    /// None: requests are only recorded.
    pub next_hop: Option<NextHop>,
    pub admin: Admin,
    pub logs: Logs,
}

impl Config {
    /// A file, under what flags say. Without a file, listeners are at their defaults, and the next hop comes from
    /// `--forward` or `OTEL_EXPORTER_OTLP_*`.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn of(text: Option<&str>, flags: &Flags, env: Env<'_>) -> Result<Self, Problems> {
        let found = Found::default();
        match read(text, flags, env, &found) {
            Some(config) if found.is_empty() => Ok(config),
            _ => Err(found.into()),
        }
    }

    /// One line: where it listens, where it sends, what it does.
    pub fn summary(&self) -> String {
        let listens: Vec<String> =
            self.listeners.addresses().map(|(protocol, address)| format!("{address} ({protocol})")).collect();
        let forwards = self.next_hop.iter().map(|next_hop| format!("forwards to {}", next_hop.target));
        let records = self.processing.recording.iter().map(|to| format!("records in {}", to.out.display()));
        let goes: Vec<String> = forwards.chain(records).collect();
        let mode = self.processing.mode.word();
        format!("listens at {}; {}; mode {mode}", listens.join(" and "), goes.join(" and "))
    }
}

fn read(text: Option<&str>, flags: &Flags, env: Env<'_>, found: &Found) -> Option<Config> {
    let tree = text.map_or(Some(Tree::Null), |text| expand::tree(text, env, found))?;
    let mut root = Section::of(tree, "", found)?;
    root.refuse(answers::TOP);
    let extensions = Extensions::read(&mut root);
    let (receivers, listeners) = receivers(&mut root, &extensions);
    let (processors, processing) = processors(&mut root, flags);
    let (exporters, next_hops) = exporters(&mut root, &extensions);
    let components = Components { receivers, processors, exporters };

    let mut service = root.section("service");
    if let Some(service) = &mut service {
        extensions.check_listed(&service.texts("extensions"), found);
    }
    let route = pipelines::read(service.as_mut(), &components, processing.recording.is_some(), found);
    let (admin, logs) = telemetry::read(service.as_mut(), &extensions, flags);

    let mut listeners = match &route.receiver {
        Some(id) => listeners.into_iter().find(|(known, _)| known == id)?.1,
        None if text.is_none() => Listeners::default(),
        None => Listeners { grpc: None, http: None },
    };
    listeners.set(flags);
    let next_hop = match (&flags.forward, &route.exporter) {
        (None, Some(id)) => Some(next_hops.into_iter().find(|(known, _)| known == id)?.1?),
        (forward, _) => otel::next_hop(forward.as_deref(), env, found),
    };
    if next_hop.is_none() && processing.recording.is_none() {
        if found.is_empty() {
            found.wrong("exporters", answers::NO_NEXT_HOP);
        }
        return None;
    }
    check_signals(&route, &processing, next_hop.as_ref(), found);
    let config = Config { next_hop, listeners, processing, admin, logs };
    // What is half read would be told twice.
    if found.is_empty() {
        check(&config, found);
    }
    Some(config)
}

type Read<T> = (Configured, Vec<(String, T)>);

fn receivers(root: &mut Section<'_>, extensions: &Extensions) -> Read<Listeners> {
    let (mut configured, mut read) = (Configured::default(), Vec::new());
    for (id, tree) in root.named("receivers") {
        let path = format!("receivers.{id}");
        let is_ours = kind(&id) == "otlp";
        if !is_ours {
            root.found.not_supported(path, answers::receiver(kind(&id)));
        } else if let Some(section) = Section::of(tree, &path, root.found) {
            read.push((id.clone(), Listeners::read(section, extensions)));
        }
        configured.add(id, is_ours);
    }
    (configured, read)
}

fn exporters(root: &mut Section<'_>, extensions: &Extensions) -> Read<Option<NextHop>> {
    let (mut configured, mut read) = (Configured::default(), Vec::new());
    for (id, tree) in root.named("exporters") {
        configured.add(id.clone(), next_hop::is_ours(&id));
        read.push((id.clone(), NextHop::read(&id, tree, extensions, root)));
    }
    (configured, read)
}

fn processors(root: &mut Section<'_>, flags: &Flags) -> (Configured, Processing) {
    let mut configured = Configured::default();
    let mut ours = None;
    for (id, tree) in root.named("processors") {
        let path = format!("processors.{id}");
        let is_ours = id == "unskew";
        if is_ours {
            ours = Section::of(tree, &path, root.found);
        } else if kind(&id) == "unskew" {
            root.found.not_supported(path, answers::OWN_NAME);
        } else {
            root.found.not_supported(path, answers::PROCESSOR);
        }
        configured.add(id, is_ours);
    }
    // Flags and defaults speak where the file is silent.
    let section = ours.unwrap_or_else(|| Section::empty("processors.unskew", root.found));
    (configured, Processing::read(section, flags))
}

/// Pipelines whose signal cannot be passed on. Signals without one are passed on all the same: what is refused is lost.
fn check_signals(route: &Route, processing: &Processing, next_hop: Option<&NextHop>, found: &Found) {
    for signal in route.signals.iter().flatten() {
        let path = format!("service.pipelines.{signal}");
        let has_url = match next_hop.map(|next_hop| &next_hop.target) {
            Some(Target::Grpc(_)) => true,
            Some(Target::Http(urls)) => urls.of(signal).is_some(),
            None if signal == "traces" => true,
            None => {
                found.wrong(&path, "has nowhere to go: `out` records traces alone, and there is no exporter");
                continue;
            }
        };
        if signal != "traces" && processing.traces_only {
            found.wrong(&path, "is there, and processors.unskew.traces_only is true: take one away");
        } else if !has_url {
            found.wrong(
                &path,
                format!("the next hop has no URL for it: give the exporter `endpoint` or `{signal}_endpoint`"),
            );
        }
    }
}

/// What no key is wrong in by itself.
fn check(config: &Config, found: &Found) {
    let addresses: Vec<_> = config.listeners.addresses().collect();
    if addresses.is_empty() {
        found.wrong("receivers", "no listener: write `otlp: {protocols: {grpc: , http: }}`");
    }
    if let [(_, grpc), (_, http)] = &addresses[..]
        && grpc.answers_to(http)
    {
        found.wrong("receivers", format!("gRPC and HTTP cannot share {http}"));
    }
    for (protocol, address) in &addresses {
        if address.answers_to(&config.admin.address) {
            found.wrong("service.telemetry.metrics.address", format!("{address} is {protocol}'s already"));
        }
        let target = config.next_hop.as_ref().map(|next_hop| &next_hop.target);
        if let Some(target) = target.filter(|it| it.address().is_some_and(|target| address.answers_to(&target))) {
            found.wrong("exporters", format!("{target} is our own listener: requests would go round for ever"));
        }
    }
    let knows = config.processing.models.is_some() || config.processing.recording.is_some();
    if config.processing.mode != Mode::Observe && !knows {
        let text = "nothing to correct by: give the output folder of `unskew fix`, or `out` to learn from what passes, or stay with `mode: observe`";
        found.wrong("processors.unskew.models", text);
    }
    if config.processing.mode != Mode::Observe && config.next_hop.is_none() {
        let text =
            "without a next hop requests are recorded as they came: give an exporter, or stay with `mode: observe`";
        found.wrong("processors.unskew.mode", text);
    }
    if !config.processing.metadata_keys.is_empty() && config.listeners.excludes_metadata() {
        let text = "a listener has `include_metadata: false`, so there is none to pass on: take one away";
        found.wrong("processors.unskew.metadata_keys", text);
    }
}
