//! Hostile bytes for paths, and the base URLs that they are under.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::path(data));
