//! A tiny writer of ISO 9660 images: a flat root directory with Rock Ridge names, which is what NoCloud readers mount.
//! Deliberately not here: subdirectories, Joliet, boot records, files over 4 GiB.

const SECTOR: usize = 2_048;
/// Descriptors start here; the sectors before are unused.
const SYSTEM_SECTORS: usize = 16;
/// Little-endian path table, big-endian path table, root directory.
const PATH_TABLE_SECTOR: usize = 18;
const ROOT_SECTOR: usize = 20;
const DATA_SECTOR: usize = 21;
/// Files at most, so that the root directory fits its sector.
const FILES_MAX: usize = 8;
/// Characters of a file's name at most.
const NAME_CHARS_MAX: usize = 64;
/// 2024-01-01T00:00:00Z as a directory record has it: an image must not depend on when it was made.
const RECORDED: [u8; 7] = [124, 1, 1, 0, 0, 0, 0];
const DIRECTORY: u8 = 2;

/// Writes an image with the volume id and files given. More or longer names than allowed are left out by a panic in
/// debug builds: they are constants of this crate.
pub fn image(volume_id: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    debug_assert!(files.len() <= FILES_MAX && files.iter().all(|(name, _)| name.len() <= NAME_CHARS_MAX));
    let mut files: Vec<_> = files.iter().take(FILES_MAX).collect();
    files.sort_by_key(|(name, _)| iso_name(name));
    let mut root = entry(&[0], ROOT_SECTOR, SECTOR, DIRECTORY, &root_extensions());
    root.extend(entry(&[1], ROOT_SECTOR, SECTOR, DIRECTORY, &posix_attributes(DIRECTORY)));
    let mut data = Vec::new();
    for (name, bytes) in files {
        let extensions = [posix_attributes(0), alternate_name(name)].concat();
        root.extend(entry(&iso_name(name), DATA_SECTOR + data.len() / SECTOR, bytes.len(), 0, &extensions));
        data.extend_from_slice(bytes);
        data.resize(data.len().next_multiple_of(SECTOR), 0);
    }
    root.resize(SECTOR, 0);

    let mut out = vec![0; SYSTEM_SECTORS * SECTOR];
    out.extend(descriptor(volume_id, DATA_SECTOR + data.len() / SECTOR));
    out.extend(sector(b"\xffCD001\x01"));
    out.extend(sector(&path_table(u32::to_le_bytes, u16::to_le_bytes)));
    out.extend(sector(&path_table(u32::to_be_bytes, u16::to_be_bytes)));
    out.extend(root);
    out.extend(data);
    // Readers look a little past the end of small volumes.
    out.resize(out.len().max(64 * SECTOR), 0);
    out
}

/// The name that readers without Rock Ridge see: `META_DAT.;1`, 8 characters and a version.
fn iso_name(name: &str) -> Vec<u8> {
    let base = name.bytes().take(8).map(|b| if b.is_ascii_alphanumeric() { b.to_ascii_uppercase() } else { b'_' });
    base.chain(*b".;1").collect()
}

fn entry(name: &[u8], first: usize, length: usize, flags: u8, extensions: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(both32(first));
    out.extend(both32(length));
    out.extend(RECORDED);
    out.extend([flags, 0, 0]);
    out.extend(both16(1));
    out.push(byte(name.len()));
    out.extend(name);
    if name.len().is_multiple_of(2) {
        out.push(0);
    }
    out.extend(extensions);
    if !out.len().is_multiple_of(2) {
        out.push(0);
    }
    out[0] = byte(out.len());
    out
}

/// What the first record of the root says: that System Use entries follow (`SP`), and that they are Rock Ridge (`ER`).
fn root_extensions() -> Vec<u8> {
    const RULES: &[u8; 10] = b"RRIP_1991A";
    let mut out = b"SP\x07\x01\xbe\xef\x00".to_vec();
    out.extend(posix_attributes(DIRECTORY));
    out.extend(b"ER");
    out.extend([byte(8 + RULES.len()), 1, byte(RULES.len()), 0, 0, 1]);
    out.extend(RULES);
    out
}

/// Owner root, readable by everybody inside the guest that may mount the volume.
fn posix_attributes(flags: u8) -> Vec<u8> {
    let (mode, links) = if flags & DIRECTORY == 0 { (0o100_444, 1) } else { (0o040_555, 2) };
    let mut out = b"PX\x24\x01".to_vec();
    for value in [mode, links, 0, 0] {
        out.extend(both32(value));
    }
    out
}

