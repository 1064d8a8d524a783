//! What becomes of bad input, through the program itself: never a panic, never silence, and what is good is kept.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use prost::Message;
use serde_json::Value as Json;

use common::{prefixed, records, rows, traces};

const NOON: u64 = 1_750_000_000_000_000_000;

struct Told {
    exit: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Told {
    #[track_caller]
    fn check(&self, exit: i32, says: &[&str]) {
        assert_eq!(self.exit, Some(exit), "{}\n{}", self.stdout, self.stderr);
        for words in says {
            assert!(
                self.stdout.contains(words) || self.stderr.contains(words),
                "not said: {words}\n{}\n{}",
                self.stdout,
                self.stderr
            );
        }
    }
}

/// A folder with a dump or several, and the program's runs over them.
struct Place(tempfile::TempDir);

impl Place {
    fn with(files: &[(&str, &[u8])]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, bytes)| place.write(name, bytes));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_unskew"));
        command.current_dir(self.0.path()).args(arguments.split_whitespace());
        command
    }

    fn run(&self, arguments: &str) -> Told {
        self.run_on(arguments, b"")
    }

    fn run_on(&self, arguments: &str, stdin: &[u8]) -> Told {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A program that does not read its input has closed it.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let told = Told { exit: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert!(!told.stderr.contains("panicked"), "{}", told.stderr);
        told
    }

    fn summary(&self) -> Json {
        serde_json::from_slice(&fs::read(self.path("out/summary.json")).unwrap()).unwrap()
    }

    fn same(&self, name: &str) -> Vec<u8> {
        fs::read(self.path("out/corrected").join(name)).unwrap()
    }

    fn names(&self, below: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(below)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// A record of one span with these members, on a line of its own.
fn line(members: &str) -> String {
    let attributes = |key: &str, value: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#);
    let resource =
        [attributes("host.name", "alpha"), attributes("host.id", "a1"), attributes("service.name", "shop")].join(",");
    format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{resource}]}},"scopeSpans":[{{"spans":[{{{members}}}]}}]}}]}}"#
    ) + "\n"
}

fn span_at(number: u64, start: u64, end: u64) -> String {
    line(&format!(
        r#""traceId":"{:032x}","spanId":"{number:016x}","name":"n","startTimeUnixNano":"{start}","endTimeUnixNano":"{end}""#,
        number + 7
    ))
}

fn good(number: u64) -> String {
    span_at(number, NOON + number, NOON + number + 1_000)
}

/// The same span in protobuf.
fn good_protobuf(number: u64) -> Vec<u8> {
    unskew::otlp::json::decode(good(number).as_bytes()).unwrap().encode_to_vec()
}

/// A dump of some lines → exit status, what is said, and what the summary counts: spans, then findings.
#[track_caller]
fn check(dump: &[u8], exit: i32, says: &[&str], spans: u64, findings: &[(&str, u64)]) -> Place {
    let place = Place::with(&[("dump", dump)]);
    place.run("fix dump --out out --write parquet --write same").check(exit, says);
    let summary = place.summary();
    assert_eq!(summary["spans"], spans, "{summary}");
    assert_eq!(rows(&traces(&place.path("out")), &[]).len() as u64, spans);
    let found = summary["findings"].as_object().unwrap();
    assert!(
        found.iter().map(|(kind, count)| (kind.as_str(), count.as_u64().unwrap())).eq(findings.iter().copied()),
        "{summary}"
    );
    place
}

#[test]
fn nothing_is_no_error() {
    check(b"", 0, &["dump: nothing in the file"], 0, &[]);
    check(b" \n\n", 0, &["dump: nothing in the file"], 0, &[]);
    check(
        b"{}\n{\"resourceSpans\":[]}\n{\"resourceSpans\":[{\"scopeSpans\":[{}]}]}\n",
        0,
        &["no span was read"],
        0,
        &[],
    );
    check(&prefixed(&[Vec::new(), good_protobuf(1), Vec::new()]), 0, &[], 1, &[]);
}

