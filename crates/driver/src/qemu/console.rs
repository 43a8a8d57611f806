//! The serial console's log: two files of half the bound each, the older thrown away when the newer is full. What is in
//! them was written by the guest and is hostile until escaped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::home::{Home, read_tail};

/// The log of one compute, open for appending.
#[derive(Debug)]
pub struct Console {
    newer: PathBuf,
    older: PathBuf,
    file: File,
    length: u64,
    half: u64,
}

impl Console {
    /// Opens it, and keeps it to `bytes_max` bytes from now on.
    pub fn open(home: &Home, bytes_max: u64) -> io::Result<Self> {
        let (newer, older) = (home.file("console.log"), home.file("console.old"));
        let file = append(&newer)?;
        let length = file.metadata()?.len();
        Ok(Self { newer, older, file, length, half: bytes_max / 2 })
    }

    /// Appends what the guest wrote.
    pub fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.length >= self.half {
                fs::rename(&self.newer, &self.older)?;
                self.file = append(&self.newer)?;
                self.length = 0;
            }
            let room = usize::try_from(self.half - self.length).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.file.write_all(now)?;
            self.length += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }
}

/// The last `bytes_max` bytes of a compute's log.
pub fn tail(home: &Home, bytes_max: usize) -> io::Result<Vec<u8>> {
    let newer = read_tail(&home.file("console.log"), bytes_max as u64)?;
    let mut bytes = read_tail(&home.file("console.old"), (bytes_max - newer.len()) as u64)?;
    bytes.extend(newer);
    Ok(bytes)
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded_and_outlives_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path(), "cmp_01h2xcejqtf2nbrexx3vqjhp41".parse().unwrap());
        home.make(None).unwrap();
        assert_eq!(tail(&home, 10).unwrap(), b"");
        let mut written = Vec::new();
        for round in 0..50u8 {
            let mut console = Console::open(&home, 1_000).unwrap();
            let bytes: Vec<u8> = (0..37).map(|i| round.wrapping_mul(37).wrapping_add(i)).collect();
            console.append(&bytes).unwrap();
            written.extend(bytes);
        }
        Console::open(&home, 1_000).unwrap().append(&[b'x'; 3_000]).unwrap();
        written.extend([b'x'; 3_000]);
        let size = |name| fs::metadata(home.file(name)).unwrap().len();
        assert!(size("console.log") + size("console.old") <= 1_000);
        for want in [0, 1, 499, 501] {
            assert_eq!(tail(&home, want).unwrap(), written[written.len() - want..]);
        }
    }
}
