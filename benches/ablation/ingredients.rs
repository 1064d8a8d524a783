//! The ingredients: what is taken out of the source, what stands in its place, and where that ought to show.

/// A figure of a score; of all of them, less is better.
#[derive(Clone, Copy)]
pub enum Figure {
    P95,
    P99,
    /// How wide the stated 95 % interval is.
    Interval,
    /// How often it misses the truth.
    Missed,
    Inverted,
}
use Figure::*;

pub struct Shown {
    pub scenario: &'static str,
    /// How many of its fleets each seed stands for; a figure is their geometric mean.
    pub fleets: u64,
    /// Whether the first gateway is named as one.
    pub reference: bool,
    pub figures: &'static [Figure],
}

pub struct Ingredient {
    pub name: &'static str,
    /// What is done in its place.
    pub instead: &'static str,
    /// File below `src/estimate`, its text, and the text in its place.
    pub replace: &'static [(&'static str, &'static str, &'static str)],
    pub shown: &'static [Shown],
}

const fn of(scenario: &'static str, figures: &'static [Figure]) -> Shown {
    Shown { scenario, fleets: 1, reference: true, figures }
}

/// For what is rare in one fleet, and large then.
const fn of_eight(scenario: &'static str, figures: &'static [Figure]) -> Shown {
    Shown { scenario, fleets: 8, reference: true, figures }
}

/// The same where no clock is named, less what all clocks are off by.
const fn unanchored(scenario: &'static str, figures: &'static [Figure]) -> Shown {
    Shown { scenario, fleets: 8, reference: false, figures }
}

