//! The header of a qcow2 file, read by ourselves before any tool sees the file: what must be refused is refused here.

use std::io::{self, Read};

/// Bytes of the header that are looked at: the fixed part of version 3.
const HEADER_BYTES: u64 = 104;
const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Incompatible features: 0 dirty, 1 corrupt, 2 external data file, 3 compression type, 4 extended L2 entries.
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const KNOWN: u64 = 0b1_1111;
/// Cluster sizes that QEMU takes: 512 bytes to 2 MiB.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;

/// What a header says that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the disk that the guest sees.
    pub virtual_bytes: u64,
}

/// Why a file is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not qcow2.
    #[error("it is not a qcow2 file: convert it with `qemu-img convert -O qcow2 FILE NEW.qcow2`")]
    NotQcow2,
    /// The header is cut off or makes no sense.
    #[error("its qcow2 header is damaged: make the file again, or fetch it again")]
    Damaged,
    /// A version or feature that is not known.
    #[error(
        "it uses qcow2 features that are not known here: convert it with `qemu-img convert -O qcow2 FILE NEW.qcow2`"
    )]
    Unknown,
    /// It needs another file.
    #[error(
        "it has a backing file, which could be any file of the host: flatten it with `qemu-img convert -O qcow2 FILE NEW.qcow2`"
    )]
    Backing,
    /// Its data are in another file.
    #[error(
        "its data are in an external file, which could be any file of the host: flatten it with `qemu-img convert -O qcow2 FILE NEW.qcow2`"
    )]
    DataFile,
    /// It is encrypted.
    #[error("it is encrypted: decrypt it first with `qemu-img convert`")]
    Encrypted,
}

/// Whether the first bytes are those of a qcow2 file.
pub fn is_qcow2(start: &[u8]) -> bool {
    start.starts_with(&MAGIC)
}

/// Reads and judges a header.
pub fn read(file: impl Read) -> io::Result<Result<Header, HeaderError>> {
    let mut bytes = Vec::new();
    file.take(HEADER_BYTES).read_to_end(&mut bytes)?;
    Ok(judge(&bytes))
}

/// Bytes of the disk that a guest sees, of a file that may have a backing file; `None` when it is not qcow2.
pub fn virtual_bytes(file: impl Read) -> io::Result<Option<u64>> {
    let mut bytes = Vec::new();
    file.take(HEADER_BYTES).read_to_end(&mut bytes)?;
    let length = bytes.get(24..32).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
    Ok(length.filter(|_| is_qcow2(&bytes)))
}

fn judge(bytes: &[u8]) -> Result<Header, HeaderError> {
    if !is_qcow2(bytes) {
        return Err(HeaderError::NotQcow2);
    }
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
    let long = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
    let (version, backing, cluster_bits, virtual_bytes, encryption) = (word(4), long(8), word(20), long(24), word(32));
    let (Some(version), Some(backing), Some(cluster_bits), Some(virtual_bytes), Some(encryption)) =
        (version, backing, cluster_bits, virtual_bytes, encryption)
    else {
        return Err(HeaderError::Damaged);
    };
    let features = match version {
        2 => 0,
        3 => long(72).ok_or(HeaderError::Damaged)?,
        _ => return Err(HeaderError::Unknown),
    };
    if backing != 0 {
        return Err(HeaderError::Backing);
    }
    if features & DATA_FILE != 0 {
        return Err(HeaderError::DataFile);
    }
    if encryption != 0 {
        return Err(HeaderError::Encrypted);
    }
    if features & !KNOWN != 0 {
        return Err(HeaderError::Unknown);
    }
    if features & CORRUPT != 0 || !CLUSTER_BITS.contains(&cluster_bits) || virtual_bytes == 0 {
        return Err(HeaderError::Damaged);
    }
    Ok(Header { virtual_bytes })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header by hand: version 3, 64 KiB clusters.
    pub fn header(virtual_bytes: u64) -> Vec<u8> {
        let mut bytes = vec![0; 104];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[7] = 3;
        bytes[23] = 16;
        bytes[24..32].copy_from_slice(&virtual_bytes.to_be_bytes());
        bytes
    }

    fn with(at: usize, value: u8) -> Vec<u8> {
        let mut bytes = header(1 << 30);
        bytes[at] = value;
        bytes
    }

    #[test]
    fn headers_by_hand() {
        assert_eq!(judge(&header(1 << 30)), Ok(Header { virtual_bytes: 1 << 30 }));
        assert_eq!(virtual_bytes(&*with(15, 112)).unwrap(), Some(1 << 30), "a backing file does not matter here");
        assert_eq!(virtual_bytes(&b"\x7fELF"[..]).unwrap(), None);
        assert_eq!(judge(b"\x7fELF"), Err(HeaderError::NotQcow2));
        assert_eq!(judge(&header(1)[..60]), Err(HeaderError::Damaged));
        assert_eq!(judge(&header(0)), Err(HeaderError::Damaged));
        assert_eq!(judge(&with(7, 4)), Err(HeaderError::Unknown));
        assert_eq!(judge(&with(15, 112)), Err(HeaderError::Backing));
        assert_eq!(judge(&with(23, 40)), Err(HeaderError::Damaged));
        assert_eq!(judge(&with(35, 2)), Err(HeaderError::Encrypted));
        assert_eq!(judge(&with(79, 2)), Err(HeaderError::Damaged));
        assert_eq!(judge(&with(79, 4)), Err(HeaderError::DataFile));
        assert_eq!(judge(&with(79, 32)), Err(HeaderError::Unknown));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(tail in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = judge(&[&MAGIC[..], &tail].concat());
        }
    }
}
