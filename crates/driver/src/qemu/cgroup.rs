//! Limits on what a machine's process takes from the host, where there is a control group (version 2) to set them in.
//!
//! ```text
//! /sys/fs/cgroup/nephos-MARK/cmp_…   memory.max, pids.max; QEMU joins it before it runs
//! ```
//! Only for a root server on a host whose controllers can be handed down; elsewhere machines run without, and `doctor` says so.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nephos_model::id::ComputeId;

/// MiB that QEMU takes beside the guest's memory at most: translated code, buffers, its own text.
const OVERHEAD_MIB: u64 = 512;
/// Threads that QEMU takes beside the guest's processors at most: disk workers come and go.
const OVERHEAD_THREADS: u32 = 128;
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// The group above those of an installation's machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    parent: PathBuf,
}

impl Cgroups {
    /// Makes the group of an installation below the first hierarchy of `mounts` (in the form of `/proc/self/mounts`) that
    /// hands its controllers down; the error says why there is none.
    pub fn open(mounts: &str, mark: &str) -> Result<Self, String> {
        let mount = |line: &str| {
            let mut words = line.split(' ');
            let (_, path, kind) = (words.next(), words.next()?, words.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(path))
        };
        let root = mounts.lines().find_map(mount).ok_or("no control groups of version 2 are mounted")?;
        Self::below(&root, mark)
    }

    fn below(root: &Path, mark: &str) -> Result<Self, String> {
        let list = fs::read_to_string(root.join("cgroup.controllers")).map_err(|e| e.to_string())?;
        if let Some(missing) = CONTROLLERS.iter().find(|wanted| !list.split_whitespace().any(|has| has == **wanted)) {
            return Err(format!("{} has no controller for {missing}", root.display()));
        }
        let parent = root.join(format!("nephos-{mark}"));
        make(&parent).map_err(|e| format!("{} can't be made: {e}", parent.display()))?;
        for dir in [root, &parent] {
            let wish = CONTROLLERS.map(|name| format!("+{name}")).join(" ");
            write(&dir.join("cgroup.subtree_control"), &wish)
                .map_err(|e| format!("{} does not hand its controllers down: {e}", dir.display()))?;
        }
        Ok(Self { parent })
    }

    /// Makes a machine's group with its limits and opens its door: who writes `0` there is in.
    pub fn make(&self, id: ComputeId, memory_mib: u32, vcpus: u32) -> io::Result<File> {
        let path = self.path(id);
        make(&path)?;
        write(&path.join("memory.max"), &((u64::from(memory_mib) + OVERHEAD_MIB) << 20).to_string())?;
        write(&path.join("pids.max"), &(OVERHEAD_THREADS + vcpus).to_string())?;
        OpenOptions::new().write(true).open(path.join("cgroup.procs"))
    }

    /// Removes a machine's group; nothing there is success.
    pub fn remove(&self, id: ComputeId) -> io::Result<()> {
        match fs::remove_dir(self.path(id)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn path(&self, id: ComputeId) -> PathBuf {
        self.parent.join(id.to_string())
    }
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Writes a control file, which the kernel has made.
fn write(path: &Path, text: &str) -> io::Result<()> {
    io::Write::write_all(&mut OpenOptions::new().write(true).open(path)?, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "0badcafe";

    /// A directory with the files that a kernel would make.
    fn kernel(controllers: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join(format!("nephos-{MARK}"));
        let machine = group.join("cmp_01h2xcejqtf2nbrexx3vqjhp41");
        fs::create_dir_all(&machine).unwrap();
        fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
        for path in [dir.path().join("cgroup.subtree_control"), group.join("cgroup.subtree_control")] {
            fs::write(path, "").unwrap();
        }
        for name in ["memory.max", "pids.max", "cgroup.procs"] {
            fs::write(machine.join(name), "").unwrap();
        }
        let mounts = format!("proc /proc proc rw 0 0\nnone {} cgroup2 rw 0 0\n", dir.path().display());
        (dir, mounts)
    }

    #[test]
    fn limits_are_what_the_machine_is() {
        let (dir, mounts) = kernel("cpu memory pids\n");
        let cgroups = Cgroups::open(&mounts, MARK).unwrap();
        let id = "cmp_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap();
        cgroups.make(id, 128, 2).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(format!("nephos-{MARK}/{name}"))).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+memory +pids");
        assert_eq!(read(&format!("{id}/memory.max")), (640 << 20).to_string());
        assert_eq!(read(&format!("{id}/pids.max")), "130");
    }

    #[test]
    fn a_host_without_them_says_why() {
        let (_dir, mounts) = kernel("hugetlb\n");
        assert!(Cgroups::open(&mounts, MARK).unwrap_err().contains("no controller for memory"));
        assert!(Cgroups::open("proc /proc proc rw 0 0\n", MARK).unwrap_err().contains("version 2"));
    }
}
