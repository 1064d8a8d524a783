//! What becomes of spans when things go wrong under load: every one is accounted for, and none is lost that was
//! acknowledged.
//!
//! `cargo test --release --test faults` runs each for some seconds. After `--`: names of faults to run only those,
//! `--long` for a minute each and half a minute of outage, and `--table` for rows of `tests/faults/README.md`.

#[path = "faults/ground.rs"]
mod ground;
#[path = "stage/harness/mod.rs"]
mod harness;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use ground::{Ground, Load, Result};
use harness::wire::{self, Packing};
use harness::{Answer, Verdict, Via, spans};

struct Fault {
    name: &'static str,
    what: &'static str,
    /// More senders than usual, each with a connection of its own.
    connections: Option<usize>,
    keys: &'static str,
}

const FAULTS: [Fault; 11] = [
    Fault { name: "none", what: "nothing goes wrong", connections: None, keys: "" },
    Fault { name: "killed", what: "SIGKILL, five times", connections: None, keys: "" },
    Fault { name: "down", what: "the next hop is down, and comes back", connections: None, keys: "" },
    Fault { name: "slow", what: "the next hop takes half a second for each request", connections: None, keys: "" },
    Fault { name: "refused", what: "the next hop refuses one batch for good", connections: None, keys: "" },
    Fault { name: "partial", what: "the next hop rejects 7 spans of one batch", connections: None, keys: "" },
    Fault {
        name: "hostile",
        what: "malformed, oversized, bombs, and requests that never end, amid good ones",
        connections: None,
        keys: "",
    },
    Fault { name: "crowd", what: "1,000 connections", connections: Some(1_000), keys: "" },
    Fault {
        name: "reload",
        what: "SIGHUP five times a second, the configuration another each time",
        connections: None,
        keys: "",
    },
    Fault { name: "recorded", what: "SIGKILL, ten times, and no next hop: tables", connections: None, keys: "" },
    Fault { name: "drain", what: "SIGTERM, and a new process", connections: None, keys: "drain_timeout: 5s" },
];

