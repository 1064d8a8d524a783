//! What is done with spans: `processors.unskew`.

use std::path::PathBuf;
use std::time::Duration;

use hyper::header::HeaderName;

use super::flags::Flags;
use super::read::Section;

/// What is done with spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Pass every byte as it came, and report what would be done
    #[default]
    Observe,
    /// Leave times as they are, and add what they are off
    Annotate,
    /// Move spans to the times at which they happened
    Correct,
}

impl Mode {
    /// The word for it in a file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Annotate => "annotate",
            Self::Correct => "correct",
        }
    }
}

/// How spans are corrected, and what that may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processing {
    /// Default observe.
    pub mode: Mode,
    /// The output folder of `fix`, or a file of `unskew models`.
    pub models: Option<PathBuf>,
    /// How long a clock's model holds behind its last reading; default 1 h.
    pub models_max_age: Duration,
    /// Clocks whose spans pass as they are.
    pub leave_alone: Vec<String>,
    /// A clock that is further off passes as it is; default 24 h.
    pub max_correction: Duration,
    /// Requests that wait for the next hop, decompressed, in bytes; default 64 MiB.
    pub max_in_flight_bytes: u64,
    /// Metadata that is passed on; requests that differ in it are never merged.
    pub metadata_keys: Vec<HeaderName>,
    /// Metrics, logs and profiles are refused rather than passed on; default false.
    pub traces_only: bool,
    /// Clocks whose calls are more out of order after than before pass unmoved, and where all are, everything does; default true.
    pub auto_observe: bool,
    /// For what was begun to be finished after SIGTERM; default 20 s.
    pub drain_timeout: Duration,
    /// Where requests are recorded; nowhere unless given.
    pub recording: Option<Recording>,
}

/// Where requests that were acknowledged are recorded, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    pub out: PathBuf,
    /// How long one file is written; default 10 min.
    pub window: Duration,
    /// Spans after which the next begins earlier; default 1,000,000.
    pub window_spans: u64,
    /// How long before and after a window requests belong to its context; default 30 s.
    pub grace: Duration,
    /// How long a window's tables stay; default 7 days.
    pub keep: Duration,
    /// What tables and requests that have none yet may take together, in bytes; default 20 GiB.
    pub keep_bytes: u64,
    /// The clock that all others are measured against, for `fix`; the median of the machines unless given.
    pub reference: Option<String>,
}

impl Recording {
    fn read(section: &mut Section<'_>, flags: &Flags) -> Option<Self> {
        let out = flags.out.clone().or(section.text("out").map(PathBuf::from));
        let window = flags.window.or(section.duration("window"));
        let window_spans = flags.window_spans.or(section.count("window_spans", 100_000_000));
        let reference = flags.reference.clone().or(section.text("reference"));
        let grace = flags.grace.or(section.duration("grace"));
        let keep = flags.keep.or(section.duration("keep"));
        let keep_gib = flags.keep_gib.or(section.count("keep_gib", 1_000_000));
        if window.is_some_and(|window| window < Duration::from_secs(1)) {
            section.wrong("window", "is shorter than a second");
        }
        match out {
            Some(out) => Some(Self {
                out,
                window: window.unwrap_or(Duration::from_mins(10)),
                window_spans: window_spans.unwrap_or(1_000_000),
                grace: grace.unwrap_or(Duration::from_secs(30)),
                keep: keep.unwrap_or(Duration::from_hours(7 * 24)),
                keep_bytes: keep_gib.unwrap_or(20) << 30,
                reference,
            }),
            None => {
                if window.is_some()
                    || window_spans.is_some()
                    || grace.is_some()
                    || keep.is_some()
                    || keep_gib.is_some()
                    || reference.is_some()
                {
                    let text = "lacks: a window, a reference and what is kept are of what is recorded below it";
                    section.wrong("out", text);
                }
                None
            }
        }
    }
}

impl Processing {
    /// What the file says, if it says something, under what the flags say.
    pub(super) fn read(mut section: Section<'_>, flags: &Flags) -> Self {
        let models = section.text("models").map(PathBuf::from);
        let in_flight = section.mib("max_in_flight_mib");
        Self {
            mode: flags.mode.or(section.choice("mode")).unwrap_or_default(),
            models: flags.models.clone().or(models),
            models_max_age: flags
                .models_max_age
                .or(section.duration("models_max_age"))
                .unwrap_or(Duration::from_hours(1)),
            leave_alone: non_empty(&flags.leave_alone, section.texts("leave_alone")),
            max_correction: flags
                .max_correction
                .or(section.duration("max_correction"))
                .unwrap_or(Duration::from_hours(24)),
            max_in_flight_bytes: flags.max_in_flight_mib.map(|mib| mib << 20).or(in_flight).unwrap_or(64 << 20),
            metadata_keys: metadata_keys(&mut section, flags),
            traces_only: section.flag("traces_only").unwrap_or(false) || flags.traces_only,
            auto_observe: flags.auto_observe.or(section.flag("auto_observe")).unwrap_or(true),
            recording: Recording::read(&mut section, flags),
            drain_timeout: flags.drain_timeout.or(section.duration("drain_timeout")).unwrap_or(Duration::from_secs(20)),
        }
    }
}

fn non_empty(flag: &[String], file: Vec<String>) -> Vec<String> {
    if flag.is_empty() { file } else { flag.to_vec() }
}

fn metadata_keys(section: &mut Section<'_>, flags: &Flags) -> Vec<HeaderName> {
    let named = non_empty(&flags.metadata_keys, section.texts("metadata_keys"));
    let mut keys = Vec::new();
    for name in named {
        match name.parse::<HeaderName>() {
            // Of the connection rather than the request: a next hop would be told of another's.
            Ok(key) if TRANSPORT.contains(&key.as_str()) || key.as_str().starts_with("grpc-") => {
                section.wrong("metadata_keys", format!("`{key}` is the transport's own and cannot be passed on"));
            }
            Ok(key) => keys.push(key),
            Err(_) => section.wrong("metadata_keys", format!("`{name}` is no name of a header")),
        }
    }
    keys
}

/// Headers that each hop writes itself.
const TRANSPORT: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