#[test]
fn a_torn_end_is_told_and_the_rest_kept() {
    let torn = good(1) + &good(2)[..120];
    check(torn.as_bytes(), 0, &["dump: the file ends within a record at byte"], 1, &[]);
    let whole = prefixed(&[good_protobuf(1), good_protobuf(2)]);
    let place = check(&whole[..whole.len() - 9], 0, &["dump: the file ends within a record at byte"], 1, &[]);
    assert!(whole.starts_with(&place.same("dump")));
    check(&whole[..60], 0, &["the file ends within a record at byte 0"], 0, &[]);
}

#[test]
fn bytes_that_are_nothing_are_refused_by_name() {
    let place = Place::with(&[("noise", &[0x93, 0x17, 0xC2, 0x08, 0x5F, 0xE1, 0x00, 0xB7, 0x42, 0x99])]);
    let says = ["noise: no trace dump that we know", "93 17 c2 08", "nothing could be read"];
    place.run("fix noise --out out").check(1, &says);
    assert!(!place.path("out").exists());
    place.write("good", good(1).as_bytes());
    place.run("fix noise good --out out").check(1, &["noise: no trace dump that we know"]);
    assert_eq!(place.summary()["spans"], 1);
}

#[test]
fn ids_that_are_none_are_found_and_their_spans_kept() {
    let with = |trace: &str, span: &str| {
        line(&format!(
            r#""traceId":"{trace}","spanId":"{span}","startTimeUnixNano":"{NOON}","endTimeUnixNano":"{NOON}""#
        ))
    };
    let (trace, zero) = ("7".repeat(32), "0".repeat(32));
    for (trace, span) in
        [("abcd", "7777777777777777"), (&trace, "77"), (&zero, "7777777777777777"), (&trace, &zero[..16]), ("", "")]
    {
        check(with(trace, span).as_bytes(), 0, &[], 1, &[("invalid_id", 1)]);
    }
}

#[test]
fn times_that_cannot_be_are_found_and_left() {
    let day = 86_400_000_000_000;
    let beyond = 1 << 63;
    for (start, end, findings) in [
        (NOON, beyond, &[("time_out_of_range", 1)][..]),
        (NOON, u64::MAX, &[("time_out_of_range", 1)]),
        (1, beyond + 1, &[("time_out_of_range", 1)]),
        (beyond, NOON, &[("end_before_start", 1), ("time_out_of_range", 1)]),
        (0, 0, &[("implausible_time", 1)]),
        (day / 2, day / 2 + 5, &[("implausible_time", 1)]),
        (NOON / 2, NOON / 2 + 5, &[("implausible_time", 1)]),
        (NOON, 0, &[("end_before_start", 1)]),
    ] {
        let dump = span_at(1, start, end);
        let place = check(dump.as_bytes(), 0, &[], 1, findings);
        assert_eq!(place.same("dump"), dump.as_bytes(), "{start}..{end}");
    }
}

#[test]
fn an_end_before_its_start_is_recovered() {
    let place = check(span_at(1, NOON + 9, NOON).as_bytes(), 0, &[], 1, &[("end_before_start", 1)]);
    let written = String::from_utf8(place.same("dump")).unwrap();
    assert!(written.contains(&format!("\"endTimeUnixNano\":\"{}\"", NOON + 9)), "{written}");
    assert!(
        written.contains(&format!("\"unskew.original_end_unix_nano\",\"value\":{{\"intValue\":\"{NOON}\"}}")),
        "{written}"
    );
}

