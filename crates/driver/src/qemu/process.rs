//! Finding a machine's process again, and ending it. A process id alone proves nothing, for ids are used again: with the
//! start time and the machine's mark on its command line it does.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nephos_model::Clock;
use nephos_model::id::ComputeId;
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::unix::AsyncFd;

use super::count::signed;

/// A process, told from every other one of this boot of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Clock ticks between the host's start and its own.
    pub start: u64,
}

/// What a process used of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Milliseconds since it was started.
    pub age_ms: i64,
    /// Milliseconds of processor time, its own and the kernel's for it.
    pub cpu_ms: i64,
    /// Bytes of memory that it holds.
    pub memory_bytes: i64,
}

impl Used {
    /// From a line of the process table (proc(5): fields 14, 15 and 22 are ticks, 24 is pages) and the milliseconds since the
    /// host's start.
    fn from_stat(line: &str, ticks_per_second: u64, page_bytes: u64, uptime_ms: i64) -> Option<Self> {
        let (_, tail) = line.rsplit_once(") ")?;
        // The first field of the rest is field 3.
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        let ms = |ticks: u64| signed(ticks.saturating_mul(1_000) / ticks_per_second.max(1));
        Some(Self {
            age_ms: (uptime_ms - ms(field(22)?)).max(0),
            cpu_ms: ms(field(14)? + field(15)?),
            memory_bytes: signed(field(24)?.saturating_mul(page_bytes)),
        })
    }
}

impl Process {
    /// What it used until now.
    pub fn used(self) -> io::Result<Used> {
        let line = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let uptime_ms = uptime.tv_sec.saturating_mul(1_000) + uptime.tv_nsec / 1_000_000;
        let (ticks, page) = (rustix::param::clock_ticks_per_second(), rustix::param::page_size() as u64);
        Some(line)
            .filter(|line| Self::from_stat(line) == Some(self))
            .and_then(|line| Used::from_stat(&line, ticks, page, uptime_ms))
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// From a line of the process table; `None` when it is not complete, or the process has ended already.
    pub fn from_stat(line: &str) -> Option<Self> {
        // The name in parentheses may hold anything, so the fields are counted from the last one.
        let (head, tail) = line.rsplit_once(") ")?;
        let pid = head.split_once(' ')?.0.parse().ok()?;
        let mut fields = tail.split(' ');
        let state = fields.next()?;
        // The start time is field 22 of the line; the state was field 3.
        let start = fields.nth(18)?.trim().parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, start })
    }

    /// The process with this id, when there is one that has not ended.
    pub fn of(pid: i32) -> Option<Self> {
        Self::from_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Whether it runs and has `mark` among its arguments.
    pub fn bears(self, mark: &str) -> bool {
        arguments(self.pid).iter().any(|argument| argument == mark) && self.is_alive()
    }

    /// A descriptor that stays with this very process.
    pub fn open(self) -> io::Result<OwnedFd> {
        let pid = Pid::from_raw(self.pid).ok_or(io::ErrorKind::NotFound)?;
        let fd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // The id may have passed on between the look-up and the opening.
        if self.is_alive() { Ok(fd) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Kills it and waits until it is gone, at most `deadline_ms`. Gone already is success.
    pub async fn kill(self, clock: &dyn Clock, deadline_ms: u64) -> io::Result<()> {
        let fd = match self.open() {
            Ok(fd) => fd,
            Err(e) if is_gone(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        match rustix::process::pidfd_send_signal(&fd, Signal::KILL) {
            Err(e) if e != rustix::io::Errno::SRCH => return Err(e.into()),
            _ => {}
        }
        let exit = Exit::new(fd)?;
        tokio::select! {
            () = exit.wait() => Ok(()),
            () = clock.sleep(Duration::from_millis(deadline_ms)) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("process {} did not end within {deadline_ms} ms after it was killed", self.pid),
            )),
        }
    }
}

/// Whether an error says that the process is not there.
pub fn is_gone(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// The end of a process, to be waited for.
#[derive(Debug)]
pub struct Exit(AsyncFd<OwnedFd>);

impl Exit {
    /// The end of the process of a descriptor.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        super::sys::readable(fd).map(Self)
    }

    /// Ends when the process has ended.
    pub async fn wait(&self) {
        // Readiness stays: nothing is read from such a descriptor. An error means that it can't be watched any more.
        if let Err(e) = self.0.readable().await {
            tracing::warn!(error = %e, "a process can't be watched");
        }
    }
}

/// Every process with an argument that starts with `prefix` and goes on with a compute's id.
pub fn scan(prefix: &str) -> io::Result<Vec<(ComputeId, Process)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let id = arguments(pid).iter().find_map(|argument| argument.strip_prefix(prefix)?.parse().ok());
        if let (Some(id), Some(process)) = (id, Process::of(pid)) {
            found.push((id, process));
        }
    }
    Ok(found)
}

fn arguments(pid: i32) -> Vec<String> {
    let line = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let line = format!("42 (a) b (c) S 1 42 42 0 {} 777 0", ["0"; 15].join(" "));
        assert_eq!(Process::from_stat(&line).map(|p| p.pid), Some(42));
        let real = fs::read_to_string("/proc/self/stat").unwrap();
        let me = Process::from_stat(&real).unwrap();
        assert!(me.is_alive());
        assert!(!Process { start: me.start + 1, ..me }.is_alive());
        for bad in ["", "42", "42 (x) S", "42 (x) Z 1"] {
            assert_eq!(Process::from_stat(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_process_used_is_told() {
        // user 250 ticks, system 50, started at tick 4,000, 3 pages.
        let line = "7 (q (x) S 1 7 7 0 -1 0 0 0 0 0 250 50 0 0 20 0 9 0 4000 99999 3 18446744073709551615 1 1";
        let used = Used::from_stat(line, 100, 4_096, 61_000).unwrap();
        assert_eq!((used.age_ms, used.cpu_ms, used.memory_bytes), (21_000, 3_000, 12_288));
        assert_eq!(Used::from_stat("7 (q) S 1", 100, 4_096, 0), None);
        let real = fs::read_to_string("/proc/self/stat").unwrap();
        let me = Process::from_stat(&real).unwrap();
        assert!(me.used().unwrap().memory_bytes > 0);
        assert!(Process { start: me.start + 1, ..me }.used().is_err(), "somebody else by now");
    }

    #[test]
    fn the_ended_are_not_found() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process::of(pid);
        child.wait().unwrap();
        assert!(process.is_none_or(|p| !p.is_alive()));
    }
}
