//! The passes: each takes the last one's model off the readings, picks minima of what is left, and solves again.

use std::collections::BTreeMap;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, IntoParallelRefMutIterator, ParallelIterator};

use super::align::{Alignment, align};
use super::curves::{Curves, Shape};
use super::evidence::{Evidence, Reading, RolledUp, Side};
use super::frame::Frame;
use super::gauge::Gauge;
use super::jumps;
use super::levels::{Level, Levels, median};
use super::limits::{Limits, Normal};
use super::observation::{AT_ONCE, Observation, observe};
use super::precondition::Preconditioner;
use super::routes::Routes;
use super::rows::rows;
use super::scale::{Scale, scales, waited_for};
use super::solve::{Block, Rows, System};
use super::{beforehand, edges, shifts, steps, stretches};
use crate::clock::{Link, LocalTime, WITHOUT_CLIENT};

/// A solved model, with what it was solved from.
pub(super) struct Fit {
    pub(super) alignment: Alignment,
    pub(super) grid: Grid,
    pub(super) curves: Curves,
    pub(super) links: Vec<Link>,
    pub(super) observations: Vec<Observation>,
    /// Per observation: took part in the last pass.
    pub(super) used: Vec<bool>,
    /// How asymmetric routes are, in `ASYMMETRY`s.
    pub(super) asymmetry: f64,
    /// Per link, (out − back)/2 as the solve found it, ns.
    pub(super) asymmetries: Vec<f64>,
    /// Errors that the curves' values may have, drawn from their distribution.
    pub(super) errors: Vec<Vec<f64>>,
    /// What the curves' values change by where clocks' levels are drawn towards zero; empty where they are not.
    pub(super) drawn: Vec<f64>,
    /// Per clock, the places between which its readings and spans lie; `None` where it is held or has none.
    pub(super) ranges: Vec<Option<(f64, f64)>>,
    /// The median clocks, of groups in which no clock is held.
    pub(super) medians: Vec<usize>,
}

/// Where knots stand: `epoch + k × spacing` by each clock's own time less its base.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) epoch: i64,
    pub(super) spacing_ns: f64,
    /// No knot stands behind this place, whatever a reading says: one that is years off asks for millions.
    pub(super) reach: f64,
}

impl Grid {
    pub(super) fn place(&self, base: i64, local: i64) -> f64 {
        local.saturating_sub(base).saturating_sub(self.epoch) as f64 / self.spacing_ns
    }

    /// The time at a place, by a clock whose base was taken off.
    pub(super) fn time(&self, place: f64) -> i64 {
        self.epoch.saturating_add((place * self.spacing_ns).round() as i64)
    }
}

/// Knots no closer than this: a slew is a bend of seconds.
pub(super) const SPACING_S: f64 = 5.0;

/// But a short dump has at least about so many of them. With three knots a step within the dump is taken for slopes: a
/// cut of ten seconds of lab s3, p95 59.7 ms, and 52.0 as recorded.
const KNOTS: f64 = 24.0;

/// Closer than this, single calls would bend a curve.
const LEAST_SPACING_S: f64 = 0.25;

/// Above this many unknowns knots stand further apart, so that time and memory stay in proportion to the clocks.
pub(super) const UNKNOWNS: f64 = 150_000.0;

/// Nor are there more than so many for each reading: days of a few calls an hour have nothing to say of seconds.
const PER_READING: f64 = 2.0;

/// One pass: its windows in seconds (shorter where knots stand closer), and whether readings that imply a negative delay
/// are set aside and rows far from the model count less. Neither before slews are followed: a model that lags calls good
/// readings violations (ESTIMATOR.md, second prototype, 2).
struct Pass {
    window_s: f64,
    guard: bool,
    robust: bool,
}

const PASSES: [Pass; 6] = [
    Pass { window_s: 2.0, guard: false, robust: false },
    Pass { window_s: 5.0, guard: false, robust: false },
    Pass { window_s: 5.0, guard: true, robust: false },
    Pass { window_s: 10.0, guard: true, robust: true },
    Pass { window_s: 20.0, guard: true, robust: true },
    Pass { window_s: 40.0, guard: true, robust: true },
];

const LAST: &Pass = &PASSES[PASSES.len() - 1];