#[test]
fn an_invalid_record_between_others_is_told_and_passes_as_it_is() {
    let dull = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"soon"}]}]}]}"#;
    for bad in [dull, "this is no record", "{\"resourceSpans\":[", "{\"a\":}"] {
        let dump = format!("{}{bad}\n{}", good(1), good(2));
        let place = check(dump.as_bytes(), 1, &[&format!("at byte {}", good(1).len())], 2, &[]);
        assert_eq!(String::from_utf8(place.same("dump")).unwrap(), dump);
    }
    for (bad, says) in [
        (format!("12:00 INFO {}", good(3)), "text before the JSON of a line (sed 's/^[^{]*//' takes it off) at byte"),
        (
            format!("[12:00] [main] INFO {}", good(3)),
            "text before the JSON of a line (sed 's/^[^{]*//' takes it off) at byte",
        ),
        ("5\n".to_owned(), "line that is no JSON object at byte"),
        ("\"a\"\n".to_owned(), "line that is no JSON object at byte"),
    ] {
        let dump = good(1) + &bad + &good(2);
        let place = check(dump.as_bytes(), 1, &[&format!("{says} {}", good(1).len())], 2, &[]);
        assert_eq!(String::from_utf8(place.same("dump")).unwrap(), dump);
        let place = Place::with(&[("dump", bad.repeat(2).as_bytes())]);
        place.run("fix dump --out out").check(1, &["nothing could be read"]);
    }
    let bad = vec![0x0A, 0x7F, 0x01];
    let dump = prefixed(&[good_protobuf(1), bad.clone(), good_protobuf(2)]);
    let place = check(&dump, 1, &[&format!("record at byte {}", good_protobuf(1).len() + 8), "skipped"], 2, &[]);
    assert_eq!(records(&place.same("dump"))[1], bad);
}

