//! Runs [`drachma_fuzz::participant`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drachma_fuzz::participant(data));
