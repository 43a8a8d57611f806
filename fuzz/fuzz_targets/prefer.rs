//! Hostile bytes for Prefer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::prefer(data));
