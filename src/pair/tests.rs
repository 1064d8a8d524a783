use super::*;
use crate::span::CallFacts;

/// Spans of one trace, one a line: `id parent kind clock start..end [words]`.
fn spans(text: &str) -> Vec<Paired> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = words[4].split_once("..").expect("start..end");
            let time = |text: &str| LocalTime::from_nanos(1_700_000_000_000_000_000 + text.parse::<i64>().expect("ns"));
            let kind = match words[2] {
                "client" => SpanKind::Client,
                "server" => SpanKind::Server,
                "producer" => SpanKind::Producer,
                "consumer" => SpanKind::Consumer,
                _ => SpanKind::Internal,
            };
            let says = |word: &str| words[5..].contains(&word);
            let facts = CallFacts {
                protocol: if says("message") { Protocol::Messaging } else { Protocol::Http },
                processes_message: says("process"),
                gave_up: says("gave-up"),
                has_http_status: says("500"),
            };
            let parent = words[1].parse().ok().filter(|id| *id != 0).map(SpanId);
            let head = SpanHead {
                trace: TraceId(7),
                span: SpanId(words[0].parse().expect("id")),
                parent,
                kind,
                start: time(start),
                end: time(end),
                failed: says("failed"),
                facts,
                fingerprint: words[5..].iter().filter_map(|word| word.strip_prefix('#')?.parse::<u64>().ok()).sum(),
            };
            let clock = ClockId(words[3].bytes().map(|letter| u32::from(letter - b'a')).sum());
            Paired { head, clock, resource: 0, quantum_ns: 1, standing: Standing::Only }
        })
        .collect()
}

fn check(text: &str, expected: &[&str]) {
    let mut spans = spans(text);
    let pairing = pair(&mut spans, &[], &["shop".to_owned()]);
    let edge = |edge: &Edge| {
        let id = |index: u32| spans[index as usize].head.span.0;
        format!("{}>{} {:?}", id(edge.parent), id(edge.child), edge.exchange.counts)
    };
    let oddity = |(span, what): &(u32, Oddity)| format!("{} {what:?}", spans[*span as usize].head.span.0);
    let found: Vec<String> = pairing.edges.iter().map(edge).chain(pairing.oddities.iter().map(oddity)).collect();
    assert_eq!(found, expected);
}

#[test]
fn copies_do_not_decide_what_starts_are_floored_to() {
    let starts: String = (1..=8).map(|id| format!("{id} 0 client a {id}000000..9000000\n")).collect();
    let quanta = |text: &str| {
        let mut spans = spans(text);
        pair(&mut spans, &[], &["shop".to_owned()]);
        spans.iter().map(|span| span.quantum_ns).max()
    };
    let odd = "9 0 client a 5009..9000000\n";
    assert_eq!(quanta(&format!("{starts}10 0 client a 0..1")), Some(1_000_000));
    assert_eq!(quanta(&format!("{starts}{odd}")), Some(1));
    assert_eq!(quanta(&format!("{starts}{starts}{odd}")), Some(1));
}

/// An SDK that takes the wall clock once, in milliseconds, as a trace reaches its process, and counts on from there.
#[test]
fn spans_counted_from_a_floored_millisecond_are_floored_with_it() {
    let call = |id: u32, root: u32| {
        let (server, inside) = (id + 1, id + 2);
        format!(
            "{id} 0 client a {root}100333..{root}900444\n {server} {id} server b {root}000201..{root}500000
             {inside} {server} internal b {root}123456..{root}300000\n"
        )
    };
    let quanta = |text: &str| {
        let mut spans = spans(text);
        spans.iter_mut().for_each(|span| span.resource = span.clock.0);
        let edges = pair(&mut spans, &[], &["a".to_owned(), "b".to_owned()]).edges;
        let of_edges = edges.iter().map(|edge| (edge.exchange.client_quantum_ns, edge.exchange.server_quantum_ns));
        assert!(of_edges.clone().all(|quanta| Some(quanta) == of_edges.clone().next()));
        (of_edges.clone().next(), spans.iter().map(|span| span.quantum_ns).collect::<Vec<_>>())
    };
    let floored = quanta(&(call(10, 2) + &call(20, 3)));
    assert_eq!(floored, (Some((1, 1_000_000)), [1, 1_000_000, 1_000_000].repeat(2)));
    // One alone may be near a whole millisecond by chance.
    assert_eq!(quanta(&call(10, 2)), (Some((1, 1)), vec![1; 3]));
}

#[test]
fn a_call_between_two_clocks_counts_both_ways() {
    check("1 0 client a 0..100\n 2 1 server b 10..90", &["1>2 TwoSided"]);
}

#[test]
fn a_call_within_one_clock_is_no_exchange() {
    check("1 0 client a 0..100\n 2 1 server a 10..90", &[]);
}

