//! The spine: every stage once, in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::clock::{Clock, ClockId, ClockModel, ClockState, LocalTime, Segment, Use};
use crate::correct::Correction;
use crate::dump::{Dump, DumpSpan};
use crate::estimate::{self, Course, Estimate, Evidence, Standing};
use crate::fix::{self, FileRead, Outputs, Placed, Reading, Written};
use crate::identity::{self, Before, Call, Identity, Shared};
use crate::io::{self, Input};
use crate::models::{self, Models};
use crate::pair::{self, Edge, Paired, Pairing};
use crate::report::{
    self, ByTrace, ClockRow, FileSummary, Finding, Metadata, OnKey, Report, Shown, Skew, Summary, Tally, Undecided,
};
use crate::settings::{Fix, Write};

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub report: Report,
    /// Something could not be read or written; the rest is done.
    pub failed: bool,
}

/// A request that cannot be meant: the caller's exit status is 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Corrects dumps.
///
/// # Errors
/// [`Usage`] where the request cannot be meant; otherwise where the output cannot be written.
pub fn fix(settings: &Fix, stdin: &mut dyn std::io::Read, mut progress: impl FnMut(u64)) -> Result<Outcome> {
    let own = io::resolve(&settings.inputs, stdin).map_err(|error| Usage(error.to_string()))?;
    refuse(settings, &own.inputs)?;
    let context = io::resolve(&settings.context, &mut std::io::empty()).map_err(|error| Usage(error.to_string()))?;
    let (inputs, found) = (own.inputs.len(), own.followed_by(context));
    let Reading { dump, files } = fix::read(&found.inputs, settings.max_record, &mut progress);
    if !files[..inputs].iter().any(FileRead::is_read) {
        nothing_read(&found, &files)?;
    }
    let earlier = settings.after.as_deref().map(models).transpose()?.map(|(_, earlier)| earlier);
    let (identity, shared, (spans, mut pairing)) =
        told_apart((&dump, spans_of(&files[..inputs])), &settings.clock_keys, earlier.as_ref());
    let reference = reference(settings, &identity)?;

    let scope = |span: u32| dump.spans[span as usize].scope;
    let sources = pair::sources(&spans, &pairing.parents, scope);
    // What goes by a key that hides several clocks is placed call by call.
    let of_one_clock = |source: &&pair::Source| {
        let ClockId(clock) = identity.of_resource[source.resource as usize];
        !identity.clocks[clock as usize].untrusted
    };
    let apart: Vec<pair::Source> = sources.iter().filter(of_one_clock).copied().collect();
    pair::distrust(&mut pairing.edges, &apart, |span| [spans[span as usize].resource, scope(span)]);
    let evidence = evidence(&identity, &pairing);
    let estimating = estimate::Settings {
        reference,
        max_correction_ns: settings.max_correction_ns,
        standing: standing(&identity, &spans, earlier.as_ref()),
    };
    let mut estimate = estimate::clocks(&evidence, &reach(&spans, &identity), &estimating);
    let placed = fix::placed(settings, &dump, &identity.clocks, (&spans, &pairing), &mut estimate.map);
    fix::count_straddling(&mut estimate.map, &spans, &placed.corrected);

    let stage = io::Stage::begin(&settings.out, settings.force).map_err(usage)?;
    let known = Known { dump, identity, shared, spans, pairing, sources, estimate, placed };
    let metadata = Metadata { reference: known.name(reference), settings: settings.json() };
    let unwritten =
        known.write_traces(&found.inputs[..inputs], &files, settings, &metadata, (stage.path(), progress))?;
    let problems = problems(&found, &files, unwritten);
    let outcome = known.write_report(settings, stage.path(), &metadata, problems)?;
    stage.commit()?;
    Ok(outcome)
}

/// The models of a run, from its folder or from a file of their message: the bytes and what they say.
///
/// # Errors
/// Where there are none, or none that this program understands; the text names the file.
pub fn models(from: &Path) -> Result<(Vec<u8>, Models)> {
    let file = models_file(from);
    let bytes = io::read(&file)?;
    let models = models::decode(&bytes).with_context(|| file.display().to_string())?;
    Ok((bytes, models))
}

