//! Runs [`drachma_fuzz::message`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drachma_fuzz::message(data));