/// Windows shorter than most slews, though by those of 40 s the slew of lab s2 begins only 0.7 s later, and p95 is 0.70 ms
/// instead of 0.73 (`tests/lab.rs`).
const PLACING: &Pass = &PASSES[3];

/// Placings at the most, and by how many knots the ends of ramps may still move at the last one.
const PLACINGS: usize = 8;
const STAYS: f64 = 0.02;

/// The most that a route's asymmetry is thought to be in proportion to its low delay one way: ± 30 % of the least, as the low
/// one is some 18 % above it (fleets of seven scenarios: in the median, of 5,900 routes).
const UNEVEN: f64 = 0.254;

/// The deviation of what is as likely anywhere within that.
const ASYMMETRY: f64 = 0.1466;

/// How sharp that limit is, in its own size: low delays are known no better.
const BLUR: f64 = 0.1;

/// What limits say is found in so many rounds, each of which goes on from the mean of all before; and from so many draws.
const LIMITINGS: usize = 2;
const DRAWS_TO_LIMIT: u64 = 32;

/// That the routes of a fleet are more even than that is learnt from its cycles; what is said above counts as much as so many
/// routes whose asymmetry is known, and no route as further out than so many of its deviations. (Fleet `symmetric`, seed 8:
/// p95 55 µs instead of 77; fleets of ± 30 % stay as they are.)
const ROUTES_BEFORE: f64 = 10.0;
const OUTLYING: f64 = 3.0;

/// Sums over all routes need no more; where there are thousands, one.
const DRAWS_TO_LEARN: u64 = 8;

/// Where the client span is missing the caller's own work is in both legs, in any proportion: a uniform ± 100 %.
const ASYMMETRY_WITHIN: f64 = 0.58;

/// What all calls of one kind have in common, as a share of half of the round trip: a client stamps its start before it
/// queues and connects. The cycles of the graph show it (ESTIMATOR.md, fact 6).
const BIAS: f64 = 0.1;

/// What the cycles say is three times as likely is taken for true (a logarithm): that no kind of call has a bias, as of one
/// not quite known all clocks would share the error (simulated fleets, which have none: 1.6 to 6; the laboratory's real
/// ones: −2 to −14); and that asymmetries have limits.
const THREE_TO_ONE: f64 = 1.1;

/// One over the variance of a bias that there is none of.
const NO_BIAS: f64 = 1e12;

/// One over the variance of what does not move: a nanosecond.
const HELD: f64 = 1.0;

/// One over the variance of what nothing else holds: a second.
const LOOSE: f64 = 1e-18;

/// How much a clock's frequency changes in ten seconds, typically. From the accuracy table: a half or the double of it
/// changes no p95 by a tenth.
const WANDER: f64 = 2.5e-7;

/// The first passes, whose rows are coarse, let a clock bend this many times as easily.
const LOOSER: f64 = 5.0;

/// Solves of each pass, bends and rows weighted anew after each.
const ROUNDS: usize = 4;

/// To how much of the whole a pass solves, and how roughly before its last round, which goes on from there. At 1e-5
/// throughout, p95 of fleet `drift`, seed 507, is 121 µs instead of 118; at 1e-4, 132.
const FINE: f64 = 1e-7;
const ROUGH: f64 = 1e-5;

/// A solve of more iterations than this changed so much that the next is worth a preconditioner of its own.
const AGED: usize = 8;