/// The file of the models of a run, or the file itself.
pub fn models_file(from: &Path) -> PathBuf {
    io::within(from, models::FILE)
}

/// What can be refused before anything is read.
fn refuse(settings: &Fix, inputs: &[Input]) -> Result<()> {
    io::check(&settings.out, settings.force).map_err(usage)?;
    if let Some(input) = inputs.iter().find(|input| !input.is_stdin() && io::replaces(&settings.out, &input.path)) {
        let (input, out) = (input.path.display(), settings.out.display());
        return Err(Usage(format!("{input} belongs to the earlier output in --out {out}, which would be replaced; give another --out, or leave it out of the inputs")).into());
    }
    if let Some((first, second, path)) = outputs(settings, &settings.out).collision(inputs) {
        let (first, second, path) = (name(first), name(second), path.display());
        return Err(Usage(format!(
            "{first} and {second} would both be written to {path}; rename one, or write them in two runs"
        ))
        .into());
    }
    Ok(())
}

fn outputs<'a>(settings: &Fix, folder: &'a Path) -> Outputs<'a> {
    let wants = |write: Write| settings.write.contains(&write);
    Outputs {
        folder,
        parquet: wants(Write::Parquet),
        same: wants(Write::Same),
        otlp_proto: wants(Write::OtlpProto),
        annotate: settings.annotate == crate::settings::Annotate::Moved,
        max_record: settings.max_record,
    }
}

/// Where failures are all there is, the output of an earlier run is worth more than an empty one.
fn nothing_read(found: &io::Inputs, files: &[FileRead]) -> Result<()> {
    let problems = problems(found, files, Vec::new());
    let failures: Vec<FileSummary> =
        problems.into_iter().filter(|(_, fails)| *fails).map(|(problem, _)| problem).collect();
    let told = report::problem_lines(&failures).join("\n  ");
    anyhow::ensure!(failures.is_empty(), "nothing could be read, so nothing is written:\n  {told}");
    Ok(())
}

/// What the user calls an input.
fn name(input: &Input) -> String {
    if input.is_stdin() { "-".to_owned() } else { input.path.display().to_string() }
}

/// Everything that was found out, for the writing.
struct Known {
    dump: Dump,
    identity: Identity,
    shared: Vec<Shared>,
    spans: Vec<Paired>,
    pairing: Pairing,
    sources: Vec<pair::Source>,
    estimate: Estimate,
    placed: Placed,
}

fn usage(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<io::NotOurs>() {
        Ok(refused) => Usage(refused.to_string()).into(),
        Err(error) => error,
    }
}

/// What speaks for each clock where nobody is the reference.
fn standing(identity: &Identity, spans: &[Paired], earlier: Option<&Models>) -> Vec<Standing> {
    let standing = |clock: &Clock| Standing { is_host: identity::is_host(&clock.rule), ..Standing::default() };
    let mut standing: Vec<Standing> = identity.clocks.iter().map(standing).collect();
    if let Some(earlier) = earlier {
        for (ClockId(clock), known) in identity.finder.same(&earlier.finder) {
            let (_, model) = earlier.clock(known);
            let is_known = model.segments.iter().any(Segment::is_told);
            standing[clock as usize].before = is_known.then(|| Course::onward(model));
        }
    }
    let counted = spans.iter().filter(|span| span.is_told());
    counted.for_each(|span| standing[span.clock.0 as usize].spans += 1);
    standing
}

/// The clock that was asked for. An earlier run says what all are measured from where it has no spans.
fn reference(settings: &Fix, identity: &Identity) -> Result<Option<ClockId>> {
    let Some(name) = &settings.reference else { return Ok(None) };
    if settings.after.is_some() && !identity.values.contains_key(name) {
        return Ok(None);
    }
    named(name, identity).map(Some)
}

