//! Hostile bytes for what the image tool says of an image.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nephos_fuzz::image_info(data));
