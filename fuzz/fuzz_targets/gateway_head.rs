#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    caracal_gateway::fuzz_head(data);
});
