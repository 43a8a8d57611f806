//! Hostile bytes for JSON bodies, their canonical form and fields.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::json(data));