/// Long and short runs.
#[derive(Clone, Copy)]
struct Times {
    /// Of load, in all.
    load: Duration,
    /// Of the next hop's outage.
    outage: Duration,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--test").collect();
    let given = |name: &str| arguments.iter().any(|argument| argument == name);
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let times = match given("--long") {
        true => Times { load: Duration::from_secs(60), outage: Duration::from_secs(30) },
        false => Times { load: Duration::from_secs(6), outage: Duration::from_secs(2) },
    };
    if let Some(unknown) = names.iter().find(|name| FAULTS.iter().all(|fault| fault.name != **name)) {
        eprintln!("no fault {unknown}");
        return ExitCode::FAILURE;
    }
    let (mut passed, mut failed) = (0, 0);
    for fault in FAULTS.iter().filter(|fault| names.is_empty() || names.iter().any(|name| *name == fault.name)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        match runtime.block_on(run(fault, times)) {
            Ok(figures) => {
                passed += 1;
                match given("--table") {
                    true => println!("| {} | {} | {figures} |", fault.name, fault.what),
                    false => println!("ok      {:<8} {}: {figures}", fault.name, fault.what),
                }
            }
            Err(reason) => {
                failed += 1;
                println!("FAILED  {:<8} {}: {reason}", fault.name, fault.what);
            }
        }
    }
    println!("test result: {}. {passed} passed; {failed} failed", if failed == 0 { "ok" } else { "FAILED" });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(fault: &Fault, times: Times) -> Result<String> {
    let mut ground = match fault.name {
        "recorded" => Ground::recording().await,
        _ => Ground::new(fault.keys).await,
    };
    let load = Load::start(&ground, fault.connections.unwrap_or(64));
    let began = Instant::now();
    let checked = strike(fault.name, &mut ground, times).await;
    tokio::time::sleep(times.load.saturating_sub(began.elapsed())).await;
    let tally = load.end(&mut ground).await?;
    let refused = checked?;
    tally.check(refused)
}

/// What may come back beside acceptance: how many batches are refused for good, and how many spans are rejected.
#[derive(Default)]
pub struct Allowed {
    pub refused: usize,
    pub rejected: i64,
}

async fn strike(name: &str, ground: &mut Ground, times: Times) -> Result<Allowed> {
    let pause = Duration::from_secs(1);
    tokio::time::sleep(pause).await;
    match name {
        "none" | "crowd" => {}
        "killed" => {
            // So that it always holds something when it goes.
            ground.sink().answer(Answer::late(Duration::from_millis(20), Answer::Accept));
            for _ in 0..5 {
                ground.kill().await;
                tokio::time::sleep(times.load / 10).await;
            }
        }
        "recorded" => {
            for _ in 0..10 {
                ground.kill().await;
                tokio::time::sleep(times.load / 20).await;
            }
        }
        "down" => {
            ground.next_hop_goes().await;
            tokio::time::sleep(times.outage).await;
            ground.next_hop_comes().await;
        }
        "slow" => ground.sink().answer(Answer::late(Duration::from_millis(500), Answer::Accept)),
        "refused" => {
            ground.sink().answer_once(Answer::code(3));
            return Ok(Allowed { refused: 1, rejected: 0 });
        }
        "partial" => {
            ground.sink().answer_once(Answer::Partial { rejected: 7, message: "seven are too old" });
            return Ok(Allowed { refused: 0, rejected: 7 });
        }
        "hostile" => hostile(ground, times.load - 2 * pause).await?,
        "reload" => {
            let until = Instant::now() + times.load - 2 * pause;
            let mut nth = 0;
            while Instant::now() < until {
                nth += 1;
                ground.reload(["mode: annotate", "traces_only: true", "max_in_flight_mib: 32", ""][nth % 4]);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            ground.only_accepted = true;
        }
        "drain" => {
            ground.sink().answer(Answer::late(Duration::from_millis(20), Answer::Accept));
            tokio::time::sleep(times.load / 3).await;
            ground.drain().await?;
        }
        other => panic!("no fault {other}"),
    }
    Ok(Allowed::default())
}

/// Sends what no receiver has to bear, and sees that it is refused; connections that dawdle stay all the while.
async fn hostile(ground: &Ground, during: Duration) -> Result<()> {
    let stage = ground.stage();
    let mut dawdlers = Vec::new();
    for begun in
        ["POST /v1/traces HTTP/1.1\r\nhost: a\r\n", "POST /v1/traces HTTP/1.1\r\ncontent-length: 999999\r\n\r\n"]
    {
        for _ in 0..50 {
            let mut stream = TcpStream::connect(stage.http).await.map_err(|error| format!("slow-loris: {error}"))?;
            stream.write_all(begun.as_bytes()).await.unwrap();
            dawdlers.push(stream);
        }
    }
    let cut = &prost::Message::encode_to_vec(&spans::request(3))[..99];
    let oversized = vec![0; (64 << 20) + 1];
    let mut zeros = tokio::io::repeat(0).take(200 << 20);
    let mut bomb = vec![0; 200 << 20];
    zeros.read_exact(&mut bomb).await.unwrap();
    let bomb = Packing::Gzip.pack(&bomb);
    let mut frame = vec![1];
    frame.extend((bomb.len() as u32).to_be_bytes());
    frame.extend(&bomb);
    let until = Instant::now() + during;
    let mut nth = 0_usize;
    while Instant::now() < until {
        let reply = match nth % 8 {
            0 => stage.grpc_framed(harness::TRACES, &[("grpc-encoding", "gzip")], frame.clone()).await,
            4 => stage.grpc_framed(harness::TRACES, &[], wire::frame(&oversized, Packing::Plain)).await,
            _ => stage.send_bytes(Via::Grpc, cut).await,
        };
        if reply.verdict(Via::Grpc) != Verdict::Refused {
            return Err(format!("hostile request {nth} is not refused: {reply:?}"));
        }
        // A byte now and then keeps a request alive.
        let at = nth % dawdlers.len();
        if dawdlers[at].write_all(b"x").await.is_err() {
            dawdlers[at] = TcpStream::connect(stage.http).await.map_err(|error| format!("slow-loris: {error}"))?;
        }
        nth += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let most = stage.memory_kb("VmHWM") >> 10;
    if most > 400 {
        return Err(format!("{most} MiB of memory at the most"));
    }
    Ok(())
}
