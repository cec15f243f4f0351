//! Runs [`drachma_fuzz::coordinator`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drachma_fuzz::coordinator(data));
