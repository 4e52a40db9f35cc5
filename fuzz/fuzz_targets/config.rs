//! Any text as `headwater.toml`: a configuration or errors with places, never a panic.
#![no_main]

use headwater::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(problems) = Config::parse("headwater.toml", text) {
        assert!(!problems.is_empty(), "an error without a message");
        for problem in problems {
            assert!(problem.place.line >= 1 && !problem.message.is_empty());
        }
    }
});
