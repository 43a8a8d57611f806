//! Hostile bytes for the configuration file.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::config(data));
