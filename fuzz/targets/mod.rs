//! The fuzz targets: each takes any bytes, and panics where something that is promised does not hold. They are
//! compiled twice: for libFuzzer (`fuzz/bin`), and in `tests/fuzz_seeds.rs`, so that they keep pace with the code.

pub mod agree;
pub mod detect;
pub mod json;
pub mod protobuf;
pub mod records;
