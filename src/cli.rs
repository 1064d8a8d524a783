//! The command line: what users type, and what they are told.

#![allow(clippy::disallowed_methods, reason = "this is where users type and are told")]

use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::run::{self, Usage};
use crate::score::{self, Gauge};
use crate::settings::{Annotate, Fix, Write, parse_duration, parse_size};
use crate::stage::{
    self,
    config::{Config, Flags, LogEncoding, LogLevel},
};
use crate::{io, report, simulate};

/// Clock-skew correction for distributed traces.
///
/// Reads OpenTelemetry spans, works out how far every host's clock is off over time from all calls between all hosts
/// together, and writes corrected traces and skew reports as Parquet.
#[derive(Parser)]
#[command(name = "unskew", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Fix(FixArgs),
    Report(ReportArgs),
    Models(ModelsArgs),
    Serve(Box<ServeArgs>),
    Validate(ValidateArgs),
    Simulate(SimulateArgs),
    Score(ScoreArgs),
}

/// Correct dumps.
///
/// Reads OTLP dumps as the Collector's file exporter writes them (JSON lines, length-prefixed protobuf, gzip, zstd;
/// told by content), and writes DIR/traces/*.parquet, DIR/skew/*.parquet and DIR/summary.json.
///
/// A clock is moved whole or left whole between two steps, and never so that more parents and children are out of order than
/// it found.
///
/// Exit status: 0 done; 1 something could not be read or written (named; the rest is done); 2 usage.
#[derive(Args)]
struct FixArgs {
    /// Files, folders, globs, or - for standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<String>,
    /// Folder of the output; one with an earlier run of ours is replaced whole
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How corrected spans leave; may be given several times
    #[arg(long, value_enum, default_values_t = [Write::Parquet])]
    write: Vec<Write>,
    /// Which spans carry marks that say by how much, how sure and why they were moved
    #[arg(long, value_enum, default_value_t = Annotate::Moved)]
    annotate: Annotate,
    /// The clock that all others are measured against: its name, key, or any identity attribute's value that is its own;
    /// unless given, the median of the machines, or one of two
    #[arg(long, value_name = "CLOCK")]
    reference: Option<String>,
    /// Go on from an earlier run, its folder or a file of its models: keys that it told apart stay apart, clocks keep their
    /// names, and all are measured from where it measured them; a --reference that has no spans is then passed over
    #[arg(long, value_name = "DIR|FILE")]
    after: Option<PathBuf>,
    /// Read this too, for what its calls tell of clocks and for parents of spans, but write nothing of it: what was sent just
    /// before and after; may be given several times
    #[arg(long, value_name = "INPUT")]
    context: Vec<String>,
    /// Attributes that say which clock a span was stamped by, tried in order; templates like {a}/{b} join several
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    clock_key: Vec<String>,
    /// Leave a clock that is further off than this alone, whole
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_correction: Option<i64>,
    /// Write skew tables and findings with what would move, and no traces
    #[arg(long)]
    dry_run: bool,
    /// For viewers that bear no span out of order: after all clocks are corrected, nudge single spans into their parents
    #[arg(long)]
    enforce_causality: bool,
    /// Also write skew/exchanges.parquet: the four readings of every exchange, used or why not
    #[arg(long)]
    exchanges: bool,
    /// Threads to work with; all that there are, unless given
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Skip, and count, records longer than this
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "1GiB")]
    max_record: u64,
    /// Write into a folder that holds other files
    #[arg(long)]
    force: bool,
    /// End when standard input does: with the stage that began this
    #[arg(long, hide = true)]
    while_stdin: bool,
}

/// What is wrong with which clock, before and after: the report of an earlier run.
///
/// Of a folder of windows, as `serve --out DIR` writes them, all windows are told as one history.
///
/// Exit status: 0 done; 1 there is no report, or a window could not be read (named; the rest is told); 2 usage.
#[derive(Args)]
struct ReportArgs {
    /// The output folder of `fix`, or of `serve`
    dir: PathBuf,
    /// For programs rather than people
    #[arg(long)]
    json: bool,
}

