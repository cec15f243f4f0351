//! Runs [`drachma_fuzz::frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drachma_fuzz::frame(data));
