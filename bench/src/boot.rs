//! From the API call to the guest's first user process, beside the same machine started by hand: the same image, the
//! same files and the same command line, its sockets replaced by files that need nobody at the other end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::installation::Installation;
use crate::process::{Running, free_port, output, pause, wait_until};

/// What the image's first user process writes to the serial console.
const UP_LINE: &[u8] = b"nephos: userspace up";
/// Seconds that a guest has to get there.
const UP_MAX_S: u64 = 120;
/// Seconds that a compute has to go.
const GONE_MAX_S: u64 = 60;
/// Files of a compute that its machine opens; its disk is made anew.
const FILES: [&str; 4] = ["base.qcow2", "kernel", "initrd", "seed.iso"];

/// Both sides.
#[derive(Debug)]
pub struct Boot<'a> {
    installation: &'a Installation,
    folder: PathBuf,
    number: u32,
    by_hand: Option<ByHand>,
}

#[derive(Debug)]
struct ByHand {
    program: String,
    arguments: Vec<String>,
    disk_bytes: u64,
}

impl<'a> Boot<'a> {
    /// On an installation with QEMU, to which the image in `image` is added; `folder` is for the machine by hand.
    pub fn new(installation: &'a Installation, image: &Path, folder: PathBuf) -> Result<Self> {
        std::fs::create_dir(&folder)?;
        installation.add_image(image)?;
        Ok(Self { installation, folder, number: 0, by_hand: None })
    }

    /// Milliseconds from sending the request to the guest's first user process. The compute is deleted afterwards.
    pub fn api(&mut self) -> Result<f64> {
        self.number += 1;
        let name = format!("boot-{}", self.number);
        let begun = Instant::now();
        let made = self
            .installation
            .create("/v1/computes", &format!(r#"{{"name":"{name}","size":"nano","image":"small"}}"#))?;
        let id = made["id"].as_str().context("no id")?.to_owned();
        let home = self.installation.folder().join("computes").join(&id);
        let up = until_up(&home.join("console.log"), begun).with_context(|| format!("{id} by the API"))?;
        if self.by_hand.is_none() {
            self.by_hand = Some(self.learn(&home)?);
        }
        self.delete(&id)?;
        Ok(up)
    }

    fn delete(&self, id: &str) -> Result<()> {
        let path = format!("/v1/computes/{id}");
        let request =
            format!("DELETE {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n", self.installation.key);
        let (status, body) = crate::load::ask(self.installation.address, request.as_bytes())?;
        ensure!(status == 200, "DELETE {path}: {status} {}", String::from_utf8_lossy(&body));
        let home = self.installation.folder().join("computes").join(id);
        wait_until(Duration::from_secs(GONE_MAX_S), || Ok((!home.exists()).then_some(()))).context("it does not go")
    }

    /// Keeps the files of a running machine, and its command line.
    fn learn(&self, home: &Path) -> Result<ByHand> {
        for name in FILES {
            let from = home.join(name);
            if from.exists() {
                std::fs::copy(from, self.folder.join(name))?;
            }
        }
        let told = output(Command::new("qemu-img").args(["info", "-U", "--output=json"]).arg(home.join("disk.qcow2")))?;
        let told: serde_json::Value = serde_json::from_str(&told)?;
        let disk_bytes = told["virtual-size"].as_u64().context("qemu-img tells no size")?;
        let words = machine_of(home)?;
        let mut words = words.into_iter();
        let program = words.next().context("an empty command line")?;
        Ok(ByHand { program, arguments: plain(words), disk_bytes })
    }

    /// Milliseconds from starting QEMU to the guest's first user process.
    pub fn hand(&mut self) -> Result<f64> {
        let by_hand = self.by_hand.as_ref().context("no machine to imitate")?;
        let disk = self.folder.join("disk.qcow2");
        let _ = std::fs::remove_file(&disk);
        let base = self.folder.join("base.qcow2");
        output(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
                .arg(&base)
                .arg(&disk)
                .arg(by_hand.disk_bytes.to_string()),
        )?;
        let console = self.folder.join("console.log");
        let port = free_port()?;
        let begun = Instant::now();
        let mut command = Command::new(&by_hand.program);
        let arguments = by_hand.arguments.iter().map(|word| word.replace("PORT", &port.to_string()));
        command.args(arguments).current_dir(&self.folder).stdout(File::create(&console)?).stderr(Stdio::inherit());
        let mut machine = Running::start(&mut command)?;
        let up = until_up(&console, begun);
        machine.check().context("QEMU by hand")?;
        machine.kill()?;
        up.context("QEMU by hand")
    }
}

/// Milliseconds since `begun` at which the line was there.
fn until_up(console: &Path, begun: Instant) -> Result<f64> {
    wait_until(Duration::from_secs(UP_MAX_S), || {
        let text = std::fs::read(console).unwrap_or_default();
        let is_up = text.windows(UP_LINE.len()).any(|part| part == UP_LINE);
        Ok(is_up.then(|| begun.elapsed().as_secs_f64() * 1e3))
    })
    .with_context(|| format!("the guest did not come up; see {}", console.display()))
}

/// The command line of the machine whose working directory is `home`.
fn machine_of(home: &Path) -> Result<Vec<String>> {
    let home = home.canonicalize()?;
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?.path();
        if std::fs::read_link(entry.join("cwd")).is_ok_and(|cwd| cwd == home) {
            let line = std::fs::read(entry.join("cmdline"))?;
            let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
            return Ok(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect());
        }
    }
    bail!("no process has the working directory {}", home.display())
}

/// The same command line for a machine that nobody talks to: it runs at once and writes its console to standard output.
fn plain(words: impl Iterator<Item = String>) -> Vec<String> {
    words
        .filter(|word| word != "-S")
        .map(|word| {
            if word.starts_with("socket,id=serial,") {
                "file,id=serial,path=/dev/stdout".to_owned()
            } else if word.starts_with("socket,id=") && word.contains("server=on") {
                let id = word.trim_start_matches("socket,id=").split(',').next().unwrap_or_default();
                format!("null,id={id}")
            } else if word.starts_with("stream,id=private") {
                "user,id=private,ipv6=off,restrict=on".to_owned()
            } else if word.starts_with("socket,id=outside") || word.starts_with("user,id=outside") {
                "user,id=outside,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:PORT-10.0.2.15:22".to_owned()
            } else {
                word
            }
        })
        .collect()
}

/// Lets the machine come to rest before the next measurement.
pub fn settle() {
    pause(Duration::from_millis(500));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_without_anybody_at_its_sockets() {
        let line = "-S -m 128M -chardev socket,id=control,fd=12,server=on,wait=off -mon chardev=control,mode=control \
            -chardev socket,id=serial,fd=13,server=on,wait=off -netdev user,id=outside,ipv6=off,restrict=on,hostfwd=x \
            -netdev stream,id=private,server=on,addr.type=fd,addr.str=9";
        assert_eq!(
            plain(line.split_whitespace().map(str::to_owned)).join(" "),
            "-m 128M -chardev null,id=control -mon chardev=control,mode=control -chardev file,id=serial,path=/dev/stdout \
             -netdev user,id=outside,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:PORT-10.0.2.15:22 \
             -netdev user,id=private,ipv6=off,restrict=on"
        );
    }
}
