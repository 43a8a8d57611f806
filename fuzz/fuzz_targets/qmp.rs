//! Hostile bytes for answers of a monitor.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::qmp(data));
