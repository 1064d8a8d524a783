//! Quantities with their sign and unit in the name.

use std::fmt;

/// How far a clock is ahead of the reference clock. Negative means behind.
///
/// ```
/// # use unskew::clock::Offset;
/// assert_eq!(Offset::ahead_ns(-800_000).to_string(), "800 µs behind");
/// assert_eq!(Offset::ahead_ns(2_150_000_000).to_string(), "2.15 s ahead");
/// assert_eq!(Offset::ahead_ns(0).to_string(), "0 ns ahead");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(i64);

impl Offset {
    /// Nanoseconds ahead of the reference; negative: behind.
    pub const fn ahead_ns(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds ahead of the reference; negative: behind.
    pub const fn nanos(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Span(self.0.unsigned_abs()), if self.0 < 0 { "behind" } else { "ahead" })
    }
}

/// The half-width of an interval around an estimate, 95 % unless the name says hard. Never negative.
///
/// ```
/// # use unskew::clock::ErrorBound;
/// assert_eq!(ErrorBound::ns(41_200).to_string(), "± 41.2 µs");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorBound(i64);

impl ErrorBound {
    /// Half-width in nanoseconds.
    pub const fn ns(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Half-width in nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.0
    }
}

impl fmt::Display for ErrorBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "± {}", Span(self.0.unsigned_abs()))
    }
}

/// How fast a clock's offset grows, in parts per million. Positive: it gains.
///
/// ```
/// # use unskew::clock::FrequencyError;
/// assert_eq!(FrequencyError::gains_ppm(-3.0).to_string(), "loses 3.0 ppm");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct FrequencyError(f64);

impl FrequencyError {
    /// Parts per million gained on the reference; negative: lost.
    pub const fn gains_ppm(ppm: f64) -> Self {
        Self(ppm)
    }

    /// Parts per million gained on the reference; negative: lost.
    pub const fn ppm(self) -> f64 {
        self.0
    }
}

impl fmt::Display for FrequencyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.1} ppm", if self.0 < 0.0 { "loses" } else { "gains" }, self.0.abs())
    }
}

/// A length of time with three significant digits and the unit that suits it.
pub(crate) struct Span(pub(crate) u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0 as f64;
        let (value, unit) = match self.0 {
            0..1_000 => return write!(f, "{} ns", self.0),
            1_000..1_000_000 => (nanos / 1e3, "µs"),
            1_000_000..1_000_000_000 => (nanos / 1e6, "ms"),
            1_000_000_000..600_000_000_000 => (nanos / 1e9, "s"),
            600_000_000_000..7_200_000_000_000 => (nanos / 60e9, "min"),
            7_200_000_000_000..864_000_000_000_000 => (nanos / 3600e9, "h"),
            _ => (nanos / 86_400e9, "days"),
        };
        let digits = if value >= 100.0 {
            0
        } else if value >= 10.0 {
            1
        } else {
            2
        };
        let text = format!("{value:.digits$}");
        let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        write!(f, "{text} {unit}")
    }
}