/// Fits all clocks; those in `held` (besides those that the `frame` has fixed) stay at zero. How asymmetric routes are is taken from a `free`
/// fit, in which none are: what a clock is off that is held all the same would pass for it. So are its steps, which the
/// search then begins with. With the `levels` of a well-kept fleet, its clocks' are drawn towards zero ([`Fit::drawn`]).
pub(super) fn fit(
    evidence: &Evidence,
    spans: &[Option<(LocalTime, LocalTime)>],
    frame: &Frame,
    held: &[bool],
    free: Option<(&Fit, Option<&Levels>)>,
) -> Fit {
    let (free, levels) = free.unzip();
    let clocks = evidence.clocks.len();
    let is_held = |clock: usize| frame.fixed[clock] || held.get(clock).copied().unwrap_or(false);
    let anchored: Vec<bool> = (0..clocks).map(is_held).collect();
    let alignment = align(clocks, &evidence.readings, &anchored, frame);
    let grid = grid(evidence, &alignment, spans);
    let mut links: Vec<Link> = evidence.readings.iter().map(|reading| reading.link).collect();
    links.dedup();
    let mut observations = observe(&evidence.readings, &links, &alignment, &grid);
    let ranges: Vec<_> = ranges(clocks, &observations, spans, &alignment, &grid)
        .into_iter()
        .enumerate()
        .map(|(clock, range)| range.filter(|_| !is_held(clock)))
        .collect();
    let knots: Vec<_> =
        ranges.iter().map(|range| range.map(|(low, high)| (low.floor() as usize, high.ceil() as usize))).collect();
    let (kinds, kind_of) = kinds(evidence, &links);

    let protocol = |link: &Link| evidence.classes[link.class as usize].protocol.as_str();
    let usual = evidence.rolled_up.as_ref().map(|rolled_up| rolled_up.usual.as_slice());
    let mut routes = Routes::of(&links, &observations, usual, &|link| protocol(link).ends_with(WITHOUT_CLIENT));
    observations.iter_mut().for_each(|observation| observation.kind = kind_of[observation.link as usize]);
    routes.sort(&mut observations);

    // Steps first: those that calls show, and breaks that a freely bending solve asks for, until it asks for no more.
    let gauge = Gauge::new(&alignment, &anchored, (frame, &grid));
    // Rolled-up readings are no single calls.
    let looked = match free {
        None if evidence.rolled_up.is_none() => jumps::closer(&alignment, &evidence.readings, &anchored),
        _ => BTreeMap::new(),
    };
    let mut breaks = beforehand::breaks(&alignment, &grid, &anchored, &looked, free);
    let mut work;
    let most_searches = if evidence.rolled_up.is_some() { FEW_SEARCHES } else { SEARCHES };
    let mut searches = 0;
    loop {
        let mut curves = Curves::new(&knots, breaks.clone(), kinds);
        if !breaks.is_empty() {
            beforehand::begin(&mut curves, &alignment, &grid, &looked, free);
        }
        work = Work::new(curves, &observations, &grid, evidence.rolled_up.is_some(), &routes, &gauge);
        work.asymmetry = free.map_or(1.0, |free| free.asymmetry);
        for pass in PASSES.iter().filter(|pass| !pass.guard) {
            work.pass(pass, &mut observations);
        }
        searches += 1;
        let found = steps::find(&work.curves, &observations, &work.used, &work.scales, grid.spacing_ns);
        if searches <= most_searches && steps::adopt(&mut breaks, &work.curves, found) {
            continue;
        }
        // Rolled up, all windows are as long as a knot's stretch, and the longest would be told twice.
        let repeats = |pass: &Pass| evidence.rolled_up.is_some() && pass.window_s > 10.0;
        for pass in PASSES.iter().filter(|pass| pass.guard && !repeats(pass)) {
            work.pass(pass, &mut observations);
        }
        // Rolled-up readings are no calls whose mean would say anything.
        if searches > most_searches || evidence.rolled_up.is_some() {
            break;
        }
        // What the guard has set aside may be what tells.
        let used = waited_for(&routes.all, &observations, &work.scales);
        let found = shifts::find(&work.curves, &observations, &used, &work.scales, grid.spacing_ns);
        if found.is_empty() {
            break;
        }
        steps::adopt(&mut breaks, &work.curves, found);
    }
    if evidence.rolled_up.is_none() {
        work.place_ramps(&mut observations);
    }
    let biases = work.curves.bias(0);
    let unbiased = work.system().log_odds_of_zero(&work.curves.values, biases) > THREE_TO_ONE;
    if free.is_none() {
        work.learn_asymmetry();
    }
    if unbiased {
        work.ridge[biases..].fill(NO_BIAS);
    }
    if unbiased || free.is_none() {
        work.pass(LAST, &mut observations);
    }
    if evidence.rolled_up.is_none() {
        work.limit_asymmetries();
        work.hold_ends(false);
    }
    let errors = work.errors();
    let drawn = match (free, levels.flatten()) {
        (Some(free), Some(levels)) => work.drawn(levels, free, (&alignment, &grid), &errors),
        _ => Vec::new(),
    };
    let medians = gauge.medians(&work.curves);
    let Work { curves, used, asymmetry, asymmetries: of_routes, .. } = work;
    let asymmetries = routes.of_link.iter().map(|&route| of_routes[route as usize]).collect();
    Fit { alignment, grid, curves, links, observations, used, asymmetry, asymmetries, errors, drawn, ranges, medians }
}

