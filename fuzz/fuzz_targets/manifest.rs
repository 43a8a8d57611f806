//! Hostile bytes for the manifest of an image.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::manifest(data));
