//! What never arrives: lost spans, and traces that a tail sampler drops.

use super::dice::Dice;
use super::scenario::Sampling;
use super::traffic::Span;

/// Keeps traces with an error, the slowest, and some of the rest. A request is kept or dropped whole.
pub(super) fn tail(requests: Vec<Vec<Span>>, sampling: Sampling, dice: &mut Dice) -> Vec<Vec<Span>> {
    // By its root, as samplers do: what hangs behind a message may last far longer.
    let duration = |request: &Vec<Span>| {
        let root = request.iter().find(|span| span.parent.is_none() && span.link.is_none());
        root.map_or(0, |root| root.stamp.true_end - root.stamp.true_start)
    };
    let mut durations: Vec<i64> = requests.iter().map(duration).collect();
    durations.sort_unstable();
    let fast = ((1.0 - sampling.slowest) * durations.len() as f64) as usize;
    let slow = durations.get(fast).copied().unwrap_or(i64::MAX);
    requests
        .into_iter()
        .filter(|request| {
            let lucky = dice.chance(sampling.rest);
            lucky || duration(request) >= slow || request.iter().any(|span| span.failed)
        })
        .collect()
}

/// Drops a share of the spans.
pub(super) fn lose(spans: &mut Vec<Span>, share: f64, dice: &mut Dice) {
    spans.retain(|_| !dice.chance(share));
}