/// Their number makes a deviation right to one part in eleven; where unknowns are many, to one part in eight, and where
/// there are thousands of clocks, to one part in six: draws are what takes longest there.
const DRAWS: u64 = 64;
const DRAWS_OF_MANY: u64 = 32;
const FEW_DRAWS: u64 = 16;
const MANY: usize = 100_000;

fn draws(curves: &Curves, rolled_up: bool) -> u64 {
    match (rolled_up, curves.values.len() > MANY) {
        (true, _) => FEW_DRAWS,
        (_, true) => DRAWS_OF_MANY,
        _ => DRAWS,
    }
}

/// Searches for steps at the most: two of one clock close together are found one after the other.
const SEARCHES: usize = 8;

/// Where readings are rolled up, a search takes as long as all else, and later ones find ever more that is none. (970 clocks
/// in an hour, of which 240 step 360 times: 3,000 breaks after two searches, 4,900 after eight; p99 of starts is the same.)
const FEW_SEARCHES: usize = 2;

/// What goes from pass to pass.
struct Work<'a> {
    curves: Curves,
    used: Vec<bool>,
    scales: Vec<Scale>,
    rows: Rows,
    /// How asymmetric routes are, in `ASYMMETRY`s.
    asymmetry: f64,
    asymmetry_weights: Vec<f64>,
    asymmetries: Vec<f64>,
    /// Per break its clock.
    steppers: Vec<u32>,
    smoothness: Vec<f64>,
    ridge: Vec<f64>,
    bend: f64,
    spacing_ns: f64,
    rolled_up: bool,
    routes: &'a Routes,
    gauge: &'a Gauge<'a>,
}

impl Fit {
    /// How far a clock is ahead at a time, ns.
    pub(super) fn offset(&self, clock: u32, time: i64) -> i64 {
        let place = self.grid.place(0, time);
        let base = self.alignment.bases[clock as usize].saturating_add(self.curves.jumped(clock, place));
        base.saturating_add(self.curves.at(clock, place).round() as i64)
    }
}

impl<'a> Work<'a> {
    fn new(
        curves: Curves,
        observations: &[Observation],
        grid: &Grid,
        rolled_up: bool,
        routes: &'a Routes,
        gauge: &'a Gauge<'a>,
    ) -> Self {
        let bend = WANDER * (grid.spacing_ns / 10e9).sqrt() * grid.spacing_ns;
        let mut work = Self {
            used: observations.iter().map(|observation| !observation.astray).collect(),
            scales: Vec::new(),
            rows: Rows::new(),
            asymmetry: 1.0,
            asymmetry_weights: Vec::new(),
            asymmetries: Vec::new(),
            steppers: Vec::new(),
            smoothness: vec![(30.0 * bend).powi(-2); curves.values.len()],
            ridge: Vec::new(),
            bend,
            spacing_ns: grid.spacing_ns,
            rolled_up,
            routes,
            gauge,
            curves,
        };
        work.hold();
        work
    }

    /// What holds each unknown by itself.
    fn hold(&mut self) {
        self.ridge = vec![LOOSE; self.curves.values.len()];
        for (ridge, found) in self.ridge[self.curves.knots()..].iter_mut().zip(&self.curves.breaks) {
            *ridge = found.size.powi(-2);
        }
        self.ridge[self.curves.bias(0)..].fill(BIAS.powi(-2));
        self.steppers = self.curves.breaks.iter().map(|found| found.clock).collect();
        // Of knots alone, which come first.
        self.smoothness.resize(self.curves.values.len(), 0.0);
    }

    /// Moves the ends of ramps to where readings have them, and holds them there: by longer windows they would be less well
    /// placed.
    fn place_ramps(&mut self, observations: &mut [Observation]) {
        if !edges::add(&mut self.curves) {
            return;
        }
        self.hold();
        for _ in 0..PLACINGS {
            self.pass(PLACING, observations);
            if edges::settle(&mut self.curves) < STAYS {
                break;
            }
        }
        self.hold_ends(true);
        self.pass(LAST, observations);
    }