fn alternate_name(name: &str) -> Vec<u8> {
    let mut out = b"NM".to_vec();
    out.extend([byte(5 + name.len()), 1, 0]);
    out.extend(name.bytes());
    out
}

fn descriptor(volume_id: &str, sectors: usize) -> Vec<u8> {
    let mut out = b"\x01CD001\x01\x00".to_vec();
    out.extend(padded("", 32));
    out.extend(padded(volume_id, 32));
    out.extend([0; 8]);
    out.extend(both32(sectors));
    out.extend([0; 32]);
    out.extend(both16(1));
    out.extend(both16(1));
    out.extend(both16(SECTOR));
    out.extend(both32(path_table(u32::to_le_bytes, u16::to_le_bytes).len()));
    out.extend(word(PATH_TABLE_SECTOR).to_le_bytes());
    out.extend(0u32.to_le_bytes());
    out.extend(word(PATH_TABLE_SECTOR + 1).to_be_bytes());
    out.extend(0u32.to_be_bytes());
    out.extend(entry(&[0], ROOT_SECTOR, SECTOR, DIRECTORY, &[]));
    for width in [128, 128, 128, 128, 37, 37, 37] {
        out.extend(padded("", width));
    }
    for _ in 0..4 {
        // "Never": sixteen zeros and no offset from UTC.
        out.extend([b'0'; 16]);
        out.push(0);
    }
    out.push(1);
    sector(&out)
}

fn path_table(wide: fn(u32) -> [u8; 4], narrow: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mut out = vec![1, 0];
    out.extend(wide(word(ROOT_SECTOR)));
    out.extend(narrow(1));
    out.extend([0, 0]);
    out
}

fn sector(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(SECTOR, 0);
    out
}

fn padded(text: &str, width: usize) -> Vec<u8> {
    let mut out = text.as_bytes().to_vec();
    out.resize(width, b' ');
    out
}

fn both32(value: usize) -> [u8; 8] {
    let (mut out, value) = ([0; 8], word(value));
    out[..4].copy_from_slice(&value.to_le_bytes());
    out[4..].copy_from_slice(&value.to_be_bytes());
    out
}

fn both16(value: usize) -> [u8; 4] {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

fn word(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn byte(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Reads an image back by the standard's own offsets: volume id and files under their Rock Ridge names.
    pub fn read(image: &[u8]) -> (String, Vec<(String, Vec<u8>)>) {
        let at = |o: usize| u32::from_le_bytes(image[o..o + 4].try_into().unwrap()) as usize;
        let primary = SYSTEM_SECTORS * SECTOR;
        assert_eq!(&image[primary..primary + 7], b"\x01CD001\x01");
        assert_eq!(at(primary + 80) * SECTOR, at(primary + 80) * usize::from(image[primary + 129]) * 256);
        let label = String::from_utf8(image[primary + 40..primary + 72].to_vec()).unwrap().trim_end().to_owned();
        let root = at(primary + 156 + 2) * SECTOR;
        let (mut files, mut cursor) = (Vec::new(), root);
        while image[cursor] != 0 {
            let record = &image[cursor..cursor + usize::from(image[cursor])];
            cursor += record.len();
            let name_length = usize::from(record[32]);
            let mut extensions = &record[33 + name_length + (1 - name_length % 2)..];
            let mut name = None;
            while extensions.len() > 4 {
                let (this, rest) = extensions.split_at(usize::from(extensions[2]));
                if &this[..2] == b"NM" {
                    name = Some(String::from_utf8(this[5..].to_vec()).unwrap());
                }
                extensions = rest;
            }
            let (first, length) = (
                u32::from_le_bytes(record[2..6].try_into().unwrap()) as usize * SECTOR,
                u32::from_le_bytes(record[10..14].try_into().unwrap()) as usize,
            );
            if let Some(name) = name {
                files.push((name, image[first..first + length].to_vec()));
            }
        }
        (label, files)
    }

    #[test]
    fn files_come_back_under_their_names() {
        let long = vec![b'x'; 3 * SECTOR + 1];
        let image = image("cidata", &[("user-data", &long), ("meta-data", b"a: b\n"), ("empty", b"")]);
        let (label, files) = read(&image);
        assert_eq!(label, "cidata");
        assert_eq!(
            files,
            [
                ("empty".to_owned(), vec![]),
                ("meta-data".to_owned(), b"a: b\n".to_vec()),
                ("user-data".to_owned(), long)
            ]
        );
        assert_eq!(image.len() % SECTOR, 0);
    }
}
