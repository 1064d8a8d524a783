//! Lengths of time as Go writes them, and so every Collector's configuration: `200ms`, `1.5s`, `1h30m`.

use std::time::Duration;

/// Parses a duration in Go's syntax; negative ones have no meaning here.
///
/// ```
/// # use std::time::Duration;
/// use unskew::stage::config::parse_duration;
/// assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
/// ```
///
/// # Errors
/// Where it is none; the text says what one looks like.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time: write 200ms, 20s, 1h or 1h30m");
    // Go's one length without a unit.
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    loop {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, from_unit) = rest.split_at(unit_at);
        let next = from_unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(from_unit.len());
        let (unit, behind) = from_unit.split_at(next);
        seconds += number.parse::<f64>().map_err(|_| wrong())? * seconds_of(unit).ok_or_else(wrong)?;
        if behind.is_empty() {
            return Duration::try_from_secs_f64(seconds).map_err(|_| wrong());
        }
        rest = behind;
    }
}

fn seconds_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        // Both of Unicode's letters for micro.
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, ns: u64) {
        assert_eq!(parse_duration(text), Ok(Duration::from_nanos(ns)), "{text}");
    }

    #[test]
    fn lengths_of_time_are_read_as_go_reads_them() {
        check("200ms", 200_000_000);
        check("1h30m", 5_400_000_000_000);
        check("1.5s", 1_500_000_000);
        check("2h0m0.25s", 7_200_250_000_000);
        check("7µs", 7_000);
        check("0", 0);
        check("0s", 0);
    }

    #[test]
    fn what_has_no_unit_or_a_sign_is_no_length_of_time() {
        for text in ["", "5", "s", "5 s", "-5s", "5s3", "1d", "..s", "1h-3m", "99999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