    /// Of held ends only what they might be off by counts, once errors are drawn.
    fn hold_ends(&mut self, held: bool) {
        let breaks = self.ridge[self.curves.knots()..].iter_mut().zip(&self.curves.breaks);
        for (ridge, end) in breaks.filter(|(_, found)| found.shape != Shape::Whole) {
            *ridge = if held { HELD } else { end.size.powi(-2) };
        }
    }

    fn system(&self) -> System<'_> {
        System {
            unknowns: self.curves.values.len(),
            blocks: &self.curves.blocks,
            beside: &self.steppers,
            rows: &self.rows,
            asymmetry_weights: &self.asymmetry_weights,
            smoothness: &self.smoothness,
            ridge: &self.ridge,
        }
    }

    /// What the solution changes by if each clock's level, its offset in the mean, has a prior as well. Solved for all at once:
    /// what is known of clocks' distances goes on to hold.
    fn drawn(
        &mut self,
        levels: &Levels,
        free: &Fit,
        (alignment, grid): (&Alignment, &Grid),
        errors: &[Vec<f64>],
    ) -> Vec<f64> {
        let mut right = vec![0.0; self.curves.values.len()];
        let offset = |alignment: &Alignment, curves: &Curves, clock: usize, place: f64| {
            let base = alignment.bases[clock].saturating_add(curves.jumped(clock as u32, place));
            base as f64 + curves.at(clock as u32, place)
        };
        for (clock, &Block { start, count }) in
            self.curves.blocks.iter().enumerate().filter(|(_, block)| block.count > 0)
        {
            let at_knots = |value: &dyn Fn(f64) -> f64| -> Vec<f64> {
                (0..count).map(|knot| value((self.curves.first[clock] + knot) as f64)).collect()
            };
            let mean = |values: Vec<f64>| values.iter().sum::<f64>() / count as f64;
            let here = |place: f64| offset(alignment, &self.curves, clock, place);
            let there = |place: f64| offset(&free.alignment, &free.curves, clock, free.grid.place(0, grid.time(place)));
            // In the median, as the two may place a step differently.
            let taken = median(at_knots(&|place| (here(place) - there(place)).abs()));
            let of_draw =
                |values: &Vec<f64>| mean(at_knots(&|place| self.curves.of(values, clock as u32, place))).powi(2);
            let variance = errors.iter().map(of_draw).sum::<f64>() / errors.len().max(1) as f64;
            let level = Level { offset: mean(at_knots(&here)), variance };
            let pull = levels.pull(clock, level, taken) / count as f64;
            right[start..start + count].fill(-pull * level.offset);
            self.ridge[start..start + count].iter_mut().for_each(|ridge| *ridge += pull);
        }
        let mut change = self.system().change(&right, FINE);
        self.gauge.apply_to_change(&self.curves, &mut change);
        change
    }

    /// Errors that the curves' values may have. What a whole group does together is none.
    fn errors(&self) -> Vec<Vec<f64>> {
        let mut errors = self.system().errors(draws(&self.curves, self.rolled_up));
        errors.iter_mut().for_each(|error| self.gauge.apply_to_change(&self.curves, error));
        errors
    }

    /// How asymmetric routes are: the variance at which what the cycles show of them is likeliest, by as many of them as
    /// the rows tell anything of (MacKay 1992, Bayesian interpolation).
    fn learn_asymmetry(&mut self) {
        let system = self.system();
        let draws = if self.rolled_up { 1 } else { DRAWS_TO_LEARN };
        let variances = system.asymmetry_variances(&system.errors(draws));
        let (mut squares, mut known) = (ROUTES_BEFORE, ROUTES_BEFORE);
        for (index, route) in
            self.routes.all.iter().enumerate().filter(|(_, route)| !route.without_client && route.detour.is_none())
        {
            let usual = (ASYMMETRY * self.scales[index].delay / 2.0).max(1e3).hypot(route.blurred);
            squares += (self.asymmetries[index] / usual).abs().min(OUTLYING).powi(2);
            known += (1.0 - variances[index] * self.asymmetry_weights[index]).max(0.0);
        }
        // More even only as far as that is sure, by the deviation of a variance. Never less even than was thought: steps, slews
        // and calls that nobody waited for pass for asymmetry, nothing for evenness.
        let unsure = (2.0 / known).sqrt();
        self.asymmetry = (squares / known * (1.0 + unsure)).sqrt().min(1.0);
    }

    /// What it says of routes, and of clocks with them, that none is more uneven than so much; nothing where the cycles speak
    /// against it.
    fn limit_asymmetries(&mut self) {
        let limits: Vec<Option<Limits>> = (self.scales.iter().zip(&self.routes.all))
            .map(|(scale, route)| {
                let half = (UNEVEN * self.asymmetry * scale.delay / 2.0).max(1e3);
                let blur = (BLUR * half).hypot(route.beyond(scale, &self.scales));
                (!route.without_client).then_some(Limits { half, blur })
            })
            .collect();
        let mut priors: Vec<Normal> = self.asymmetry_weights.iter().map(|&weight| Normal::new(0.0, weight)).collect();
        for round in 1..=LIMITINGS {
            let system = self.system();
            let variances = system.asymmetry_variances(&system.errors(DRAWS_TO_LIMIT));
            // The reciprocal of a variance read off so few draws is too large on average.
            let draws = DRAWS_TO_LIMIT as f64;
            let found = |route: usize| Normal::new(self.asymmetries[route], (draws - 2.0) / draws / variances[route]);
            let met = |route: usize| limits[route]?.met(priors[route], found(route));
            let met: Vec<Option<(Normal, f64)>> = (0..priors.len()).map(met).collect();
            if round == 1 && met.iter().flatten().map(|(_, odds)| odds).sum::<f64>() < THREE_TO_ONE {
                return;
            }
            let share = 1.0 / round as f64;
            let moved = |(&prior, met): (&Normal, &Option<(Normal, f64)>)| match met {
                Some((new, _)) => prior.mixed(*new, share),
                None => prior,
            };
            let moved: Vec<Normal> = priors.iter().zip(&met).map(moved).collect();
            for (target, &route) in self.rows.targets.iter_mut().zip(&self.rows.links) {
                *target -= moved[route as usize].mean - priors[route as usize].mean;
            }
            priors = moved;
            self.asymmetry_weights = priors.iter().map(|prior| prior.weight).collect();
            let mut values = self.curves.values.clone();
            let system = self.system();
            system.solve(&Preconditioner::new(&system), &mut values, FINE);
            self.asymmetries = system.asymmetries(&values, self.routes.all.len());
            self.asymmetries.iter_mut().zip(&priors).for_each(|(asymmetry, prior)| *asymmetry += prior.mean);
            self.curves.values = values;
            self.gauge.apply(&mut self.curves);
        }
    }

    fn pass(&mut self, pass: &Pass, observations: &mut [Observation]) {
        let (curves, spacing_ns) = (&self.curves, self.spacing_ns);
        let in_turns = observations.par_iter_mut().with_min_len(AT_ONCE);
        in_turns.for_each(|observation| observation.locate(curves, spacing_ns));
        let rough = scales(self.routes, observations, &self.used, &self.curves);
        self.used = waited_for(&self.routes.all, observations, &rough);
        if pass.guard {
            guard(observations, &mut self.used, &rough, &self.curves);
        }
        self.scales = scales(self.routes, observations, &self.used, &self.curves);
        self.asymmetry_weights = self
            .scales
            .iter()
            .zip(&self.routes.all)
            .map(|(scale, route)| {
                let part = if route.without_client { ASYMMETRY_WITHIN } else { self.asymmetry * ASYMMETRY };
                (part * scale.delay / 2.0).max(1e3).hypot(route.beyond(scale, &self.scales)).powi(-2)
            })
            .collect();
        let seconds = pass.window_s * 1e9 / self.spacing_ns.max(SPACING_S * 1e9);
        // Where many clocks or days make knots rare, shorter windows than a knot's stretch would give more rows, not more
        // places to tell apart.
        let width = seconds.max(if self.rolled_up { 1.0 } else { (pass.window_s / SPACING_S).min(1.0) });
        self.rows = rows(self.routes, observations, &self.used, &self.scales, &self.curves, width, pass.robust);
        let weights = self.rows.weights.clone();
        let mut iterations = 1;
        let mut preconditioner = Preconditioner::new(&self.system());
        for round in 1..=ROUNDS {
            // What a rough solve does not change is left to the last one.
            if iterations == 0 && round < ROUNDS {
                continue;
            }
            if iterations > AGED {
                preconditioner = Preconditioner::new(&self.system());
            }
            let mut values = self.curves.values.clone();
            iterations = self.system().solve(&preconditioner, &mut values, if round < ROUNDS { ROUGH } else { FINE });
            self.curves.values = values;
            self.gauge.apply(&mut self.curves);
            self.asymmetries = self.system().asymmetries(&self.curves.values, self.routes.all.len());
            if pass.robust {
                self.rows.weights = robust(&self.rows, &weights, &self.asymmetries, &self.curves.values);
            }
            follow(&mut self.smoothness, &self.curves, if pass.guard { self.bend } else { LOOSER * self.bend });
        }
    }
}

