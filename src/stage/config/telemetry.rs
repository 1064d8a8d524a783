//! What is told of the stage itself: `service.telemetry`.

use super::address::Address;
use super::answers;
use super::auth::{Bearer, Extensions};
use super::flags::Flags;
use super::read::Section;

/// Where `/metrics`, `/healthz`, `/readyz`, `/clocks` and the clock service are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Default localhost:9464.
    pub address: Address,
    /// What the clock service asks for; without it, it answers only where the address is local.
    pub auth: Option<Bearer>,
}

/// The log, on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logs {
    /// Default info.
    pub level: LogLevel,
    /// Default console.
    pub encoding: LogEncoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogEncoding {
    /// For people.
    Console,
    /// For programs: an object a line.
    Json,
}

pub(super) fn read(service: Option<&mut Section<'_>>, extensions: &Extensions, flags: &Flags) -> (Admin, Logs) {
    let mut admin = Admin { address: Address::localhost(9464), auth: None };
    let mut logs = Logs { level: LogLevel::Info, encoding: LogEncoding::Console };
    if let Some(mut telemetry) = service.and_then(|service| service.section("telemetry")) {
        telemetry.refuse(answers::TELEMETRY);
        if let Some(mut metrics) = telemetry.section("metrics") {
            metrics.refuse(answers::METRICS);
            admin.address = metrics.parsed("address", str::parse).unwrap_or(admin.address);
            admin.auth = extensions.named_by(&mut metrics);
        }
        if let Some(mut section) = telemetry.section("logs") {
            section.refuse(answers::LOGS);
            logs.level = section.choice("level").unwrap_or(logs.level);
            logs.encoding = section.choice("encoding").unwrap_or(logs.encoding);
        }
    }
    admin.address = flags.admin.clone().unwrap_or(admin.address);
    (admin, logs)
}
