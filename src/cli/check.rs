//! `check` and `explain`: what the files say, without connecting to anything.

use std::path::Path;

use super::Failure;
use super::load::{self, load};
use crate::plan::explain as explain_plan;

/// Prints every error and warning; fails if there is an error.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let pipeline = load(path)?;
    load::print(&pipeline.warnings, "warning");
    let plan = &pipeline.plan;
    println!(
        "{}: ok: {} tables read, {} queries, {} connections",
        path.display(),
        plan.sources.len(),
        plan.sinks.len(),
        pipeline.config.connections.len()
    );
    Ok(())
}

/// Prints the plan as a tree.
pub(super) fn explain(path: &Path) -> Result<(), Failure> {
    let pipeline = load(path)?;
    print!("{}", explain_plan(&pipeline.plan));
    Ok(())
}
