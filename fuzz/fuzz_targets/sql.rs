//! Any text as a pipeline: a plan that explains itself, or errors with places, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let files = [("fuzz.sql".to_owned(), text.to_owned())];
    match headwater::sql::compile(&files, &["plant", "upstream"]) {
        Ok(compiled) => drop(compiled.plan.explain()),
        Err(problems) => assert!(!problems.is_empty(), "an error without a message"),
    }
});
