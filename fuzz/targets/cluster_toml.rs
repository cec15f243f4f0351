//! Runs [`drachma_fuzz::cluster_toml`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drachma_fuzz::cluster_toml(data));