#[test]
fn json_that_is_no_otlp_is_told_by_what_it_looks_like() {
    let otlp = good(1);
    let otlp = otlp.trim_end();
    let resource_spans = &otlp["{\"resourceSpans\":[".len()..otlp.len() - 2];
    for (foreign, looks) in [
        (
            format!("{{\"batches\":[{resource_spans}]}}"),
            "no resourceSpans; it has the key batches: looks like a trace from Tempo's API",
        ),
        (format!("{{\"trace\":{otlp}}}"), "jq -c '.trace' takes it out"),
        (format!("[{otlp}]"), "jq -c '.[]' takes it out"),
        (resource_spans.to_owned(), "looks like a ResourceSpans on its own"),
        (r#"{"data":[{"traceID":"1","spans":[]}]}"#.to_owned(), "looks like a trace from Jaeger's API"),
        (r#"[{"traceId":"1","id":"2"}]"#.to_owned(), "looks like spans from Zipkin's API"),
        (r#"{"level":"info","msg":"started"}"#.to_owned(), "it has the keys level, msg; export OTLP instead"),
        ("[]".to_owned(), "no resourceSpans; it is an array that begins with no object"),
        (
            r#"{"resourceSpans":[{"spans":[{}]}]}"#.to_owned(),
            "resourceSpans without scopeSpans; the first has the key spans",
        ),
    ] {
        let told = format!("record at byte {}: ", good(1).len());
        let dump = format!("{}{foreign}\n{}", good(1), good(2));
        let place = check(dump.as_bytes(), 1, &[&told, looks, "; skipped"], 2, &[]);
        assert_eq!(String::from_utf8(place.same("dump")).unwrap(), dump);

        let place = Place::with(&[("good", good(1).as_bytes()), ("bad", foreign.as_bytes())]);
        place.run("fix bad --out out").check(1, &["nothing could be read", "bad: record at byte 0: ", looks]);
        assert!(!place.path("out").exists());
        place.run("fix bad good --out out").check(1, &["bad: record at byte 0: ", looks]);
        assert_eq!(place.summary()["spans"], 1);
    }
    let signals =
        "{\"resourceMetrics\":[{}]}\n{\"resourceLogs\":[{}]}\n{\"resource_profiles\":[{}],\"dictionary\":{}}\n{}\n";
    let place = check((good(1) + signals).as_bytes(), 0, &[], 1, &[]);
    assert!(place.summary()["problems"].as_array().unwrap().is_empty());
}

#[test]
fn attribute_values_of_an_unknown_shape_are_told_once_a_file() {
    let odd = |number| good(number).replace(r#"{"stringValue":"shop"}"#, r#"{"Value":{"StringValue":"shop"}}"#);
    let dump = good(1) + &odd(2) + &odd(3);
    let told = format!(
        "dump: 2 attribute values of an unknown shape, the first is {{\"Value\":{{\"StringValue\":\"shop\"}}}} of service.name \
         in the record at byte {}: these attributes are not read; ",
        good(1).len()
    );
    let place = check(dump.as_bytes(), 1, &[&told], 3, &[]);
    assert_eq!(place.summary()["problems"].as_array().unwrap().len(), 1);
    assert_eq!(String::from_utf8(place.same("dump")).unwrap(), dump);
    check(odd(1).as_bytes(), 1, &["dump: 1 attribute value of an unknown shape"], 1, &[]);
}

#[test]
fn many_problems_of_one_file_hide_no_other_file() {
    let place = Place::with(&[
        ("a", "{\"batches\":[]}\n".repeat(200).as_bytes()),
        ("b", b"[]\n"),
        ("good", good(1).as_bytes()),
    ]);
    for (arguments, lines) in [("fix a b --out out", 5), ("fix a b good --out out", 5)] {
        let told = place.run(arguments);
        told.check(
            1,
            &[
                "a: record at byte 0: no resourceSpans",
                "a: 197 more like these",
                "b: record at byte 0: no resourceSpans",
            ],
        );
        let text = told.stdout + &told.stderr;
        assert_eq!(text.lines().filter(|line| line.contains(" a: ") || line.contains(" b: ")).count(), lines, "{text}");
    }
    assert_eq!(place.summary()["problems"].as_array().unwrap().len(), 201);
}

#[test]
fn a_field_that_protobuf_cannot_hold_is_left_out_and_its_record_written() {
    let odd = |number| {
        good(number)
            .replace(r#""name":"n""#, r#""name":"n","droppedAttributesCount":-1"#)
            .replace(r#""resource":{"#, r#""resource":{"droppedAttributesCount":4294967296,"#)
    };
    let place = Place::with(&[("dump", (good(1) + &odd(2) + &odd(3)).as_bytes())]);
    let told = format!(
        "dump: 4 fields left out, which protobuf cannot hold, the first is droppedAttributesCount: `4294967296` \
         is not a whole number of the right size at byte 56 in the record at byte {}; ",
        good(1).len()
    );
    place.run("fix dump --out out --write otlp-proto").check(1, &[&told]);
    assert_eq!(records(&place.same("dump.binpb")), [1, 2, 3].map(good_protobuf));
    assert_eq!(place.summary()["problems"].as_array().unwrap().len(), 1);
    // Nothing else needs them.
    place.run("fix dump --out out --write same --write parquet").check(0, &[]);
    assert_eq!(place.summary()["spans"], 3);
}

#[test]
fn a_long_line_is_passed_over_or_read_as_the_limit_says() {
    let long = line(&format!(
        r#""traceId":"{:032x}","spanId":"{:016x}","startTimeUnixNano":"{NOON}","endTimeUnixNano":"{NOON}","name":"{}""#,
        1,
        1,
        "x".repeat(100 << 20)
    ));
    let place = Place::with(&[("dump", (good(1) + &long + &good(2)).as_bytes())]);
    let told = place.run("fix dump --out out --max-record 1MiB");
    told.check(1, &["record longer than 1048576 bytes, passed over", &format!("at byte {}", good(1).len())]);
    assert_eq!(place.summary()["spans"], 2);
    place.run("fix dump --out out --max-record 200MiB").check(0, &[]);
    assert_eq!(place.summary()["spans"], 3);
}

#[cfg(target_os = "linux")]
#[test]
fn a_bomb_takes_no_more_memory_than_its_limit() {
    let name = good(1).replace("\"n\"", "\"");
    let (before, _) = name.split_at(name.find("\"name\":\"").unwrap() + 8);
    let rest = good(2);
    let within_name = [before.as_bytes(), &vec![b' '; 200 << 20], b"\"}]}]}]}\n", rest.as_bytes()].concat();
    let zeros = vec![0; 200 << 20];
    let member = |bytes: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let gzip =
        [member(before.as_bytes()), member(&vec![b' '; 1 << 20]).repeat(200), member(b"\"}]}]}]}\n{}\n")].concat();
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let blank = [&vec![b'\n'; 200 << 20][..], rest.as_bytes()].concat();
    for (what, bytes, exit, says) in [
        ("a name in gzip", gzip, 1, "record longer than"),
        ("a name in zstd", zstd(&within_name), 1, "record longer than"),
        ("spaces", zstd(&blank[..200 << 20]), 0, "nothing in the file"),
        ("spaces before", zstd(&blank), 0, "0 spans moved"),
        ("zeros", zstd(&zeros), 1, "no trace dump that we know within zstd"),
    ] {
        let place = Place::with(&[("bomb", &bytes[..])]);
        let mut command = place.command("fix bomb --out out --max-record 1MiB --threads 1");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let peak = peak_memory(child.id(), || child.try_wait().unwrap().is_none());
        let (mut out, exited) = (String::new(), child.wait().unwrap());
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(exited.code(), Some(exit), "{what}: {out}");
        assert!(out.contains(says) && !out.contains("panicked"), "{what}: {out}");
        // The window that tells what a file is takes most of it, and the program's own pages a good part.
        assert!(peak < 140 << 20, "{what}: {} MiB", peak >> 20);
    }
}

/// The most memory that a process ever held, as long as it could be asked; the kernel keeps count.
#[cfg(target_os = "linux")]
fn peak_memory(process: u32, mut runs: impl FnMut() -> bool) -> u64 {
    let mut peak = 0;
    while runs() {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) << 10);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(peak > 0, "the process was gone before it could be asked");
    peak
}

#[test]
fn one_missing_file_does_not_stop_nine() {
    let files: Vec<(String, String)> = (0..9).map(|number| (format!("in/{number}"), good(number + 1))).collect();
    let place = Place::with(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_bytes())).collect::<Vec<_>>());
    place.run("fix in gone.json --out out").check(1, &["gone.json: No such file"]);
    assert_eq!(place.summary()["spans"], 9);
    assert_eq!(place.summary()["problems"].as_array().unwrap().len(), 1);
}

#[test]
fn a_reference_that_is_none_or_several_is_refused_with_the_nearest() {
    let two = good(1) + &good(2).replace("alpha", "alpine").replace("a1", "b2");
    let place = Place::with(&[("dump", two.as_bytes()), ("empty", b"{}\n")]);
    place
        .run("fix dump --out out --reference alpxa")
        .check(2, &["--reference alpxa", "the nearest are `alpha`, `alpine`"]);
    place.run("fix empty --out out --reference alpha").check(2, &["no spans, so no clocks"]);
    // Two machines on one address.
    let ip = r#"{"key":"host.ip","value":{"stringValue":"10.0.0.7"}},{"key":"host.name""#;
    place.write("dump", two.replace(r#"{"key":"host.name""#, ip).as_bytes());
    place
        .run("fix dump --out out --reference 10.0.0.7")
        .check(2, &["several clocks go by that", "`alpha`", "`alpine`"]);
    assert!(!place.path("out").exists());
    place.run("fix dump --out out --reference alpha").check(0, &[]);
}

#[test]
fn others_files_are_left_alone() {
    let place = Place::with(&[("dump", good(1).as_bytes()), ("out/thesis.tex", b"precious")]);
    place.run("fix dump --out out").check(2, &["thesis.tex", "--force"]);
    assert_eq!(place.names("out"), ["thesis.tex"]);
    place.run("fix dump --out out --force").check(0, &[]);
    assert_eq!(place.names("out"), ["skew", "summary.json", "thesis.tex", "traces"]);
}

#[test]
fn an_earlier_output_goes_only_for_a_new_one() {
    let place = Place::with(&[("dump", good(1).as_bytes()), ("noise", b"\x93\x17\xC2\x08noise")]);
    place.run("fix dump --out out --write same").check(0, &[]);
    let before = place.same("dump");
    place.run("fix noise --out out").check(1, &["nothing could be read, so nothing is written"]);
    place.run("fix gone --out out").check(1, &["gone: No such file"]);
    place.run("fix dump --out out --reference nobody").check(2, &[]);
    place.run("fix out/corrected --out out").check(2, &["belongs to the earlier output"]);
    place.run("fix . --out out").check(2, &["belongs to the earlier output"]);
    assert_eq!(place.same("dump"), before);
    // What a run left that was killed does not stop the next.
    place.write("out/.unskew-unfinished/traces/half", b"");
    fs::remove_file(place.path("out/summary.json")).unwrap();
    place.run("fix dump --out out").check(0, &[]);
    assert_eq!(place.names("out"), ["skew", "summary.json", "traces"]);
}

#[test]
fn two_inputs_with_one_output_are_refused() {
    let (one, two) = (good(1), good(2));
    let place = Place::with(&[("x/a.json", one.as_bytes()), ("y/a.json", two.as_bytes()), ("a.jsonl", one.as_bytes())]);
    place.run("fix x/a.json y/a.json --out out").check(2, &["x/a.json and y/a.json would both be written to a.json"]);
    let both = "x/a.json and a.jsonl would both be written to corrected/a.binpb";
    place.run("fix x/a.json a.jsonl --out out --write otlp-proto").check(2, &[both]);
    place.run("fix x/a.json a.jsonl --out out --write same").check(0, &[]);
    place.write("b.binpb", &prefixed(&[good_protobuf(3)]));
    place.run("fix b.binpb --out out --write same --write otlp-proto").check(2, &["b.binpb and b.binpb would both be"]);
    place.write("z/b.binpb/c", two.as_bytes());
    place.run("fix z b.binpb --out out --write same").check(2, &["would both be written to corrected/b.binpb"]);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_opened_is_named() {
    let place = Place::with(&[("dump", good(1).as_bytes())]);
    std::os::unix::fs::symlink(place.path("loop"), place.path("loop")).unwrap();
    place.run("fix dump loop --out out").check(1, &["loop: Too many levels of symbolic links"]);
    assert_eq!(place.summary()["spans"], 1);
    if Path::new("/proc/self/mem").exists() {
        place.run("fix dump /proc/self/mem --out out").check(1, &["mem: Input/output error"]);
        assert_eq!(place.summary()["spans"], 1);
    }
}

#[test]
fn a_folder_is_read_whole_and_an_empty_one_told() {
    let (one, two) = (good(1), good(2));
    let place = Place::with(&[("in/a", one.as_bytes()), ("in/deep/b", two.as_bytes()), ("in/.part", b"noise")]);
    fs::create_dir(place.path("bare")).unwrap();
    place.run("fix in --out out --write same").check(0, &[]);
    assert_eq!((place.same("a"), place.same("deep/b")), (one.into_bytes(), two.into_bytes()));
    place.run("fix bare --out out").check(1, &["bare: no file in this folder"]);
    place.run("fix in/x*.json --out out").check(1, &["in/x*.json: no file matches"]);
}

#[test]
fn standard_input_is_read_like_a_file() {
    let place = Place::with(&[]);
    place.run_on("fix - --out out --write same", good(1).as_bytes()).check(0, &[]);
    assert_eq!(place.same("stdin.jsonl"), good(1).as_bytes());
    place.run_on("fix - --out out", b"\x93\x17\xC2\x08noise").check(1, &["-: no trace dump that we know"]);
}

#[test]
fn a_reader_that_is_gone_is_no_error() {
    let place = Place::with(&[("dump", good(1).as_bytes())]);
    for (arguments, exit) in
        [("fix dump --out out", 0), ("report out", 0), ("report out --json", 0), ("fix gone --out new", 1)]
    {
        let mut command = place.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(exit), "{arguments}");
    }
}
