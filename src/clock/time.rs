//! Two kinds of instant that must not be mixed.

/// What one host's clock read, in nanoseconds since the Unix epoch.
///
/// Readings of 2^63 and more (a corrupt or missing time) saturate to [`LocalTime::MAX`].
///
/// A local reading and a reference time do not subtract:
///
/// ```compile_fail
/// # use unskew::clock::{LocalTime, ReferenceTime};
/// let wrong = LocalTime::from_unix_nano(2) - ReferenceTime::from_unix_nano(1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalTime(i64);

/// The same instant on the reference clock, in nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferenceTime(i64);

macro_rules! instant {
    ($name:ident) => {
        impl $name {
            /// The latest instant that can be told; stands for every reading of 2^63 ns and more.
            pub const MAX: Self = Self(i64::MAX);

            /// From nanoseconds since the Unix epoch, as OTLP carries them; saturates at 2^63 − 1.
            pub fn from_unix_nano(nanos: u64) -> Self {
                Self(i64::try_from(nanos).unwrap_or(i64::MAX))
            }

            /// From signed nanoseconds since the Unix epoch.
            pub const fn from_nanos(nanos: i64) -> Self {
                Self(nanos)
            }

            /// Signed nanoseconds since the Unix epoch.
            pub const fn nanos(self) -> i64 {
                self.0
            }

            /// This instant moved by `nanos` (positive: later), saturating.
            pub const fn plus(self, nanos: i64) -> Self {
                Self(self.0.saturating_add(nanos))
            }
        }

        impl std::ops::Sub for $name {
            type Output = i64;

            /// Nanoseconds from `earlier` to `self`, saturating.
            fn sub(self, earlier: Self) -> i64 {
                self.0.saturating_sub(earlier.0)
            }
        }
    };
}

impl LocalTime {
    /// Whether a time is so near 1970, or so far off, that it says nothing: missing, or corrupt.
    pub fn is_broken(self) -> bool {
        const DAY_NS: i64 = 86_400_000_000_000;
        self.0.abs() < DAY_NS || self == Self::MAX
    }
}

instant!(LocalTime);
instant!(ReferenceTime);
