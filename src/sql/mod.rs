//! stub
use crate::plan::{Diagnostic, Plan};
/// x
pub struct Compiled {
    /// x
    pub plan: Plan,
    /// x
    pub warnings: Vec<Diagnostic>,
}
/// x
pub fn compile(_f: &[(String, String)], _c: &[&str]) -> Result<Compiled, Vec<Diagnostic>> {
    Err(vec![])
}
impl Plan {
    /// x
    pub fn explain(&self) -> String {
        String::new()
    }
}