/// Kinds of call that may share a bias, and each link's: calls of one protocol are stamped alike.
fn kinds(evidence: &Evidence, links: &[Link]) -> (usize, Vec<u32>) {
    let protocol = |link: &Link| evidence.classes[link.class as usize].protocol.as_str();
    let mut protocols: Vec<&str> = links.iter().map(protocol).collect();
    protocols.sort_unstable();
    protocols.dedup();
    let of = links.iter().map(|link| protocols.binary_search(&protocol(link)).unwrap_or(0) as u32).collect();
    (protocols.len(), of)
}

/// Bends of the last model are cheap where it bends already: most clocks hardly bend, and a slew bends by a thousand
/// times as much. The cost grows as the root of the bend; in proportion (Laplace), a slew of 500 ppm amid few calls
/// bends late (lab s2, p95 1.2 ms instead of 0.7).
fn follow(smoothness: &mut [f64], curves: &Curves, bend: f64) {
    for block in &curves.blocks {
        for k in block.start + 1..(block.start + block.count).saturating_sub(1) {
            let v = &curves.values;
            let found = v[k - 1] - 2.0 * v[k] + v[k + 1];
            smoothness[k] = 1.0 / (bend.sqrt() * found.hypot(bend).powf(1.5));
        }
    }
}

/// Rows far from the model count less (Cauchy).
fn robust(rows: &Rows, weights: &[f64], asymmetries: &[f64], v: &[f64]) -> Vec<f64> {
    (0..rows.len())
        .map(|row| {
            let rest = rows.targets[row] - rows.dot(row, v) - asymmetries[rows.links[row] as usize];
            weights[row] / (1.0 + rest * rest * weights[row] / 9.0)
        })
        .collect()
}