/// The one clock that a name, a key's value or another identity attribute's value stands for.
fn named(name: &str, identity: &Identity) -> Result<ClockId> {
    let meant: Vec<ClockId> = identity.values.get(name).into_iter().flatten().copied().collect();
    let display = |id: &ClockId| format!("`{}`", identity.clocks[id.0 as usize].name);
    match meant.as_slice() {
        [one] => Ok(*one),
        [] if identity.clocks.is_empty() => {
            Err(Usage(format!("--reference {name}: the dump has no spans, so no clocks")).into())
        }
        [] => {
            let mut near: Vec<&Clock> = identity.clocks.iter().collect();
            near.sort_by_key(|clock| (distance(&clock.name, name), &clock.name));
            let near: Vec<String> = near.iter().take(5).map(|clock| format!("`{}`", clock.name)).collect();
            Err(Usage(format!("--reference {name}: no clock goes by that; the nearest are {}", near.join(", "))).into())
        }
        several => {
            let several: Vec<String> = several.iter().take(5).map(display).collect();
            Err(Usage(format!("--reference {name}: several clocks go by that: {}", several.join(", "))).into())
        }
    }
}

/// Letters to change, add or drop to make one name of the other (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, letter) in left.chars().enumerate() {
        let mut next = vec![row + 1];
        for (column, other) in right.iter().enumerate() {
            let change = last[column] + usize::from(letter != *other);
            next.push(change.min(last[column + 1] + 1).min(next[column] + 1));
        }
        last = next;
    }
    last[right.len()]
}

/// Whose clock stamped what, also where only times tell that one key hides several clocks.
fn told_apart(
    (dump, own): (&Dump, usize),
    keys: &[String],
    earlier: Option<&Models>,
) -> (Identity, Vec<Shared>, (Vec<Paired>, Pairing)) {
    let before = earlier.map(|earlier| {
        let clocks: Vec<&Clock> = earlier.clocks.iter().map(|(clock, _)| clock).collect();
        Before::of(&clocks, &earlier.finder, &dump.resources, keys)
    });
    let before = before.unwrap_or_default();
    let identity = identity::identify(&dump.resources, keys, &before);
    let (spans, pairing) = paired((dump, own), &identity);
    let calls: Vec<Call> = pair::between_processes(&spans, &pairing)
        .map(|(client, server, exchange)| Call { client, server, exchange })
        .collect();
    let shared = identity::examine(&dump.resources, &identity, keys, &calls);
    if shared.is_empty() {
        return (identity, shared, (spans, pairing));
    }
    let identity = identity::treat(&dump.resources, &identity, keys, &shared, &before);
    let paired = paired((dump, own), &identity);
    (identity, shared, paired)
}

/// How many spans were read from files.
fn spans_of(files: &[FileRead]) -> usize {
    let records = files.iter().flat_map(|file| file.records.iter().flatten());
    records.map(|ordinals| ordinals.end).max().unwrap_or(0)
}

/// Spans behind the first `own` are context.
fn paired((dump, own): (&Dump, usize), identity: &Identity) -> (Vec<Paired>, Pairing) {
    let paired = |span: &DumpSpan| Paired {
        head: span.head,
        clock: identity.of_resource[span.resource as usize],
        resource: span.resource,
        quantum_ns: 1,
        standing: pair::Standing::Only,
    };
    let mut spans: Vec<Paired> = dump.spans.iter().map(paired).collect();
    let pairing = pair::pair(&mut spans, &dump.links, &dump.attribute("service.name"));
    let context = spans.iter_mut().skip(own).filter(|span| span.is_told());
    context.for_each(|span| span.standing = pair::Standing::Context);
    (spans, pairing)
}

/// Calls of clocks whose key may hide several are no evidence of any.
fn evidence(identity: &Identity, pairing: &Pairing) -> Evidence {
    let trusted = |clock: ClockId| !identity.clocks[clock.0 as usize].untrusted;
    let keys = identity.clocks.iter().map(|clock| clock.key.clone()).collect();
    let exchanges: Vec<_> = pairing
        .edges
        .iter()
        .map(|edge| edge.exchange)
        .filter(|exchange| trusted(exchange.link.client) && trusted(exchange.link.server))
        .collect();
    Evidence::of(keys, pairing.classes.clone(), &exchanges)
}

/// First and last start of each clock's spans.
fn reach(spans: &[Paired], identity: &Identity) -> Vec<Option<(LocalTime, LocalTime)>> {
    let mut reach: Vec<Option<(LocalTime, LocalTime)>> = vec![None; identity.clocks.len()];
    for span in spans.iter().filter(|span| !span.head.start.is_broken()) {
        let start = span.head.start;
        let range = reach[span.clock.0 as usize].get_or_insert((start, start));
        *range = (range.0.min(start), range.1.max(start));
    }
    reach
}

