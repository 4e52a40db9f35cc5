//! Any text as a pipeline: a plan that explains itself, or errors with places, never a panic.
#![no_main]

use headwater::plan::explain;
use headwater::sql::{Catalog, compile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let files = [("fuzz.sql".to_owned(), text.to_owned())];
    let catalog = Catalog { connections: vec!["plant".to_owned(), "upstream".to_owned()] };
    match compile(&files, &catalog) {
        Ok((plan, _)) => drop(explain(&plan)),
        Err(problems) => assert!(!problems.is_empty(), "an error without a message"),
    }
});
