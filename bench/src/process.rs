//! Programs that a measurement starts: found, waited for with a bound, and ended with it.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Seconds that a program has to end after it was asked to.
const END_MAX_S: u64 = 90;
/// Milliseconds between two looks at something that is about to be.
const LOOK_MS: u64 = 1;

/// A program that ends with its owner.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).spawn().map(Self).with_context(|| format!("{name} does not start"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended early ({status})"),
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self) -> Result<()> {
        if self.0.try_wait()?.is_none() {
            signal(self.id(), "TERM")?;
            let child = &mut self.0;
            let ended = wait_until(Duration::from_secs(END_MAX_S), || Ok(child.try_wait()?.map(|_| ())));
            if ended.is_err() {
                self.0.kill()?;
                self.0.wait()?;
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("bench: process {} may still run: {error}", self.id());
        }
    }
}

fn signal(id: u32, name: &str) -> Result<()> {
    let status = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status()?;
    ensure!(status.success(), "process {id} could not be sent {name}");
    Ok(())
}

/// This program again as bare axum answering a file; also where it listens.
pub fn bare(file: &Path) -> Result<(Running, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut running = Running::start(command.arg("bare").arg(file).stdout(Stdio::piped()))?;
    let stdout = running.0.stdout.take().context("bare axum has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let port: u16 = line.trim().parse().context("bare axum did not tell its port")?;
    Ok((running, SocketAddr::from(([127, 0, 0, 1], port))))
}

/// Ports below those that the system gives to clients: the listener of one run is never in the way of another's connection.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port of the loopback address that was free a moment ago, and the next one too.
pub fn free_port() -> Result<u16> {
    let is_free = |port: u16| TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).is_ok();
    let first = PORTS.start + u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start))?;
    let mut ports = (first..PORTS.end).chain(PORTS.start..first).step_by(2);
    ports.find(|port| is_free(*port) && is_free(port + 1)).context("no free ports")
}

/// Runs a program to its end and hands back what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{name} does not start"))?;
    ensure!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Looks again and again until there is something.
pub fn wait_until<T>(limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(begun.elapsed() < limit, "nothing within {limit:?}");
        pause(Duration::from_millis(LOOK_MS));
    }
}

/// Holds up this thread.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Processor time of a process so far, in seconds; the kernel counts hundredths.
pub fn cpu_s(id: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// Resident memory of a process in MiB.
pub fn resident_mib(id: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}