pub const INGREDIENTS: &[Ingredient] = &[
    Ingredient {
        name: "alignment",
        instead: "first offsets from the quickest call of a pair, not the median of the quicker half",
        replace: &[("align.rs", "calls.truncate(calls.len().div_ceil(2));", "calls.truncate(1);")],
        shown: &[of("long_calls", &[P95, P99])],
    },
    Ingredient {
        name: "jumps",
        instead: "jumps of seconds are not taken off beforehand",
        replace: &[("align.rs", "jumps::find(&mut alignment, readings, anchored);", "let _ = jumps::find;")],
        shown: &[of("jumps", &[P95])],
    },
    Ingredient {
        name: "half_seconds",
        instead: "no jump of less than a second is taken off beforehand",
        replace: &[(
            "jumps.rs",
            "Look { least: 1e8, sure: LARGE_NS, taken_off: true }",
            "Look { least: 1e9, sure: LARGE_NS, taken_off: true }",
        )],
        shown: &[Shown { fleets: 24, ..of("half_seconds", &[P99, Inverted]) }],
    },
    Ingredient {
        name: "slewed",
        instead: "what a clock changed by while nobody looked it jumped by",
        replace: &[(
            "jumps.rs",
            "Look { least: 1e8, sure: LARGE_NS, taken_off: true }",
            "Look { least: 1e8, sure: 0.0, taken_off: true }",
        )],
        shown: &[of("slews", &[P99, Inverted])],
    },
    Ingredient {
        name: "roots",
        instead: "the look for jumps is from the clock by which there are the fewest, whatever is left unexplained",
        replace: &[(
            "jumps.rs",
            "CALLS * jumps(&grown) + self.unexplained(members, &grown);",
            "CALLS * jumps(&grown) + 0 * self.unexplained(members, &grown);",
        )],
        shown: &[unanchored("all_leap", &[P99, Inverted])],
    },
    Ingredient {
        name: "turn",
        instead: "a clock stepped halfway between two quick calls",
        replace: &[("samples.rs", "turn(left, &between, came);", "turn(left, &between[..0], came);")],
        shown: &[Shown { fleets: 24, ..of("no_answer", &[P99, Inverted]) }],
    },
    Ingredient {
        name: "astray",
        instead: "what no stretch of a clock that jumps explains counts",
        replace: &[(
            "observation.rs",
            "            astray,\n        }",
            "            astray: astray && false,\n        }",
        )],
        shown: &[Shown { fleets: 24, ..unanchored("few_calls", &[P99, Inverted]) }],
    },
    Ingredient {
        name: "few",
        instead: "where no clock jumps, calls that are seconds off count",
        replace: &[(
            "jumps.rs",
            "|| astray == 0 || FEW * astray > calls {",
            "|| astray < usize::MAX || FEW * astray > calls {",
        )],
        shown: &[Shown { fleets: 24, ..of("late_step", &[P99]) }],
    },
    Ingredient {
        name: "begin",
        instead: "curves begin at zero",
        replace: &[(
            "beforehand.rs",
            "let empty = curves.clone();",
            "let empty = curves.clone();\n    if empty.knots() < usize::MAX {\n        return;\n    }",
        )],
        shown: &[of_eight("saw_tooth", &[P99, Inverted])],
    },
    Ingredient {
        name: "usual",
        instead: "a group is measured from the clock whose mean offset is the median, however often it steps",
        replace: &[("gauge.rs", "offsets.truncate(offsets.len().div_ceil(2));", "offsets.truncate(offsets.len());")],
        shown: &[unanchored("all_leap", &[P99, Inverted])],
    },
    Ingredient {
        name: "asymmetry",
        instead: "every link taken to be symmetric to a microsecond",
        replace: &[("fit.rs", "const ASYMMETRY: f64 = 0.1466;", "const ASYMMETRY: f64 = 1e-6;")],
        shown: &[of("const", &[Missed, P95])],
    },
    Ingredient {
        name: "limits",
        instead: "links normally uneven, however far out",
        replace: &[("fit.rs", "for round in 1..=LIMITINGS {", "for round in 1..LIMITINGS.min(1) {")],
        shown: &[of_eight("drift", &[P95]), of_eight("far", &[P95])],
    },
    Ingredient {
        name: "learnt",
        instead: "links as uneven as is thought, whatever the cycles say",
        replace: &[("fit.rs", ".sqrt().min(1.0);", ".sqrt().clamp(1.0, 1.0);")],
        shown: &[of("symmetric", &[P95, Interval])],
    },
    Ingredient {
        name: "asymmetry_within",
        instead: "calls without a client span no more asymmetric than others",
        replace: &[("fit.rs", "const ASYMMETRY_WITHIN: f64 = 0.58;", "const ASYMMETRY_WITHIN: f64 = ASYMMETRY;")],
        shown: &[of("clientless", &[P95, Missed])],
    },
    Ingredient {
        name: "routes",
        instead: "an asymmetry for every protocol",
        replace: &[(
            "routes.rs",
            "of_pair.chunk_by(alike)",
            "of_pair.chunk_by(|left, right| alike(left, right) && false)",
        )],
        shown: &[of("sparse", &[P95, Missed])],
    },
    Ingredient {
        name: "low_delay",
        instead: "the least δ of a route, not its 15 % quantile",
        replace: &[("scale.rs", "const LOW_DELAY: f64 = 0.15;", "const LOW_DELAY: f64 = 0.0;")],
        shown: &[of("hostile_even", &[P95]), of("given_up", &[P95])],
    },
    Ingredient {
        name: "handful",
        instead: "what a handful of calls are like that may all have been given up is what the link is like",
        replace: &[
            (
                "routes.rs",
                "        let (mut few, mut chance) = (0,",
                "        if count > 0 {\n            return least;\n        }\n        let (mut few, mut chance) = (0,",
            ),
            ("routes.rs", "const NO_CHANCE: f64 = 1e-3;", "const NO_CHANCE: f64 = 2.0;"),
            ("routes.rs", "const LIKELY: f64 = 0.05;", "const LIKELY: f64 = 2.0;"),
        ],
        shown: &[of_eight("handful", &[P99, Inverted])],
    },
    Ingredient {
        name: "waited_for",
        instead: "every response counts",
        replace: &[(
            "scale.rs",
            "!o.is_two_sided() || o.delay() >= least[o.route as usize]",
            "!o.is_two_sided() || o.delay() < least[o.route as usize] || o.delay() >= least[o.route as usize]",
        )],
        shown: &[of("forgotten", &[P95, P99])],
    },
    Ingredient {
        name: "detours",
        instead: "a way that takes longer for a while is as uneven as ever",
        replace: &[(
            "routes.rs",
            "for detour in Detour::all(direct, &calls) {",
            "for detour in Detour::all(direct, &calls[..0]) {",
        )],
        shown: &[of("slowed", &[P95, P99])],
    },
    Ingredient {
        name: "quick_among",
        instead: "calls that were given up while others take long tell where a clock is before the solve",
        replace: &[(
            "samples.rs",
            "2 * around.iter().filter(|sample| is_quick(sample)).count() >= around.len()",
            "2 * around.iter().filter(|sample| is_quick(sample)).count() >= around.len().min(2)",
        )],
        shown: &[of_eight("slowed_long", &[P95, P99])],
    },
    Ingredient {
        name: "together",
        instead: "no step is smaller than three times what single delays spread over",
        replace: &[("steps.rs", "const TOGETHER: f64 = 40.0;", "const TOGETHER: f64 = 1e12;")],
        shown: &[of_eight("slow_steps", &[P95, P99])],
    },
    Ingredient {
        name: "guard",
        instead: "readings that imply a negative delay count",
        replace: &[("fit.rs", "*used &= !violated;", "*used &= !violated || violated;")],
        shown: &[of("forgotten", &[P95, P99]), of("given_up", &[Missed])],
    },
    Ingredient {
        name: "cauchy",
        instead: "all rows keep their weight",
        replace: &[("fit.rs", "if pass.robust {", "if pass.robust && false {")],
        shown: &[of("hostile_even", &[P95])],
    },
    Ingredient {
        name: "lending",
        instead: "windows with one direction alone say nothing",
        replace: &[("rows.rs", "const LENT_OVER: i64 = 3;", "const LENT_OVER: i64 = 0;")],
        shown: &[of("batch", &[P95, P99])],
    },
    Ingredient {
        name: "minima",
        instead: "the least of n delays taken for the link's floor",
        replace: &[("legs.rs", "offset: ((out - self.out) - (back - self.back)) / 2.0", "offset: (out - back) / 2.0")],
        shown: &[of("sparse", &[P95]), of_eight("forgotten", &[Inverted])],
    },
    Ingredient {
        name: "excess",
        instead: "a slow pair of minima as sure as a quick one",
        replace: &[("rows.rs", "apart.variance += excess * excess / 3.0;", "let _ = excess;")],
        shown: &[of("batch", &[P95, P99]), of("sparse", &[Inverted])],
    },
    Ingredient {
        name: "both_legs",
        instead: "what a request and a response took together says nothing of either",
        replace: &[("rows.rs", "together.mixed(apart, doubt)", "together.mixed(apart, 1.0)")],
        shown: &[of_eight("sparse", &[P95, P99])],
    },
    Ingredient {
        name: "both_doubted",
        instead: "what they took together says as much where calls are given up",
        replace: &[("rows.rs", "const DOUBT: f64 = 10.0;", "const DOUBT: f64 = 0.0;")],
        shown: &[of("given_up", &[P95])],
    },
    Ingredient {
        name: "floored",
        instead: "floored readings averaged",
        replace: &[("rows.rs", "if exact { together(", "if exact && false { together(")],
        shown: &[of_eight("milliseconds", &[P95]), of("connecting", &[P95])],
    },
    Ingredient {
        name: "close",
        instead: "floored readings of any δ",
        replace: &[("rows.rs", "const CLOSE: f64 = 1.5;", "const CLOSE: f64 = 1e9;")],
        shown: &[of("connecting", &[P95])],
    },
    Ingredient {
        name: "long_windows",
        instead: "windows of five seconds to the last",
        replace: &[
            ("fit.rs", "window_s: 10.0, guard", "window_s: 5.0, guard"),
            ("fit.rs", "window_s: 20.0, guard", "window_s: 5.0, guard"),
            ("fit.rs", "window_s: 40.0, guard", "window_s: 5.0, guard"),
        ],
        shown: &[of("hostile_even", &[P95]), of("symmetric", &[P95])],
    },
    Ingredient {
        name: "wander",
        instead: "a clock bends a hundred times as easily",
        replace: &[("fit.rs", "const WANDER: f64 = 2.5e-7;", "const WANDER: f64 = 2.5e-5;")],
        shown: &[of("sparse", &[P95]), of("symmetric", &[P95])],
    },
    Ingredient {
        name: "looser",
        instead: "the first passes as stiff as the last",
        replace: &[("fit.rs", "const LOOSER: f64 = 5.0;", "const LOOSER: f64 = 1.0;")],
        shown: &[of_eight("mixed", &[P99, Inverted])],
    },
    Ingredient {
        name: "bends",
        instead: "a bend costs in proportion to its size (Laplace)",
        replace: &[(
            "fit.rs",
            "smoothness[k] = 1.0 / (bend.sqrt() * found.hypot(bend).powf(1.5));",
            "smoothness[k] = 1.0 / (bend * found.hypot(bend));",
        )],
        shown: &[of("slews", &[P99]), of("sparse", &[P99]), of("symmetric", &[P95])],
    },
    Ingredient {
        name: "follow",
        instead: "a bend costs its square wherever the clock bent before",
        replace: &[(
            "fit.rs",
            "smoothness[k] = 1.0 / (bend.sqrt() * found.hypot(bend).powf(1.5));",
            "smoothness[k] = bend.powi(-2) + 0.0 * found;",
        )],
        shown: &[of("slews", &[P95]), of("sparse", &[P95])],
    },
    Ingredient {
        name: "steps",
        instead: "no search for steps: a curve runs through them",
        replace: &[("fit.rs", "const SEARCHES: usize = 8;", "const SEARCHES: usize = 0;")],
        shown: &[of("slews", &[P95, Inverted]), of("mixed", &[P99])],
    },
    Ingredient {
        name: "shifts",
        instead: "a step that single delays hide passes for drift",
        replace: &[("shifts.rs", "const GAIN: f64 = 40.0;", "const GAIN: f64 = f64::INFINITY;")],
        shown: &[of_eight("slow_steps", &[P95, P99]), of("far", &[P99])],
    },
    Ingredient {
        name: "edges",
        instead: "slews begin and end where the search has them",
        replace: &[("fit.rs", "work.place_ramps(&mut observations);", "let _ = Work::place_ramps;")],
        shown: &[of("slews", &[Inverted]), of_eight("slow_steps", &[P95, P99])],
    },
    Ingredient {
        name: "beforehand",
        instead: "the search for steps begins with none",
        replace: &[(
            "fit.rs",
            "None if evidence.rolled_up.is_none() => jumps::closer",
            "None if evidence.readings.is_empty() => jumps::closer",
        )],
        shown: &[of_eight("brief", &[P99]), of("hectic", &[P95, P99])],
    },
    Ingredient {
        name: "looks",
        instead: "each clock's steps as they seem by those that were known before it",
        replace: &[("jumps.rs", "const LOOKS: usize = 2;", "const LOOKS: usize = 0;")],
        shown: &[of_eight("brief", &[P99, Inverted]), of_eight("hectic", &[P99, Inverted])],
    },
    Ingredient {
        name: "gives_way",
        instead: "a break gives way to any that is found beside it",
        replace: &[("steps.rs", "any(displaces) && cost > as_it_is;", "any(displaces) && cost > as_it_is && false;")],
        shown: &[of_eight("hectic", &[P99, Inverted]), of_eight("mixed", &[P99, Inverted])],
    },
    Ingredient {
        name: "sides",
        instead: "windows reach across steps",
        replace: &[(
            "rows.rs",
            "curves.breaks_before([observation.client, observation.server], place))",
            "0 * curves.breaks_before([observation.client, observation.server], place))",
        )],
        shown: &[of("brief", &[P99]), of("hectic", &[P95, P99])],
    },
    Ingredient {
        name: "bias_odds",
        instead: "kinds of call always have a bias",
        replace: &[("fit.rs", "biases) > THREE_TO_ONE;", "biases) > f64::INFINITY;")],
        shown: &[of_eight("const", &[P95, Interval])],
    },
    Ingredient {
        name: "decision",
        instead: "every clock is moved by what was found",
        replace: &[(
            "decide.rs",
            "let size = |part: &Part| if well_kept { part.ratio() } else { in_any_way(part) };",
            "let size = |part: &Part| part.ratio().max(in_any_way(part)).max(f64::INFINITY);",
        )],
        shown: &[of("perfect", &[P95]), of("ntp", &[P95]), of("const", &[P95])],
    },
    Ingredient {
        name: "agreeing",
        instead: "all that seem right hold the others, and one in doubt stays where it was",
        replace: &[
            ("table.rs", "self.apart_halfway(one, other) > surely", "self.apart_halfway(one, other) > f64::INFINITY"),
            (
                "decide.rs",
                "next[clock] = table.clocks[clock].iter().any(|part| size(part) > least);",
                "next[clock] = false;",
            ),
        ],
        shown: &[of_eight("edge", &[P95])],
    },
    Ingredient {
        name: "judged",
        instead: "whether a correction is large is asked before it is drawn towards zero",
        replace: &[("decide.rs", "large = drawn.clocks", "large = table.clocks")],
        shown: &[of_eight("uneven", &[P95, P99])],
    },
    Ingredient {
        name: "admit",
        instead: "intervals as if the clocks that hold others were known to be right",
        replace: &[("decide.rs", "drawn.admit(&free_table);", "let _ = Table::admit;")],
        shown: &[of("ntp", &[Missed]), of("const", &[Missed])],
    },
    Ingredient {
        name: "levels",
        instead: "levels in well-kept fleets are not drawn towards zero",
        replace: &[("decide.rs", "|fit| drawn.draw(fit)", "|_| _ = Table::draw")],
        shown: &[of_eight("uneven", &[P95, P99])],
    },
    Ingredient {
        name: "out_of_order",
        instead: "clocks are held whatever order that leaves calls in",
        replace: &[(
            "decide.rs",
            "let violated = delay(&now) < -tolerance",
            "let violated = delay(&now) < f64::NEG_INFINITY",
        )],
        shown: &[of("ntp", &[Inverted]), of("const", &[Inverted])],
    },
    Ingredient {
        name: "narrow",
        instead: "an interval may be wider than cause before effect allows",
        replace: &[("mod.rs", "bounds::narrow(&mut estimate.map);", "let _ = bounds::narrow;")],
        shown: &[of_eight("once", &[Interval, Missed])],
    },
];