fn problems(found: &io::Inputs, files: &[FileRead], unwritten: Vec<(usize, String)>) -> Vec<(FileSummary, bool)> {
    let name = |input: &Input| if input.is_stdin() { "-".to_owned() } else { input.target.display().to_string() };
    let missing = found.problems.iter().map(|problem| {
        (FileSummary { file: problem.input.display().to_string(), problem: problem.reason.clone() }, true)
    });
    let unread = found.inputs.iter().zip(files).flat_map(|(input, file)| {
        file.problems
            .iter()
            .map(move |(problem, fails)| (FileSummary { file: name(input), problem: problem.clone() }, *fails))
    });
    let unwritten =
        unwritten.into_iter().map(|(input, problem)| (FileSummary { file: name(&found.inputs[input]), problem }, true));
    missing.chain(unread).chain(unwritten).collect()
}

impl Known {
    fn name(&self, clock: Option<ClockId>) -> Option<String> {
        clock.map(|ClockId(clock)| self.identity.clocks[clock as usize].name.clone())
    }

    fn write_traces(
        &self,
        inputs: &[Input],
        files: &[FileRead],
        settings: &Fix,
        metadata: &Metadata,
        (folder, progress): (&Path, impl FnMut(u64)),
    ) -> Result<Vec<(usize, String)>> {
        if settings.dry_run {
            return Ok(Vec::new());
        }
        let marked: Vec<bool> = self.dump.spans.iter().map(|span| span.marked).collect();
        let known = Written {
            spans: &self.spans,
            corrected: &self.placed.corrected,
            marked: &marked,
            names: &self.identity.clocks.iter().map(|clock| clock.name.as_str().into()).collect::<Vec<_>>(),
            map: &self.estimate.map,
            habits: &fix::habits(&self.dump),
            enforced: settings.enforce_causality,
        };
        fix::write(inputs, files, known, &outputs(settings, folder), metadata, progress)
    }

    fn write_report(
        &self,
        settings: &Fix,
        out: &Path,
        metadata: &Metadata,
        problems: Vec<(FileSummary, bool)>,
    ) -> Result<Outcome> {
        let models = &self.estimate.map.models;
        let set_aside = |exchange| self.estimate.set_aside.contains(&exchange);
        let Placed { before, corrected, left } = &self.placed;
        let shown = Shown { spans: &self.spans, before, corrected };
        let group = |clock: ClockId| models[clock.0 as usize].group;
        let (mut findings, links, tally) = report::of_edges(&shown, &self.pairing, set_aside, group);
        findings.extend(report::of_one_clock(&shown, &self.pairing.parents));
        findings.extend(report::of_left(&shown, left, models));
        findings.extend(report::of_sources(&self.spans, &self.sources, &self.dump.scopes));
        findings.extend(report::of_ticks(&self.spans, &pair::ticks(&self.spans, self.dump.resources.len())));
        findings.extend(report::of_oddities(&self.spans, &self.pairing.oddities));
        findings.extend(report::of_times(&self.spans, corrected, models));
        let contradictions = self.estimate.contradictions.iter();
        let contradictions = contradictions.map(|it| (it.dropped, it.others.as_slice(), it.missing_ns));
        findings.extend(report::of_contradictions(&self.spans, &self.pairing.edges, contradictions));
        findings.extend(self.untrusted());
        let keys = self.keys();
        findings.extend(keys.iter().map(|key| key.finding.clone()));
        findings.sort_unstable();

        let mut spans = vec![(0, 0); models.len()];
        let mut finer = vec![false; models.len()];
        let mut by_trace = vec![ByTrace::default(); models.len()];
        for ((span, corrected), read) in self.spans.iter().zip(corrected).zip(&self.dump.spans) {
            if span.is_told() {
                let counts = &mut spans[span.clock.0 as usize];
                counts.0 += 1;
                counts.1 += i64::from(!read.marked && corrected.offset_ns != -corrected.nudge_ns);
                finer[span.clock.0 as usize] |= span.quantum_ns < 1_000_000_000;
                if corrected.correction == Correction::TraceFallback && !read.marked {
                    let by_trace = &mut by_trace[span.clock.0 as usize];
                    let offset_ns = corrected.offset_ns.saturating_add(corrected.nudge_ns);
                    by_trace.spans += 1;
                    if offset_ns.abs() > by_trace.furthest_ns.abs() {
                        by_trace.furthest_ns = offset_ns;
                    }
                }
            }
        }
        let services = self.dump.attribute("service.name");
        let skew = Skew {
            clocks: &self.identity.clocks,
            map: &self.estimate.map,
            classes: &self.pairing.classes,
            links: &links,
            estimates: &self.estimate.links,
            findings: &findings,
            keys: &keys,
            services: &services,
            spans: &spans,
            by_trace: &by_trace,
            in_seconds: &spans.iter().zip(finer).map(|(spans, finer)| spans.0 > 0 && !finer).collect::<Vec<_>>(),
        };
        let rows = report::clock_rows(&skew);
        let folder = out.join("skew");
        for (name, bytes) in report::tables(&skew, &rows, metadata)? {
            io::atomic_write(&folder.join(name), &bytes)?;
        }
        io::atomic_write(&out.join(models::FILE), &models::encode(&self.models()))?;
        if settings.exchanges {
            self.write_exchanges(&folder, &skew, metadata)?;
        }
        let failed = problems.iter().any(|(_, fails)| *fails);
        let summary = self.summary(settings, metadata, &skew, &rows, tally, problems);
        let json = serde_json::to_string_pretty(&summary).context("summary")?;
        io::atomic_write(&out.join("summary.json"), (json + "\n").as_bytes())?;
        let (steps, findings) = (report::step_rows(&skew), report::kind_rows(&skew));
        Ok(Outcome { report: Report { clocks: rows, steps, findings, summary }, failed })
    }

