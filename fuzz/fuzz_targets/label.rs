//! Hostile bytes for labels, names and scopes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::label(data));
