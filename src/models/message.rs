//! [`Models`] ↔ the message `unskew.v1.Models`.

use std::collections::BTreeMap;

use prost::Message;

use super::{Learned, Models};
use crate::clock::{
    Clock, ClockId, ClockModel, ClockState, Knot, LocalTime, Onward, ReferenceTime, Segment, Step, StepKind, Treatment,
};
use crate::identity::{self, Finder, Place};
use crate::proto;

/// Of the message; a newer one may say what we do not understand.
const VERSION: u32 = 1;

/// Bytes that are no models of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("not a message of clock models ({0}); `unskew fix` writes one as skew/models.binpb")]
    Malformed(String),
    #[error("written by a newer unskew (version {0} of the message); run this program's `fix` again, or update it")]
    Newer(u32),
    #[error("its rules for finding a resource's clock are not this program's; run this program's `fix` again")]
    OtherRules,
}

/// The bytes of the message; the same for the same models.
pub fn encode(models: &Models) -> Vec<u8> {
    to_message(models).encode_to_vec()
}

/// Models as a message.
pub fn to_message(models: &Models) -> proto::Models {
    proto::Models {
        version: VERSION,
        reference: models.reference.clone().unwrap_or_default(),
        clocks: models.clocks.iter().map(|(clock, model)| clock_message(clock, model)).collect(),
        finder: Some(finder_message(&models.finder)),
        learned: models.learned.as_ref().map(|learned| proto::Learned {
            number: learned.number,
            from_reference_unix_nano: learned.from.nanos(),
            doubted: learned.doubted.iter().cloned().collect(),
            window: learned.window.clone(),
        }),
    }
}

/// Models from the bytes of a message.
///
/// # Errors
/// Where the bytes are no such message, or one that this program does not understand.
pub fn decode(bytes: &[u8]) -> Result<Models, Unreadable> {
    let message = proto::Models::decode(bytes).map_err(|malformed| Unreadable::Malformed(malformed.to_string()))?;
    if message.version > VERSION {
        return Err(Unreadable::Newer(message.version));
    }
    let malformed = |what: &str| Unreadable::Malformed(what.to_owned());
    let finder = message.finder.ok_or_else(|| malformed("it has no finder"))?;
    if finder.rules != rules() {
        return Err(Unreadable::OtherRules);
    }
    let clocks = message.clocks.into_iter().map(clock_of).collect::<Option<Vec<_>>>();
    let clocks = clocks.ok_or_else(|| malformed("a clock has a state, a step or a segment of no known kind"))?;
    let finder = finder_of(finder, clocks.len()).ok_or_else(|| malformed("a place leads to no clock"))?;
    let reference = Some(message.reference).filter(|name| !name.is_empty());
    let learned = message.learned.map(|learned| Learned {
        number: learned.number,
        from: ReferenceTime::from_nanos(learned.from_reference_unix_nano),
        doubted: learned.doubted.into_iter().collect(),
        window: learned.window,
    });
    Ok(Models { reference, clocks, finder, learned })
}

fn clock_message(clock: &Clock, model: &ClockModel) -> proto::Clock {
    proto::Clock {
        name: clock.name.clone(),
        key: clock.key.clone(),
        rule: clock.rule.clone(),
        state: state_number(model.state).into(),
        group: model.group,
        segments: model.segments.iter().map(segment_message).collect(),
        steps: model.steps.iter().map(step_message).collect(),
        hosts: clock.hosts.clone(),
        services: clock.services.clone(),
        untrusted: clock.untrusted,
    }
}

fn clock_of(message: proto::Clock) -> Option<(Clock, ClockModel)> {
    let state = state_of(message.state())?;
    let clock = Clock {
        key: message.key,
        name: message.name,
        rule: message.rule,
        hosts: message.hosts,
        services: message.services,
        untrusted: message.untrusted,
    };
    let model = ClockModel {
        state,
        group: message.group,
        segments: message.segments.into_iter().map(segment_of).collect::<Option<_>>()?,
        steps: message.steps.into_iter().map(step_of).collect::<Option<_>>()?,
        bounds: Vec::new(),
        exchanges: 0,
        neighbours: 0,
    };
    Some((clock, model))
}

fn state_number(state: ClockState) -> proto::State {
    match state {
        ClockState::Reference => proto::State::Reference,
        ClockState::Corrected => proto::State::Corrected,
        ClockState::WithinUncertainty => proto::State::WithinUncertainty,
        ClockState::NoEvidence => proto::State::NoEvidence,
        ClockState::Capped => proto::State::Capped,
        ClockState::Contradictory => proto::State::Contradictory,
    }
}