    /// What others need to correct by these clocks.
    fn models(&self) -> Models {
        let map = &self.estimate.map;
        let clocks = self.identity.clocks.iter().cloned().zip(map.models.iter().cloned()).collect();
        let (reference, finder) = (self.name(map.reference), self.identity.finder.clone());
        Models { reference, clocks, finder, learned: None }
    }

    /// Spans that an earlier run moved.
    fn marked_before(&self) -> u64 {
        let is_own = |span: &Paired| span.standing != pair::Standing::Context;
        self.dump.spans.iter().zip(&self.spans).filter(|(read, span)| read.marked && is_own(span)).count() as u64
    }

    /// The clock that all others of the largest group are measured from.
    fn median_clock(&self) -> Option<String> {
        let map = &self.estimate.map;
        let mut medians = self.estimate.medians.iter().filter(|_| map.reference.is_none());
        self.name(medians.find(|median| Some(map.model(**median).group) == map.home()).copied())
    }

    /// Pairs of clocks that know but each other, and differ.
    fn undecided(&self) -> Vec<Undecided> {
        let map = &self.estimate.map;
        let of = |state: ClockState| (0..).map(ClockId).zip(&map.models).filter(move |(_, model)| model.state == state);
        let stands = of(ClockState::Reference).filter(|(clock, _)| map.reference != Some(*clock));
        let pair = |(standing, model): (ClockId, &ClockModel)| {
            let (other, _) = of(ClockState::Corrected).find(|(_, other)| other.group == model.group)?;
            Some(Undecided { standing: self.name(Some(standing))?, other: self.name(Some(other))? })
        };
        stands.filter_map(pair).collect()
    }

    /// What times say of keys: too coarse, or too fine.
    fn keys(&self) -> Vec<OnKey> {
        let Identity { clocks, of_resource, .. } = &self.identity;
        let alike = identity::alike(&self.dump.resources, &self.identity, &self.estimate.map);
        [report::of_shared(&self.shared, of_resource, clocks), report::of_alike(&alike, clocks)].concat()
    }