/// A delay is never negative: readings that imply one are set aside.
fn guard(observations: &[Observation], used: &mut [bool], scales: &[Scale], curves: &Curves) {
    let all = observations.par_iter().zip(used).with_min_len(AT_ONCE);
    all.for_each(|(observation, used)| {
        let tolerance =
            20e3 + 0.1 * scales[observation.route as usize].delay + 3.0 * observation.floored_variance().sqrt();
        let violated = match observation.side {
            Side::Forward => observation.out(curves) < -tolerance,
            Side::Backward => observation.back(curves) < -tolerance,
            Side::Both => observation.out(curves) < -tolerance || observation.back(curves) < -tolerance,
        };
        *used &= !violated;
    });
}

fn grid(evidence: &Evidence, alignment: &Alignment, spans: &[Option<(LocalTime, LocalTime)>]) -> Grid {
    let both = |one: (i64, i64), other: (i64, i64)| (one.0.min(other.0), one.1.max(other.1));
    let of_reading = |reading: &Reading| [alignment.moments(reading)[0].time; 2].into();
    let of_readings = evidence.readings.par_iter().with_min_len(AT_ONCE).map(of_reading).reduce_with(both);
    let of_span = |(clock, span): (usize, &Option<(LocalTime, LocalTime)>)| {
        span.map(|(first, _)| [first.nanos().saturating_sub(alignment.bases[clock]); 2].into())
    };
    let of_spans = || spans.iter().enumerate().filter_map(of_span).reduce(both);
    let (first, last) = of_readings.or_else(of_spans).unwrap_or_default();
    let seconds = last.saturating_sub(first) as f64 / 1e9;
    let dense = (seconds / KNOTS).clamp(LEAST_SPACING_S, SPACING_S);
    let unknowns = UNKNOWNS.min(PER_READING * evidence.readings.len() as f64);
    let sparse = (seconds * evidence.clocks.len() as f64 / unknowns).min(seconds / KNOTS);
    let spacing_s = (seconds * evidence.clocks.len() as f64 / UNKNOWNS).max(dense).max(sparse);
    // Spans may begin before the first exchange; places are never negative.
    let epoch = first.saturating_sub((STRETCH_S * 1e9) as i64);
    let (epoch, spacing_ns) = match &evidence.rolled_up {
        // Then a window of readings is a stretch between two knots.
        Some(RolledUp { window_ns, .. }) => {
            (epoch.div_euclid(*window_ns).saturating_mul(*window_ns), *window_ns as f64)
        }
        None if is_still(evidence, seconds) => (epoch, STILL_S * 1e9),
        None => (epoch, spacing_s * 1e9),
    };
    let grid = Grid { epoch, spacing_ns, reach: 0.0 };
    Grid { reach: grid.place(0, last.saturating_add((STRETCH_S * 1e9) as i64)), ..grid }
}