fn state_of(number: proto::State) -> Option<ClockState> {
    Some(match number {
        proto::State::Unspecified => return None,
        proto::State::Reference => ClockState::Reference,
        proto::State::Corrected => ClockState::Corrected,
        proto::State::WithinUncertainty => ClockState::WithinUncertainty,
        proto::State::NoEvidence => ClockState::NoEvidence,
        proto::State::Capped => ClockState::Capped,
        proto::State::Contradictory => ClockState::Contradictory,
    })
}

fn segment_message(segment: &Segment) -> proto::Segment {
    let treatment = match segment.treatment {
        Treatment::Moved => proto::Treatment::Moved,
        Treatment::LeftAlone => proto::Treatment::LeftAlone,
        Treatment::Contradictory => proto::Treatment::Contradictory,
    };
    let knot = |knot: &Knot| proto::Knot {
        local_unix_nano: knot.local.nanos(),
        offset_ns: knot.offset_ns,
        uncertainty_ns: knot.uncertainty_ns,
        lower_ns: knot.lower_ns,
        upper_ns: knot.upper_ns,
        exchanges: knot.exchanges,
    };
    proto::Segment {
        from_reference_unix_nano: segment.from.nanos(),
        until_reference_unix_nano: segment.until.nanos(),
        knots: segment.knots.iter().map(knot).collect(),
        treatment: treatment.into(),
        onward_rate_ppb: segment.onward.rate_ppb,
        onward_growth_ppb: segment.onward.growth_ppb,
    }
}

fn segment_of(message: proto::Segment) -> Option<Segment> {
    let treatment = match message.treatment() {
        proto::Treatment::Unspecified => return None,
        proto::Treatment::Moved => Treatment::Moved,
        proto::Treatment::LeftAlone => Treatment::LeftAlone,
        proto::Treatment::Contradictory => Treatment::Contradictory,
    };
    let knot = |knot: proto::Knot| Knot {
        local: LocalTime::from_nanos(knot.local_unix_nano),
        offset_ns: knot.offset_ns,
        uncertainty_ns: knot.uncertainty_ns,
        lower_ns: knot.lower_ns,
        upper_ns: knot.upper_ns,
        exchanges: knot.exchanges,
    };
    let segment = Segment {
        from: ReferenceTime::from_nanos(message.from_reference_unix_nano),
        until: ReferenceTime::from_nanos(message.until_reference_unix_nano),
        onward: Onward { rate_ppb: message.onward_rate_ppb, growth_ppb: message.onward_growth_ppb },
        knots: message.knots.into_iter().map(knot).collect(),
        treatment,
    };
    let is_ordered = segment.knots.is_sorted_by(|one, next| one.local < next.local);
    Some(segment).filter(|segment| is_ordered && !segment.knots.is_empty())
}

fn step_message(step: &Step) -> proto::Step {
    let kind = match step.kind {
        StepKind::Step => proto::step::Kind::Step,
        StepKind::Slew => proto::step::Kind::Slew,
    };
    proto::Step {
        kind: kind.into(),
        reference_unix_nano: step.at.nanos(),
        duration_ns: step.duration_ns,
        size_ns: step.size_ns,
        uncertainty_ns: step.uncertainty_ns,
    }
}

fn step_of(message: proto::Step) -> Option<Step> {
    let kind = match message.kind() {
        proto::step::Kind::Unspecified => return None,
        proto::step::Kind::Step => StepKind::Step,
        proto::step::Kind::Slew => StepKind::Slew,
    };
    Some(Step {
        kind,
        at: ReferenceTime::from_nanos(message.reference_unix_nano),
        duration_ns: message.duration_ns,
        size_ns: message.size_ns,
        uncertainty_ns: message.uncertainty_ns,
        spans_straddling: 0,
    })
}

fn rules() -> Vec<proto::Rule> {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let rule = |rule: &identity::Rule| proto::Rule {
        name: rule.name.to_owned(),
        attributes: texts(rule.attributes),
        scope: texts(rule.scope),
        merges: rule.merges,
    };
    identity::RULES.iter().map(rule).collect()
}

fn finder_message(finder: &Finder) -> proto::Finder {
    let untrusted = |((attribute, value), reason): (&(String, String), &String)| proto::Untrusted {
        attribute: attribute.clone(),
        value: value.clone(),
        reason: reason.clone(),
    };
    let witnessed = |((attribute, value), with): (&(String, String), &BTreeMap<String, String>)| proto::Witnessed {
        attribute: attribute.clone(),
        value: value.clone(),
        with: with.clone(),
    };
    let place = |((rule, value), place): (&(String, String), &Place)| proto::Place {
        rule: rule.clone(),
        value: value.clone(),
        to: Some(match place {
            Place::Clock(ClockId(clock)) => proto::place::To::Clock(*clock),
            Place::Split { by, clocks } => {
                let clocks = clocks.iter().map(|(value, ClockId(clock))| (value.clone(), *clock)).collect();
                proto::place::To::Split(proto::Split { by: by.clone(), clocks })
            }
        }),
    };
    proto::Finder {
        keys: finder.keys.clone(),
        rules: rules(),
        untrusted: finder.untrusted.iter().map(untrusted).collect(),
        witnessed: finder.witnessed.iter().map(witnessed).collect(),
        places: finder.places.iter().map(place).collect(),
    }
}

