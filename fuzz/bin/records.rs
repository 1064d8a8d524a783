#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| unskew_fuzz::targets::records::one(data));