    fn untrusted(&self) -> impl Iterator<Item = Finding> + '_ {
        self.identity.finder.untrusted.iter().map(|((attribute, value), reason)| Finding {
            kind: "untrusted_key",
            action: "not used as a key",
            reason: format!("{attribute} {value}: {reason}"),
            ..Finding::default()
        })
    }

    fn write_exchanges(&self, folder: &Path, skew: &Skew<'_>, metadata: &Metadata) -> Result<()> {
        let head = |index: u32| &self.spans[index as usize].head;
        let ids = |edge: &Edge| (head(edge.child).trace.0, head(edge.parent).span.0, head(edge.child).span.0);
        let use_of = |edge: &Edge| match (edge.exchange.counts, edge.reason) {
            (Use::TwoSided, _) if self.estimate.set_aside.contains(&edge.exchange.id) => {
                "no: it implies a negative delay, or nobody waited".to_owned()
            }
            (Use::TwoSided, _) => "both ways".to_owned(),
            (Use::ForwardOnly, reason) => {
                format!("request only{}", reason.map_or_else(String::new, |reason| format!(": {reason}")))
            }
            (Use::Neither, reason) => format!("no: {}", reason.unwrap_or("its times say nothing")),
        };
        let bytes = report::exchanges(skew, &self.pairing.edges, ids, use_of, metadata)?;
        io::atomic_write(&folder.join("exchanges.parquet"), &bytes)
    }

    fn summary(
        &self,
        settings: &Fix,
        metadata: &Metadata,
        skew: &Skew<'_>,
        rows: &[ClockRow],
        inversions: Tally,
        problems: Vec<(FileSummary, bool)>,
    ) -> Summary {
        let models = &self.estimate.map.models;
        let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
        skew.findings.iter().for_each(|finding| *kinds.entry(finding.kind.to_owned()).or_default() += 1);
        let mut uncertainties: Vec<i64> =
            rows.iter().filter(|row| row.state != "reference").filter_map(|row| row.uncertainty_ns).collect();
        uncertainties.sort_unstable();
        let agree = rows.iter().filter(|row| row.state == ClockState::WithinUncertainty.name());
        let placed = skew.by_trace.iter().filter(|by_trace| by_trace.spans > 0);
        let furthest_by_trace = placed.max_by_key(|by_trace| by_trace.furthest_ns.abs());
        let mut sizes: BTreeMap<u32, u32> = BTreeMap::new();
        models.iter().for_each(|model| *sizes.entry(model.group).or_default() += 1);
        let told = self.spans.iter().filter(|span| span.is_told()).count();
        let copies = self.spans.iter().filter(|span| span.standing == pair::Standing::Duplicate).count();
        let now = || {
            let is_now = |(span, read): &(&Paired, &DumpSpan)| span.is_told() && !read.marked;
            let spans = self.spans.iter().zip(&self.dump.spans).zip(&self.placed.corrected);
            spans.filter(move |(span, _)| is_now(span)).map(|(_, corrected)| corrected)
        };
        let nudges = || now().map(|corrected| corrected.nudge_ns.abs()).filter(|nanos| *nanos > 0);
        Summary {
            schema_version: report::SCHEMA_VERSION.to_owned(),
            reference: metadata.reference.clone(),
            dry_run: settings.dry_run,
            spans: told as u64,
            moved: rows.iter().map(|row| row.moved as u64).sum(),
            nudged: settings.enforce_causality.then(|| nudges().count() as u64),
            largest_nudge_ns: nudges().max(),
            marked_before: self.marked_before(),
            duplicates: copies as u64,
            furthest_by_trace_ns: furthest_by_trace.map(|it| it.furthest_ns),
            clocks: rows.len() as u64,
            clocks_compared: models.iter().filter(|model| sizes[&model.group] > 1).count() as u64,
            median_clock: self.median_clock(),
            undecided: self.undecided(),
            clocks_moved: models.iter().filter(|model| model.state == ClockState::Corrected).count() as u64,
            groups: sizes.len() as u64,
            exchanges: self.pairing.edges.iter().filter(|edge| edge.exchange.counts != Use::Neither).count() as u64,
            inversions,
            median_uncertainty_ns: uncertainties.get(uncertainties.len() / 2).copied(),
            agree_within_ns: agree.filter_map(|row| row.uncertainty_ns).max(),
            findings: kinds,
            problems: problems.into_iter().map(|(problem, _)| problem).collect(),
        }
    }
}
