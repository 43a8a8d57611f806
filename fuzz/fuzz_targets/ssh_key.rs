//! Hostile bytes for SSH public keys.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::ssh_key(data));