#[test]
fn a_client_that_gave_up_proves_only_the_request() {
    check("1 0 client a 0..100 gave-up\n 2 1 server b 10..90", &["1>2 ForwardOnly"]);
}

#[test]
fn an_error_is_an_answer_unless_it_came_quicker_than_answers_do() {
    check("1 0 client a 0..100 failed\n 2 1 server b 10..90", &["1>2 TwoSided"]);
    let answered = "1 0 client a 0..100\n 2 1 server b 10..90\n";
    check(&format!("{answered}3 0 client a 0..90 failed\n 4 3 server b 10..80"), &["1>2 TwoSided", "3>4 TwoSided"]);
    check(&format!("{answered}3 0 client a 0..85 failed\n 4 3 server b 10..80"), &["1>2 TwoSided", "3>4 ForwardOnly"]);
    check(&format!("{answered}3 0 client a 0..85 failed 500\n 4 3 server b 10..80"), &["1>2 TwoSided", "3>4 TwoSided"]);
}

#[test]
fn a_server_that_outlives_its_client_was_not_waited_for() {
    check("1 0 client a 0..100\n 2 1 server b 10..111", &["1>2 ForwardOnly"]);
}

#[test]
fn of_retries_only_the_last_answer_was_waited_for() {
    check("1 0 client a 0..100\n 2 1 server b 10..20\n 3 1 server b 40..90", &["1>2 ForwardOnly", "1>3 TwoSided"]);
}

#[test]
fn a_server_that_calls_several_others_retries_none_of_them() {
    check("1 0 server a 0..100\n 2 1 server b 10..40\n 3 1 server c 50..90", &["1>2 TwoSided", "1>3 TwoSided"]);
}

#[test]
fn a_publish_proves_only_that_the_message_came_later() {
    let mut polls = spans("1 0 producer a 50..60 message\n 2 1 consumer b 0..90 message");
    let edge = pair(&mut polls, &[], &["shop".to_owned()]).edges[0];
    assert_eq!((edge.exchange.counts, edge.exchange.forward_ns()), (Use::ForwardOnly, 40));
    let mut processes = spans("1 0 producer a 50..60 message\n 2 1 consumer b 70..90 message process");
    assert_eq!(pair(&mut processes, &[], &["shop".to_owned()]).edges[0].exchange.forward_ns(), 20);
}

#[test]
fn a_linked_consumer_is_paired_like_a_child() {
    let mut spans = spans("1 0 producer a 50..60 message\n 2 0 consumer b 70..90 message process");
    let pairing = pair(&mut spans, &[(1, TraceId(7), SpanId(1))], &["shop".to_owned()]);
    assert_eq!((pairing.edges.len(), pairing.edges[0].exchange.forward_ns()), (1, 20));
}

#[test]
fn a_server_under_a_server_is_a_class_of_its_own() {
    let mut spans = spans("1 0 server a 0..100\n 2 1 server b 10..90\n 3 1 client a 5..95\n 4 3 server b 10..90");
    let pairing = pair(&mut spans, &[], &["shop".to_owned()]);
    let protocols: Vec<_> = pairing.classes.iter().map(|class| class.protocol.as_str()).collect();
    assert_eq!(protocols, ["http", "http without client span"]);
    assert!(pairing.edges.iter().all(|edge| edge.exchange.counts == Use::TwoSided));
}

#[test]
fn an_internal_parent_proves_only_the_request() {
    check("1 0 internal a 0..100\n 2 1 server b 10..90", &["1>2 ForwardOnly"]);
}

#[test]
fn a_server_may_share_its_clients_id() {
    check("1 0 client a 0..100\n 1 0 server b 10..90", &["1>1 TwoSided"]);
}

#[test]
fn copies_are_told_from_conflicts_and_take_no_part() {
    check("1 0 client a 0..100\n 2 1 server b 10..90\n 2 1 server b 10..90", &["1>2 TwoSided", "2 Duplicate"]);
    check(
        "1 0 client a 0..100\n 2 1 server b 10..90 #1\n 2 1 server b 10..90 #2",
        &["1>2 TwoSided", "2 ConflictingDuplicate"],
    );
}

#[test]
fn missing_parents_and_cycles_are_found_and_stopped_at() {
    check("1 9 client a 0..100\n 2 1 server b 10..90", &["1>2 TwoSided", "1 MissingParent"]);
    check(
        "1 2 client a 0..100\n 2 1 server b 10..90",
        &["1>2 TwoSided", "2>1 ForwardOnly", "1 ParentCycle", "2 ParentCycle"],
    );
    // What hangs below a cycle is none.
    check("1 1 internal a 0..100\n 2 1 internal a 10..90\n 3 2 internal a 20..80", &["1 ParentCycle"]);
    // Of an id that is given twice the first span says where its parents lead.
    check("1 0 internal a 0..100\n 1 2 server a 0..100\n 2 1 internal a 10..90", &["1 ParentCycle"]);
}
