//! Measures nephos beside what it is compared with, in one run: `bench/run` builds and calls it.
//!
//! A row has two sides, measured in turn; its figure is the ratio of their medians. Deliberately not here: profiles, and
//! figures of single crates (the store has an example for those).
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits")]
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

mod bare;
mod boot;
mod deliveries;
mod installation;
mod lists;
mod load;
mod plain;
mod postgres;
mod process;
mod ratio;
mod rows;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use rows::{ROWS, Workshop};

const USAGE: &str = "usage: bench/run [ROW…]

Measures all rows, or those named:";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bare", file] => bare::serve(file),
        ["load", address, path, key, seconds] => load_only(address, path, key, seconds),
        ["load-creates", address, key, seconds] => load_creates(address, key, seconds),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            for (name, what, _) in ROWS {
                println!("  {name:<16} {what}");
            }
            Ok(())
        }
        names => measure(names),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why:#}");
            ExitCode::FAILURE
        }
    }
}

/// Reads one path for a while, for a profiler that looks at the server meanwhile.
fn load_only(address: &str, path: &str, key: &str, seconds: &str) -> Result<()> {
    let load = load::Load {
        address: address.parse().context("an address and port")?,
        connections: rows::CLIENTS,
        duration: std::time::Duration::from_secs(seconds.parse().context("seconds")?),
        status: 200,
    };
    let request = load::get(path, key);
    let outcome = load::run(load, |_, out| out.extend_from_slice(&request))?;
    println!("{:.0}/s, p50 {} us, p99 {} us", outcome.rate, outcome.times_us.0, outcome.times_us.1);
    Ok(())
}

/// Creates SSH keys for a while, for a profiler.
fn load_creates(address: &str, key: &str, seconds: &str) -> Result<()> {
    let seconds: u64 = seconds.parse().context("seconds")?;
    // Numbers that an earlier load did not use.
    let mut creates = rows::Creates::from(u64::from(std::process::id()) << 32);
    let outcome = creates.ssh_keys(address.parse().context("an address and port")?, key, seconds * 1000)?;
    println!("{:.0}/s, p50 {} us, p99 {} us", outcome.rate, outcome.times_us.0, outcome.times_us.1);
    Ok(())
}

fn measure(names: &[&str]) -> Result<()> {
    let unknown: Vec<_> = names.iter().filter(|name| ROWS.iter().all(|row| row.0 != **name)).collect();
    if !unknown.is_empty() {
        let known: Vec<_> = ROWS.iter().map(|row| row.0).collect();
        bail!("there is no row {unknown:?}; there are {}", known.join(", "));
    }
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).with_context(|| format!("{name} is not set"));
    let shop = Workshop::new(variable("BENCH_NEPHOS")?, variable("BENCH_RESULTS")?)?;
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for (name, what, run) in ROWS {
        if !names.is_empty() && !names.contains(name) {
            continue;
        }
        eprintln!("bench: {what}");
        match run(&shop) {
            Ok(measured) => {
                eprint!(
                    "{}",
                    ratio::table(&measured).lines().skip(2).fold(String::new(), |all, line| all + line + "\n")
                );
                rows.extend(measured);
            }
            Err(why) => {
                shop.complaints().iter().for_each(|line| eprintln!("  {line}"));
                failed.push(format!("{name}: {why:#}"));
            }
        }
    }
    let table = ratio::table(&rows);
    println!("{table}");
    shop.keep(&table)?;
    if failed.is_empty() { Ok(()) } else { bail!("not measured:\n  {}", failed.join("\n  ")) }
}