/// A usual frequency error at the most (ntpd gives up at 500 ppm).
const FREQUENCY_ERROR: f64 = 500e-6;

/// Knots this far apart make a clock a constant within seconds: with unknowns that are held within a second ([`LOOSE`]), its
/// frequency error is held within a thousandth.
const STILL_S: f64 = 1_000.0;

/// Whether a dump is so short that no clock wanders by a tenth of a round trip meanwhile. What a rate is, its calls cannot
/// tell: three of 5 ms within half a second had a clock gain 477,000 ppm.
fn is_still(evidence: &Evidence, seconds: f64) -> bool {
    let calls = evidence.readings.iter().filter(|reading| reading.side != Side::Forward);
    let mut delays: Vec<i64> = calls.map(Reading::round_trip_delay_ns).filter(|delay| *delay >= 0).collect();
    delays.sort_unstable();
    let usual = delays.get(delays.len() / 2).copied().unwrap_or(0);
    FREQUENCY_ERROR * seconds * 1e9 < usual as f64 / 10.0
}

/// Spans this far outside a group's evidence do not stretch its clocks' models: their times are broken, or say nothing.
const STRETCH_S: f64 = 3_600.0;

fn ranges(
    clocks: usize,
    observations: &[Observation],
    spans: &[Option<(LocalTime, LocalTime)>],
    alignment: &Alignment,
    grid: &Grid,
) -> Vec<Option<(f64, f64)>> {
    let mut ranges: Vec<Option<(f64, f64)>> = vec![None; clocks];
    let mut widen = |clock: u32, places: [f64; 2]| {
        let range = ranges[clock as usize].get_or_insert((f64::INFINITY, f64::NEG_INFINITY));
        *range = (range.0.min(places[0]).min(places[1]), range.1.max(places[0]).max(places[1]));
    };
    for observation in observations.iter().filter(|observation| !observation.astray) {
        widen(observation.client, [observation.sent, observation.returned]);
        widen(observation.server, [observation.received, observation.responded]);
    }
    let stretch = STRETCH_S * 1e9 / grid.spacing_ns;
    for (clock, range) in ranges.iter_mut().enumerate() {
        // By the raw times of a clock that jumps its spans may lie hours away.
        let never_jumps = stretches::steps(clock as u32, &alignment.stretches[clock]).next().is_none();
        let spans = spans.get(clock).filter(|_| never_jumps);
        if let (Some((low, high)), Some(Some((first, last)))) = (range, spans) {
            let first = grid.place(alignment.bases[clock], first.nanos());
            let last = grid.place(alignment.bases[clock], last.nanos());
            *low = low.min(first.max(*low - stretch));
            *high = high.max(last.min(*high + stretch));
        }
    }
    ranges
        .into_iter()
        .map(|range| range.map(|(low, high)| (low.clamp(0.0, grid.reach), high.clamp(0.0, grid.reach))))
        .collect()
}
