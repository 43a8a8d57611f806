//! What an image is made from, and the manifest that `scripts/image` writes: which files belong together, and how they boot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// Bytes of a manifest at most.
const BYTES_MAX: u64 = 256 * 1024;
/// The version of the form that is understood.
const FORMAT: i64 = 1;

/// A file that becomes an image. Paths are absolute: the server's own folder is another one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewImage {
    /// The disk, a qcow2 file.
    pub file: PathBuf,
    /// The name by which it is asked for.
    pub name: String,
    /// A sentence for people.
    pub description: String,
    /// SHA-256 that the disk must have.
    pub checksum: Option<String>,
    /// Least memory in MiB.
    pub min_memory_mib: u32,
    /// Least root disk in GiB; the disk's own size when not given.
    pub min_disk_gib: Option<u32>,
    /// The user to log in as.
    pub login_user: String,
    /// What the hypervisor loads, when the disk has no boot loader.
    pub kernel: Option<Kernel>,
}

/// A kernel that the hypervisor loads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kernel {
    /// Its file.
    pub file: PathBuf,
    /// SHA-256 that it must have.
    pub checksum: Option<String>,
    /// The initial RAM disk's file.
    pub initrd: PathBuf,
    /// SHA-256 that it must have.
    pub initrd_checksum: Option<String>,
    /// Its command line.
    pub command_line: String,
}

/// What is read of it; it says more, for others.
#[derive(Deserialize)]
struct Manifest {
    format: i64,
    name: String,
    #[serde(default)]
    description: String,
    architecture: String,
    #[serde(default)]
    command_line: String,
    memory_min_mib: u32,
    disk_min_gib: u32,
    #[serde(default = "root")]
    login_user: String,
    files: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    path: PathBuf,
    sha256: String,
    #[serde(default)]
    format: Option<String>,
}

fn root() -> String {
    "root".to_owned()
}

/// Reads a manifest; the files it names lie beside it.
pub fn read(path: &Path) -> Result<NewImage> {
    let shown = path.display();
    let length = std::fs::metadata(path).with_context(|| format!("{shown} can't be read"))?.len();
    if length > BYTES_MAX {
        bail!("{shown} has {length} bytes; a manifest has at most {BYTES_MAX}");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{shown} can't be read"))?;
    let manifest: Manifest = toml::from_str(&text).with_context(|| format!("{shown} is no manifest of an image"))?;
    if manifest.format != FORMAT {
        bail!(
            "{shown} has the form {}; this program reads {FORMAT}: make the image anew with its scripts/image",
            manifest.format
        );
    }
    if manifest.architecture != std::env::consts::ARCH {
        bail!("{shown} is for {}; this machine is {}", manifest.architecture, std::env::consts::ARCH);
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let entry = |name: &str| manifest.files.get(name);
    let disk = entry("disk").with_context(|| format!("{shown} names no disk"))?;
    if disk.format.as_deref().is_some_and(|format| format != "qcow2") {
        bail!("{shown}: the disk must be qcow2");
    }
    let kernel = match (entry("kernel"), entry("initrd")) {
        (Some(kernel), Some(initrd)) => Some(Kernel {
            file: folder.join(&kernel.path),
            checksum: Some(kernel.sha256.clone()),
            initrd: folder.join(&initrd.path),
            initrd_checksum: Some(initrd.sha256.clone()),
            command_line: manifest.command_line,
        }),
        (None, None) => None,
        _ => bail!("{shown} must name both kernel and initrd, or neither"),
    };
    Ok(NewImage {
        file: folder.join(&disk.path),
        name: manifest.name,
        description: manifest.description,
        checksum: Some(disk.sha256.clone()),
        min_memory_mib: manifest.memory_min_mib,
        min_disk_gib: Some(manifest.disk_min_gib),
        login_user: manifest.login_user,
        kernel,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "format = 1\nname = 'small'\narchitecture = 'x86_64'\ncommand_line = 'quiet'\n\
        memory_min_mib = 96\ndisk_min_gib = 1\n[guest]\nconsole = 'ttyS0'\n\
        [files.kernel]\npath = 'vmlinux'\nsha256 = 'aa'\n[files.initrd]\npath = 'initrd'\nsha256 = 'bb'\n\
        [files.disk]\npath = 'small.qcow2'\nsha256 = 'cc'\nformat = 'qcow2'\n";

    fn read_text(text: &str) -> Result<NewImage> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("small.toml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn files_lie_beside_the_manifest() {
        let image = read_text(TEXT).unwrap();
        assert_eq!((image.name.as_str(), image.login_user.as_str()), ("small", "root"));
        assert!(image.file.ends_with("small.qcow2") && image.file.is_absolute());
        assert_eq!(image.kernel.unwrap().command_line, "quiet");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (from, to, says) in [
            ("format = 1\n", "format = 2\n", "the form 2"),
            ("x86_64", "z80", "z80"),
            ("[files.initrd]\npath = 'initrd'\nsha256 = 'bb'\n", "", "both kernel and initrd"),
            ("qcow2'\n", "raw'\n", "must be qcow2"),
            ("memory_min_mib = 96\n", "", "no manifest"),
        ] {
            let error = read_text(&TEXT.replacen(from, to, 2)).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{error:#}");
        }
    }
}
