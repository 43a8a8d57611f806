//! Hostile bytes for headers of images.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::qcow2(data));