/// `None`: a place leads to a clock that is not there.
fn finder_of(message: proto::Finder, clocks: usize) -> Option<Finder> {
    let clock = |number: u32| Some(ClockId(number)).filter(|_| (number as usize) < clocks);
    let place = |place: proto::Place| {
        let to = match place.to? {
            proto::place::To::Clock(number) => Place::Clock(clock(number)?),
            proto::place::To::Split(split) => {
                let clocks = split.clocks.into_iter().map(|(value, number)| Some((value, clock(number)?)));
                Place::Split { by: split.by, clocks: clocks.collect::<Option<_>>()? }
            }
        };
        Some(((place.rule, place.value), to))
    };
    Some(Finder {
        keys: message.keys,
        untrusted: message.untrusted.into_iter().map(|it| ((it.attribute, it.value), it.reason)).collect(),
        witnessed: message.witnessed.into_iter().map(|it| ((it.attribute, it.value), it.with)).collect(),
        places: message.places.into_iter().map(place).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models() -> Models {
        let knot = |at: i64, offset_ns| Knot {
            local: LocalTime::from_nanos(at),
            offset_ns,
            uncertainty_ns: 7,
            lower_ns: Some(-3),
            upper_ns: None,
            exchanges: 9,
        };
        let segment = |from, until, treatment| Segment {
            from: ReferenceTime::from_nanos(from),
            until: ReferenceTime::from_nanos(until),
            knots: vec![knot(1, -5), knot(2, 6)],
            treatment,
            onward: Onward { rate_ppb: -20, growth_ppb: 15_000 },
        };
        let step = |kind| Step {
            kind,
            at: ReferenceTime::from_nanos(10),
            duration_ns: 4,
            size_ns: -8,
            uncertainty_ns: 2,
            spans_straddling: 0,
        };
        let model = ClockModel {
            state: ClockState::Corrected,
            group: 3,
            segments: vec![
                segment(i64::MIN, 10, Treatment::Moved),
                segment(10, 20, Treatment::LeftAlone),
                segment(20, i64::MAX, Treatment::Contradictory),
            ],
            steps: vec![step(StepKind::Step), step(StepKind::Slew)],
            bounds: Vec::new(),
            exchanges: 0,
            neighbours: 0,
        };
        let clock = Clock { key: "k".into(), name: "n".into(), rule: "host.name".into(), ..Clock::default() };
        let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        let finder = Finder {
            keys: vec!["a".into()],
            untrusted: [(pair("host.name", "gw"), "two".into())].into(),
            witnessed: [(pair("host.id", "1"), [pair("host.name", "n")].into())].into(),
            places: [
                (pair("host.name", "n"), Place::Clock(ClockId(0))),
                (pair("host.name", "app"), Place::Split { by: "ip".into(), clocks: [("1".into(), ClockId(0))].into() }),
            ]
            .into(),
        };
        let from = ReferenceTime::from_nanos(-7);
        let learned = Learned { number: 3, from, doubted: ["n".into()].into(), window: "2026".into() };
        Models { reference: Some("gateway-1".into()), clocks: vec![(clock, model)], finder, learned: Some(learned) }
    }

    #[test]
    fn models_come_back_as_they_went() {
        assert_eq!(decode(&encode(&models())), Ok(models()));
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let with = |change: fn(&mut proto::Models)| {
            let mut message = to_message(&models());
            change(&mut message);
            decode(&message.encode_to_vec())
        };
        assert_eq!(with(|message| message.version = 2), Err(Unreadable::Newer(2)));
        assert_eq!(
            with(|message| message.finder.iter_mut().for_each(|it| it.rules.truncate(3))),
            Err(Unreadable::OtherRules)
        );
        let malformed: [fn(&mut proto::Models); 5] = [
            |message| message.finder = None,
            |message| message.clocks.clear(),
            |message| message.clocks[0].state = 99,
            |message| message.clocks[0].segments[0].knots.clear(),
            |message| message.clocks[0].segments[0].knots.reverse(),
        ];
        for change in malformed {
            assert!(matches!(with(change), Err(Unreadable::Malformed(_))));
        }
        assert!(matches!(decode(b"PAR1 and more"), Err(Unreadable::Malformed(_))));
    }
}
