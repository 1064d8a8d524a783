//! What a run of `fix` is asked to do; parsed from the command line, or built by a caller.

use std::path::PathBuf;

use serde::Serialize;

/// How corrected spans leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Write {
    /// DIR/traces/part-*.parquet, one row per span.
    Parquet,
    /// DIR/corrected/…: the input's own format, framing and compression, times corrected in place.
    Same,
    /// DIR/corrected/….binpb: OTLP protobuf, each request behind its length.
    OtlpProto,
}

/// Which spans carry marks that say what was done to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Annotate {
    Moved,
    None,
}

/// One run of `fix`.
#[derive(Clone, Debug)]
pub struct Fix {
    pub inputs: Vec<String>,
    pub out: PathBuf,
    pub write: Vec<Write>,
    pub annotate: Annotate,
    pub reference: Option<String>,
    /// Models of an earlier run to go on from.
    pub after: Option<PathBuf>,
    /// Read for evidence, and parents of spans, but not written: what was sent just before and after.
    pub context: Vec<String>,
    pub clock_keys: Vec<String>,
    pub max_correction_ns: Option<i64>,
    pub dry_run: bool,
    /// Nudge single spans until none is out of order in its trace.
    pub enforce_causality: bool,
    pub exchanges: bool,
    pub max_record: u64,
    pub force: bool,
}

impl Fix {
    /// The settings that shape the tables, as JSON; no paths, as equal inputs give equal bytes.
    pub fn json(&self) -> String {
        serde_json::json!({
            "after": self.after.is_some(),
            "annotate": self.annotate,
            "clock_keys": self.clock_keys,
            "enforce_causality": self.enforce_causality,
            "max_correction_ns": self.max_correction_ns,
            "reference": self.reference,
        })
        .to_string()
    }
}

/// A length of time as users write it (`200ms`, `1.5s`, `3m`, `2h`), in ns.
///
/// # Errors
/// Where it is none; the text says what one looks like.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no length of time; write 250us, 200ms, 1.5s, 3m or 2h");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let scale = match unit.trim() {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        _ => return Err(wrong()),
    };
    number.parse::<f64>().map(|number| (number * scale) as i64).map_err(|_| wrong())
}

/// A size as users write it (`512MiB`, `1GiB`, `100000`), in bytes.
///
/// # Errors
/// Where it is none; the text says what one looks like.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size; write 4096, 64KiB, 512MiB or 1GiB");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" | "K" | "KB" => 10,
        "MiB" | "M" | "MB" => 20,
        "GiB" | "G" | "GB" => 30,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_carry_their_unit() {
        assert_eq!(parse_duration("1.5s"), Ok(1_500_000_000));
        assert_eq!(parse_duration("250us"), Ok(250_000));
        assert!(parse_duration("10").is_err() && parse_duration("ten ms").is_err());
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert!(parse_size("1TiB").is_err());
    }
}
