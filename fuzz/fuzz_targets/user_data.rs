//! Hostile bytes for user data as a create takes it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::user_data(data));
