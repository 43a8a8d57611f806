//! What a simulated machine went through and will go through, with times: the whole memory of the simulator.
//!
//! Written as JSON into the machine's notes. Times are microseconds since the Unix epoch, by the tenant's clock. Decisions
//! are not here: only what happened when.

use std::time::Duration;

use nephos_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{DriverError, Machine, Notes, Stop};

/// The form of the notes; another one is refused rather than guessed at.
const FORM: u32 = 1;

/// A machine's past and planned future.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Script {
    disk: Option<Disk>,
    boot: Option<Boot>,
}

/// The disk, made or being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disk {
    /// When it is made.
    pub(super) ready_at: Timestamp,
    /// Whether there is nothing after all when it should be made.
    pub(super) fails: bool,
    /// The size that it was last asked to have, in GiB, and when it has it.
    pub(super) grown: Option<(u32, Timestamp)>,
}

/// The last boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Boot {
    /// Its number.
    pub(super) number: i64,
    /// Power on.
    pub(super) began_at: Timestamp,
    /// The first user process.
    pub(super) ready_at: Timestamp,
    /// Its end, when one was asked for.
    pub(super) halt: Option<Power>,
}

/// How a boot ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Power {
    /// When it was asked for.
    pub(super) began_at: Timestamp,
    /// Power off.
    pub(super) off_at: Timestamp,
    /// Whether the guest had its say.
    pub(super) how: Stop,
}

impl Script {
    /// The script in a machine's notes; an empty one when there are none.
    pub(super) fn read(machine: &Machine) -> Result<Self, DriverError> {
        let Some(Notes(text)) = &machine.notes else { return Ok(Self::default()) };
        let stored: Stored = serde_json::from_str(text).map_err(|e| unreadable(machine, Some(Box::new(e))))?;
        if stored.form != FORM {
            return Err(unreadable(machine, None));
        }
        Ok(Self::from(stored))
    }

    /// The script as notes.
    pub(super) fn write(&self) -> Result<Notes, DriverError> {
        serde_json::to_string(&Stored::from(self)).map(Notes).map_err(|e| DriverError::Passing {
            context: "write the notes of a simulated machine".to_owned(),
            source: Some(Box::new(e)),
        })
    }

    /// The disk, if one was ever begun.
    pub(super) const fn disk(&self) -> Option<Disk> {
        self.disk
    }

    /// The last boot, over or not.
    pub(super) const fn last_boot(&self) -> Option<Boot> {
        self.boot
    }

    /// The number of the last boot; 0 before the first.
    pub(super) fn boot_number(&self) -> i64 {
        self.boot.map_or(0, |boot| boot.number)
    }

    /// Whether making the disk has failed by `now`.
    pub(super) fn failed(&self, now: Timestamp) -> bool {
        self.disk.is_some_and(|disk| disk.fails && disk.ready_at <= now)
    }

    /// The disk is being made.
    pub(super) fn prepare(&mut self, now: Timestamp, took: Duration, fails: bool) {
        *self = Self { disk: Some(Disk { ready_at: now.plus(took), fails, grown: None }), boot: None };
    }

    /// The disk is to have so many GiB; returns whether that changes anything.
    pub(super) fn grow(&mut self, gib: u32, now: Timestamp, took: Duration) -> bool {
        let Some(disk) = &mut self.disk else { return false };
        let grows = disk.grown.is_none_or(|(has, _)| has < gib);
        if grows {
            disk.grown = Some((gib, now.plus(took)));
        }
        grows
    }

    /// When the disk has the size that it is getting.
    pub(super) fn growing(&self, now: Timestamp) -> Option<Timestamp> {
        self.disk?.grown.map(|(_, at)| at).filter(|at| now < *at)
    }

    /// The power is switched on.
    pub(super) fn boot(&mut self, number: i64, now: Timestamp, took: Duration) {
        self.boot = Some(Boot { number, began_at: now, ready_at: now.plus(took), halt: None });
    }

    /// The machine is asked to stop; returns whether that changes anything. A cut overtakes a shutdown, and nothing else
    /// overtakes anything.
    pub(super) fn stop(&mut self, how: Stop, now: Timestamp, took: Duration) -> bool {
        let Some(boot) = &mut self.boot else { return false };
        let off_at = now.plus(took);
        match (boot.halt, how) {
            (Some(_), Stop::Graceful) => return false,
            (Some(halt), Stop::Forced) if halt.off_at <= off_at => return false,
            _ => boot.halt = Some(Power { began_at: now, off_at, how }),
        }
        true
    }
}

fn unreadable(machine: &Machine, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> DriverError {
    DriverError::Passing { context: format!("the notes of {} are not the simulator's", machine.id), source }
}

/// The stored form.
#[derive(Serialize, Deserialize)]
struct Stored {
    form: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<StoredDisk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<StoredBoot>,
}

#[derive(Serialize, Deserialize)]
struct StoredDisk {
    ready_at: i64,
    fails: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    grown: Option<(u32, i64)>,
}

#[derive(Serialize, Deserialize)]
struct StoredBoot {
    number: i64,
    began_at: i64,
    ready_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    halt: Option<StoredHalt>,
}

#[derive(Serialize, Deserialize)]
struct StoredHalt {
    began_at: i64,
    off_at: i64,
    cut: bool,
}

impl From<Stored> for Script {
    fn from(stored: Stored) -> Self {
        let at = Timestamp::from_micros;
        Self {
            disk: stored.disk.map(|d| Disk {
                ready_at: at(d.ready_at),
                fails: d.fails,
                grown: d.grown.map(|(gib, until)| (gib, at(until))),
            }),
            boot: stored.boot.map(|b| Boot {
                number: b.number,
                began_at: at(b.began_at),
                ready_at: at(b.ready_at),
                halt: b.halt.map(|h| Power {
                    began_at: at(h.began_at),
                    off_at: at(h.off_at),
                    how: if h.cut { Stop::Forced } else { Stop::Graceful },
                }),
            }),
        }
    }
}

impl From<&Script> for Stored {
    fn from(script: &Script) -> Self {
        Self {
            form: FORM,
            disk: script.disk.map(|d| StoredDisk {
                ready_at: d.ready_at.micros(),
                fails: d.fails,
                grown: d.grown.map(|(gib, at)| (gib, at.micros())),
            }),
            boot: script.boot.map(|b| StoredBoot {
                number: b.number,
                began_at: b.began_at.micros(),
                ready_at: b.ready_at.micros(),
                halt: b.halt.map(|h| StoredHalt {
                    began_at: h.began_at.micros(),
                    off_at: h.off_at.micros(),
                    cut: h.how == Stop::Forced,
                }),
            }),
        }
    }
}
