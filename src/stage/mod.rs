//! `unskew serve`: an OTLP relay that corrects spans as they pass.

pub mod config;
