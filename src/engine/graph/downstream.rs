//! A row on its way through the graph, and where an operator's rows go.

use super::{Exit, Graph};
use crate::ops::{Discard, Emit};
use crate::plan::NodeId;
use crate::types::{Lineage, Progress, Value};

/// A row on its way: handed on by reference, it costs the same however many nodes it passes.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Passing<'r> {
    pub(in crate::engine) row: &'r [Value],
    pub(in crate::engine) lineage: Lineage,
    /// The line of the row, and its watermark before the row.
    pub(in crate::engine) progress: Progress,
}

impl Passing<'_> {
    /// The same event as another row.
    #[inline]
    pub(super) const fn with<'r>(&self, row: &'r [Value]) -> Passing<'r> {
        Passing { row, ..*self }
    }
}

/// What follows a stateful operator.
pub(super) struct Downstream<'a> {
    pub(super) graph: &'a mut Graph,
    pub(super) at: usize,
    /// The line and the watermark of the rows.
    pub(super) progress: Progress,
    pub(super) exit: &'a mut dyn Exit,
}

impl Emit for Downstream<'_> {
    fn row(&mut self, row: &[Value], lineage: Lineage) {
        let passing = Passing {
            row,
            lineage,
            progress: self.progress,
        };
        self.graph.forward(self.at, &passing, self.exit);
    }

    fn discard(&mut self, discard: Discard) {
        self.exit.discard(NodeId(self.at), discard);
    }

    fn late(&mut self, row: &[Value], lineage: Lineage) {
        let passing = Passing {
            row,
            lineage,
            progress: self.progress,
        };
        for index in 0..self.graph.nodes[self.at].late.len() {
            let to = self.graph.nodes[self.at].late[index];
            self.graph.push(to, 0, &passing, self.exit);
        }
    }

    fn count(&mut self, what: &'static str) {
        self.exit.count(NodeId(self.at), what);
    }

    fn on(&mut self, at: Progress) {
        self.progress = Progress {
            watermark: self.graph.nodes[self.at].delayed(at.watermark),
            ..at
        };
    }
}
