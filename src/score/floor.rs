//! The error that nobody removes: what asymmetric links alone make of the best possible estimate.

use std::collections::{BTreeMap, BTreeSet};

use super::read::{Link, Scored};

/// Error of each host's offset in ns, by host, when every link's base delays are known and nothing else disturbs;
/// `None` where no call ties a host to the reference.
///
/// Least squares over the links in use: error(server) − error(client) = base × asymmetry, rows scaled by 1 / base,
/// reference 0.
pub(super) fn errors_ns(scored: &Scored) -> Option<Vec<Option<f64>>> {
    let reference = scored.true_reference?;
    let mut rows = Vec::new();
    for ends in in_use(scored) {
        rows.extend(scored.links.get(&ends).map(|link| (ends, *link)));
    }
    let tied = tied(scored.hosts.len(), reference, &rows);
    let solution = solve(scored.hosts.len(), reference, &rows);
    Some(tied.into_iter().zip(solution).map(|(tied, error_ns)| tied.then_some(error_ns)).collect())
}

/// Client and server host of every two-sided call.
fn in_use(scored: &Scored) -> BTreeSet<(usize, usize)> {
    let pair = |span: &super::read::Span| {
        let parent = &scored.spans[span.parent?];
        let hosts = (parent.truth?.host, span.truth?.host);
        (span.is_server && parent.is_client && hosts.0 != hosts.1).then_some(hosts)
    };
    scored.spans.iter().filter_map(pair).collect()
}

type Row = ((usize, usize), Link);

fn tied(hosts: usize, reference: usize, rows: &[Row]) -> Vec<bool> {
    let mut neighbours: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for ((client, server), _) in rows {
        neighbours.entry(*client).or_default().push(*server);
        neighbours.entry(*server).or_default().push(*client);
    }
    let mut tied = vec![false; hosts];
    let mut open = vec![reference];
    while let Some(host) = open.pop() {
        if !std::mem::replace(&mut tied[host], true) {
            open.extend(neighbours.get(&host).into_iter().flatten());
        }
    }
    tied
}

/// Conjugate gradients on the normal equations, a weighted graph Laplacian with the reference held at 0, scaled by
/// its diagonal.
fn solve(hosts: usize, reference: usize, rows: &[Row]) -> Vec<f64> {
    let weight = |link: &Link| 1.0 / (link.base_ns * link.base_ns);
    let (mut diagonal, mut residual) = (vec![0.0; hosts], vec![0.0; hosts]);
    for ((client, server), link) in rows {
        let pull = weight(link) * link.base_ns * link.asymmetry;
        residual[*server] += pull;
        residual[*client] -= pull;
        diagonal[*client] += weight(link);
        diagonal[*server] += weight(link);
    }
    let free = |host: usize| host != reference && diagonal[host] > 0.0;
    let scaled = |residual: &[f64]| -> Vec<f64> {
        (0..hosts).map(|host| if free(host) { residual[host] / diagonal[host] } else { 0.0 }).collect()
    };
    let product = |of: &[f64]| {
        let mut product = vec![0.0; hosts];
        for ((client, server), link) in rows {
            let pull = weight(link) * (of[*server] - of[*client]);
            product[*server] += pull;
            product[*client] -= pull;
        }
        product
    };
    let dot = |one: &[f64], other: &[f64]| -> f64 { one.iter().zip(other).map(|(one, other)| one * other).sum() };

    let mut solution = vec![0.0; hosts];
    let mut ahead = scaled(&residual);
    let mut size = dot(&residual, &ahead);
    let enough = size * 1e-24;
    // In exact arithmetic as many rounds as unknowns suffice; rounding asks for some more.
    for _ in 0..4 * hosts {
        if size <= enough {
            break;
        }
        let pushed = product(&ahead);
        let far = size / dot(&ahead, &pushed);
        for host in 0..hosts {
            solution[host] += far * ahead[host];
            residual[host] -= far * pushed[host];
        }
        let next = scaled(&residual);
        let next_size = dot(&residual, &next);
        for host in 0..hosts {
            ahead[host] = next[host] + next_size / size * ahead[host];
        }
        size = next_size;
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rows: &[Row], expected_ns: &[f64]) {
        let solution = solve(expected_ns.len(), 0, rows);
        for (found, expected) in solution.iter().zip(expected_ns) {
            assert!((found - expected).abs() < 1e-6, "{solution:?}, not {expected_ns:?}");
        }
    }

    fn link(client: usize, server: usize, base_ns: f64, asymmetry: f64) -> Row {
        ((client, server), Link { base_ns, asymmetry })
    }

    #[test]
    fn a_chain_adds_up_and_direction_has_a_sign() {
        check(&[link(0, 1, 1e6, 0.1), link(1, 2, 2e6, 0.2)], &[0.0, 1e5, 5e5]);
        check(&[link(1, 0, 1e6, 0.1)], &[0.0, -1e5]);
    }

    #[test]
    fn a_triangle_shares_its_mismatch_by_squared_base() {
        // By hand: 0→1 and 1→2 of base 1 ms without asymmetry, 0→2 of 2 ms with 0.3 (0.6 ms more out).
        // Variances 1, 1, 4: of the mismatch of 0.6 ms the path takes 2/6, half on each of its links.
        check(&[link(0, 1, 1e6, 0.0), link(1, 2, 1e6, 0.0), link(0, 2, 2e6, 0.3)], &[0.0, 1e5, 2e5]);
    }

    #[test]
    fn a_symmetric_link_and_no_link_leave_zero() {
        check(&[link(0, 1, 1e6, 0.0)], &[0.0, 0.0, 0.0]);
        assert_eq!(tied(3, 0, &[link(0, 1, 1e6, 0.0)]), [true, true, false]);
    }

    #[test]
    fn hundreds_of_hosts_come_out_as_they_went_in() {
        // Asymmetries made from known errors: every row can be met exactly.
        let errors: Vec<f64> = (0..300).map(|host| f64::from(host * 7_919 % 1_000) * 100.0).collect();
        let errors: Vec<f64> = errors.iter().map(|error| error - errors[0]).collect();
        let mut rows = Vec::new();
        for host in 1..300 {
            for other in [host - 1, host / 2] {
                let base_ns = 160_000.0 * (1 + (host + other) % 40) as f64;
                rows.push(link(other, host, base_ns, (errors[host] - errors[other]) / base_ns));
            }
        }
        let solution = solve(300, 0, &rows);
        let worst = solution.iter().zip(&errors).map(|(found, error)| (found - error).abs()).fold(0.0, f64::max);
        assert!(worst < 0.1, "{worst}");
    }
}
