//! A machine's disk: made as an overlay on its image, grown, thrown away. Each step can be repeated after a crash in the
//! middle of it. Deliberately not here: processes, and the image store itself.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use nephos_model::image::Boot;
use serde_json::json;

use super::home::{BootRecord, Record};
use super::images::{said, tool_cage};
use super::machine::{command_line_of, report};
use super::run::run;
use super::sys::Identity;
use super::{Inner, blocking, failed, passing, qcow2};
use crate::{DriverError, Machine, Report, Seen};

/// Milliseconds for making or growing an overlay.
const OVERLAY_DEADLINE_MS: u64 = 20_000;
const GIB: u64 = 1 << 30;

impl Inner {
    pub(super) async fn wipe(&self, machine: &Machine) -> Result<Report, DriverError> {
        must_not_run(machine, &self.see(machine.id).await?, "thrown away")?;
        // What will take its place must be there before it goes.
        self.base_of(machine)?;
        if machine.has_run {
            // One whose directory was lost is known again from here on, so that its next disk is no surprise.
            self.decide(machine).await?;
        }
        let home = self.home(machine.id);
        blocking("a disk can't be thrown away", move || home.wipe()).await?;
        Ok(report(Seen::Absent))
    }

    pub(super) async fn grow(&self, machine: &Machine) -> Result<Report, DriverError> {
        let seen = self.see(machine.id).await?;
        must_not_run(machine, &seen, "grown")?;
        let Some(record) = self.known(machine.id)?.filter(|_| seen != Seen::Absent) else {
            return Ok(report(Seen::Absent));
        };
        let (home, wanted) = (self.home(machine.id), u64::from(machine.disk_gib) * GIB);
        let disk = home.file("disk.qcow2");
        let has = blocking("a disk can't be read", move || {
            qcow2::virtual_bytes(File::open(disk)?)?.ok_or_else(|| io::Error::other("it is not a qcow2 file"))
        })
        .await?;
        if has < wanted {
            // The tool writes the new length into the file's header last, so one that was killed has changed nothing. What
            // lies behind the overlay is said here, not read from a file that the machine can write.
            let disk = json!({
                "driver": "qcow2",
                "file": {"driver": "file", "filename": "disk.qcow2"},
                "backing": {"driver": "qcow2", "file": {"driver": "file", "filename": "base.qcow2"}},
            });
            let arguments = ["resize".to_owned(), "-q".to_owned(), format!("json:{disk}"), gib(machine)];
            self.disk_tool(machine, &record, &arguments, "a disk can't be grown").await?;
            blocking("a disk can't be grown", move || File::open(home.file("disk.qcow2"))?.sync_all()).await?;
        }
        Ok(report(seen))
    }

    /// The file of the machine's image, when a disk of the machine's size can be made of it.
    fn base_of(&self, machine: &Machine) -> Result<PathBuf, DriverError> {
        if !self.images.holds(&machine.image) {
            return Err(DriverError::Refused(format!(
                "the image {} is not on this host: the operator can add it again with `nephos image add`",
                machine.image.name
            )));
        }
        let Some(base) = self.images.path(&machine.image.checksum) else {
            return Err(DriverError::Refused(format!("the image {} has no valid checksum", machine.image.name)));
        };
        let header = File::open(&base).and_then(qcow2::read).map_err(|e| failed("an image can't be read", e))?;
        let header = header.map_err(|e| DriverError::Refused(format!("the image {}: {e}", machine.image.name)))?;
        if header.virtual_bytes > u64::from(machine.disk_gib) * GIB {
            return Err(DriverError::Refused(format!(
                "the image {} needs a disk of {} GiB: choose a larger size",
                machine.image.name,
                header.virtual_bytes.div_ceil(GIB)
            )));
        }
        Ok(base)
    }

    /// Makes directory and disk, or what is missing of them.
    pub(super) async fn make(&self, machine: &Machine) -> Result<(), DriverError> {
        let base = self.base_of(machine)?;
        let record = self.decide(machine).await?;
        let owner = self.owner(&record);
        let (home, boot, images) = (self.home(machine.id), machine.image.boot.clone(), self.images.clone());
        blocking("a compute's directory can't be made", move || {
            home.make(owner)?;
            home.link(&base, "base.qcow2")?;
            if let Boot::Kernel { kernel, initrd, .. } = &boot {
                for (checksum, name) in [(kernel, "kernel"), (initrd, "initrd")] {
                    home.link(&images.path(checksum).ok_or(io::ErrorKind::NotFound)?, name)?;
                }
            }
            home.write_boot_record(&BootRecord { command_line: command_line_of(&boot) })?;
            home.make_writable("disk.new", owner)
        })
        .await?;
        self.make_overlay(machine, &record).await
    }

    async fn make_overlay(&self, machine: &Machine, record: &Record) -> Result<(), DriverError> {
        let home = self.home(machine.id);
        let arguments = ["create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", "base.qcow2", "disk.new"];
        let arguments: Vec<_> = arguments.map(str::to_owned).into_iter().chain([gib(machine)]).collect();
        self.disk_tool(machine, record, &arguments, "a disk can't be made").await?;
        blocking("a disk can't be made", move || {
            File::open(home.file("disk.new"))?.sync_all()?;
            std::fs::rename(home.file("disk.new"), home.file("disk.qcow2"))?;
            home.sync()
        })
        .await
    }

    /// Runs the disk tool in a compute's directory, as the compute's user.
    async fn disk_tool(
        &self,
        machine: &Machine,
        record: &Record,
        arguments: &[String],
        what: &'static str,
    ) -> Result<(), DriverError> {
        let home = self.home(machine.id);
        let directory = File::open(home.path()).map_err(|e| failed("a compute's directory can't be opened", e))?;
        let mut command = Command::new(&self.options.qemu_img);
        command.args(arguments);
        let identity = self.owner(record).map(|id| Identity { id, groups: Vec::new() });
        let cage = tool_cage(directory.into(), identity, file_bytes_max(machine));
        let output = run(command, cage, OVERLAY_DEADLINE_MS, &*self.clock).await.map_err(|e| passing(what, e))?;
        if output.success {
            return Ok(());
        }
        let context = format!("{what}; qemu-img says: {}", said(&output.stderr));
        Err(DriverError::Passing { context, source: None })
    }
}

/// Bytes of an overlay at most: its own tables on top of what the guest can fill.
pub(super) fn file_bytes_max(machine: &Machine) -> u64 {
    let disk_bytes = u64::from(machine.disk_gib) * GIB;
    disk_bytes + disk_bytes / 16 + GIB
}

fn gib(machine: &Machine) -> String {
    format!("{}G", machine.disk_gib)
}

fn must_not_run(machine: &Machine, seen: &Seen, what: &str) -> Result<(), DriverError> {
    match seen {
        Seen::Running { .. } | Seen::Busy { .. } => Err(DriverError::Passing {
            context: format!("the disk of {} can't be {what} while it runs: stop it first", machine.id),
            source: None,
        }),
        Seen::Absent | Seen::Stopped { .. } => Ok(()),
    }
}