/// The clocks of a run as one message, for whoever corrects by them: a stage, or another program.
///
/// The message is unskew.v1.Models of proto/unskew/v1/models.proto; its bytes go to standard output.
#[derive(Args)]
struct ModelsArgs {
    /// The output folder of `fix`, or a file of such a message
    from: PathBuf,
}

/// Relay OTLP between Collectors, and correct spans as they pass.
///
/// Receives OTLP over gRPC and HTTP, corrects each span by its clock's model, forwards the request and tells its sender what
/// the next hop said: there is no queue, so nothing is acknowledged that the next hop has not taken. Models come from a run
/// of `fix`. Metrics and logs pass as they are. What is not given by flag or file is at its default; the next hop may come
/// from OTEL_EXPORTER_OTLP_ENDPOINT.
///
/// SIGHUP reads configuration and models again; a bad one changes nothing. SIGTERM stops accepting and finishes what was
/// begun.
///
/// Exit status: 0 stopped, and all that was begun was answered; 1 it was not, or the stage could not begin; 2 usage.
#[derive(Args)]
struct ServeArgs {
    /// YAML in the OpenTelemetry Collector's manner
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// Check a stage's configuration.
///
/// All that is wrong is told, a line each: unknown keys with the nearest that is known, and keys of a Collector that
/// unskew has not with what to do instead. Variables are expanded (`${env:NAME}`, `${env:NAME:-default}`); nothing is opened
/// and nobody is connected to.
///
/// Exit status: 0 valid; 1 the file could not be read; 2 something is wrong in it.
#[derive(Args)]
struct ValidateArgs {
    /// YAML in the OpenTelemetry Collector's manner
    file: PathBuf,
}

/// Make traces with known wrong clocks, and their truth.
#[derive(Args)]
struct SimulateArgs {
    /// A scenario in TOML
    scenario: PathBuf,
    /// Folder of the output
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Instead of the scenario's own
    #[arg(long)]
    seed: Option<u64>,
}

/// Measure the error of a correction against a truth.
#[derive(Args)]
struct ScoreArgs {
    /// The output folder of `fix`
    dir: PathBuf,
    /// A Parquet table with span_id, host, true_start_ns, true_end_ns
    #[arg(long, value_name = "FILE")]
    truth: PathBuf,
    /// What is taken from all errors: nothing, or the median over the hosts
    #[arg(long, value_enum, default_value_t = GaugeArg::None)]
    gauge: GaugeArg,
    /// For programs rather than people
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum GaugeArg {
    None,
    Median,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Fix(args) => fix(args),
        Command::Report(args) => report_of(&args),
        Command::Models(args) => models_of(&args),
        Command::Serve(args) => serve(&args),
        Command::Validate(args) => validate(&args),
        Command::Simulate(args) => simulate_to(&args),
        Command::Score(args) => score_of(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            // Where nobody listens (`2>&1 | head`) there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "unskew: {error:#}");
            if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn fix(args: FixArgs) -> Result<ExitCode> {
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    if args.while_stdin {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(1);
        });
    }
    let settings = Fix {
        inputs: args.inputs,
        out: args.out,
        write: args.write,
        annotate: args.annotate,
        reference: args.reference,
        after: args.after,
        context: args.context,
        clock_keys: args.clock_key,
        max_correction_ns: args.max_correction,
        dry_run: args.dry_run,
        enforce_causality: args.enforce_causality,
        exchanges: args.exchanges,
        max_record: args.max_record,
        force: args.force,
    };
    let bar = progress();
    let outcome = run::fix(&settings, &mut std::io::stdin(), |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    print(&report::render(&outcome.report))?;
    Ok(if outcome.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Shown on a terminal, for work that is long.
fn progress() -> indicatif::ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        indicatif::ProgressDrawTarget::stderr_with_hz(5)
    } else {
        indicatif::ProgressDrawTarget::hidden()
    };
    let style = indicatif::ProgressStyle::with_template("{spinner} {bytes} read, {bytes_per_sec}, {elapsed}");
    let bar = indicatif::ProgressBar::with_draw_target(None, target);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn report_of(args: &ReportArgs) -> Result<ExitCode> {
    if let Some(windows) = io::windows_in(&args.dir)? {
        return history_of(&windows, args.json);
    }
    let report = report::load(&args.dir)?;
    if args.json {
        print_json(&serde_json::json!({
            "summary": report.summary,
            "clocks": report::worst_first(&report.clocks),
            "steps": report.steps,
            "findings": report.findings,
        }))?;
    } else {
        print(&report::render(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn history_of(windows: &[PathBuf], as_json: bool) -> Result<ExitCode> {
    let history = report::load_windows(windows);
    let all = &history.all;
    if as_json {
        print_json(&serde_json::json!({
            "windows": history.windows,
            "clocks": report::worst_first(&all.clocks),
            "steps": all.steps,
            "findings": all.findings,
            "problems": all.summary.problems,
        }))?;
    } else {
        print(&report::render_history(&history))?;
    }
    Ok(if all.summary.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn models_of(args: &ModelsArgs) -> Result<ExitCode> {
    let (bytes, _) = run::models(&args.from)?;
    if std::io::stdout().is_terminal() {
        let advice = "a message of clock models is not text: send it to a file, `unskew models DIR > FILE`";
        return Err(Usage(advice.to_owned()).into());
    }
    print_bytes(&bytes)?;
    Ok(ExitCode::SUCCESS)
}

fn serve(args: &ServeArgs) -> Result<ExitCode> {
    let read = || {
        let text = args.config.as_deref().map(io::read_text).transpose()?;
        let config = Config::of(text.as_deref(), &args.flags, &|name| std::env::var(name).ok());
        config.map_err(|problems| {
            let place = args.config.as_ref().map_or_else(|| "serve".to_owned(), |file| file.display().to_string());
            let lines: Vec<String> = problems.0.iter().map(|problem| format!("{place}: {problem}")).collect();
            anyhow::Error::from(Usage(lines.join("\n")))
        })
    };
    let config = read()?;
    log_to_stderr(&config);
    let served = stage::serve(config, &read)?;
    if served.cut_off == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let text = format!(
        "{} requests were cut off, as the time to drain was over; their senders send them again\n",
        served.cut_off
    );
    let _ = std::io::stderr().write_all(text.as_bytes());
    Ok(ExitCode::FAILURE)
}

fn log_to_stderr(config: &Config) {
    let level = match config.logs.level {
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Error => tracing::Level::ERROR,
    };
    // Of what is below us, only what is wrong.
    let filter = tracing_subscriber::filter::Targets::new()
        .with_default(level.min(tracing::Level::WARN))
        .with_target("unskew", level);
    let written = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    match config.logs.encoding {
        LogEncoding::Console => registry.with(written.with_ansi(std::io::stderr().is_terminal())).init(),
        LogEncoding::Json => registry.with(written.json().flatten_event(true)).init(),
    }
}

fn validate(args: &ValidateArgs) -> Result<ExitCode> {
    let text = io::read_text(&args.file)?;
    let file = args.file.display();
    match Config::of(Some(&text), &Flags::default(), &|name| std::env::var(name).ok()) {
        Ok(config) => {
            print(&format!("{file}: ok\n{}\n", config.summary()))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            for problem in problems.0 {
                let _ = writeln!(std::io::stderr(), "{file}: {problem}");
            }
            Ok(ExitCode::from(2))
        }
    }
}

fn simulate_to(args: &SimulateArgs) -> Result<ExitCode> {
    let made = simulate::write(&args.scenario, &args.out, args.seed)?;
    print(&format!(
        "{} spans of {} traces on {} clocks (seed {}); {} is right: give it as --reference\n",
        made.spans, made.traces, made.clocks, made.seed, made.reference
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn score_of(args: &ScoreArgs) -> Result<ExitCode> {
    let gauge = match args.gauge {
        GaugeArg::None => Gauge::None,
        GaugeArg::Median => Gauge::Median,
    };
    let score = score::score(&args.dir, &args.truth, gauge)?;
    if args.json {
        print_json(&score)?
    } else {
        print(&score.to_string())?
    };
    Ok(ExitCode::SUCCESS)
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// A reader that has gone (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> Result<()> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
