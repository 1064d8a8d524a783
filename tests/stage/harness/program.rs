//! The program as a process of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::client::{self, Reply};
use super::config::Config;

/// `unskew serve`, killed when it is dropped; what it said is shown where a test fails.
pub struct Stage {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
    folder: tempfile::TempDir,
}

impl Stage {
    /// Starts it, and waits until it is ready.
    pub async fn start(config: Config) -> Self {
        let mut stage = Self::begin(&config);
        stage.wait_for("/readyz", 200).await;
        stage
    }

    /// Starts it, and waits for nothing.
    pub fn begin(config: &Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("unskew.yaml");
        fs::write(&file, config.text()).unwrap();
        let child = Command::new(program())
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.path().join("out")).unwrap())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let Config { grpc_address: grpc, http_address: http, admin_address: admin, .. } = *config;
        Self { grpc, http, admin, child, folder }
    }

    /// Until a path of the admin port answers so.
    pub async fn wait_for(&mut self, path: &str, status: u16) {
        let began = Instant::now();
        while client::try_get(self.admin, path).await.is_none_or(|reply| reply.status != status) {
            if let Some(ended) = self.child.try_wait().unwrap() {
                panic!("the program ended with {ended}: {}", self.log());
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{path} is not {status}: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub fn log(&self) -> String {
        ["out", "log"].map(|name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()).concat()
    }

    /// Another configuration, read on SIGHUP; addresses stay.
    pub fn reload(&self, config: &Config) {
        fs::write(self.folder.path().join("unskew.yaml"), config.text()).unwrap();
        self.signal("HUP");
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap().success());
    }

    /// Waits for its end.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < within, "it does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        client::try_get(self.admin, path).await.unwrap_or_else(|| panic!("no answer to {path}"))
    }

    /// The sum of a metric over all series whose labels hold a text.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let of_it = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']) && rest.contains(labels))
        };
        let series: Vec<&str> = text.lines().filter(of_it).collect();
        series.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Kilobytes of memory: `VmRSS` now, `VmHWM` at the most so far.
    pub fn memory_kb(&self, which: &str) -> u64 {
        memory_kb(self.pid(), which)
    }
}

pub fn memory_kb(pid: u32, which: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("needs Linux");
    let line = status.lines().find(|line| line.starts_with(which)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- unskew said:\n{}--", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `unskew validate` says of a configuration: whether it is good, and its words.
pub fn validate(text: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("unskew.yaml");
    fs::write(&file, text).unwrap();
    let run = Command::new(program()).arg("validate").arg(&file).output().unwrap();
    let said = [run.stdout, run.stderr].concat();
    (run.status.success(), String::from_utf8(said).unwrap())
}

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_unskew"))
}
