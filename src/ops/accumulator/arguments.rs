//! The arguments of aggregates, computed from a row before any accumulator changes.
//!
//! Where all of them are columns there is nothing to compute, and they are taken from the row itself.

use super::Accumulator;
use crate::expr::{Context, EvalError, Expr};
use crate::plan::Aggregate;
use crate::types::Value;

/// The arguments of one row for a list of aggregates; kept between rows to save allocations.
#[derive(Debug)]
pub struct Arguments {
    /// Where the argument of each aggregate stands in a row, if it has one; if all are columns, at most one for each, and no
    /// aggregate has a FILTER.
    columns: Option<Box<[Option<usize>]>>,
    values: Vec<Value>,
    /// For each aggregate whether its FILTER lets the row through; only then are there values.
    wanted: Vec<bool>,
}

impl Arguments {
    /// Of these aggregates, none computed yet.
    pub fn new(aggregates: &[Aggregate]) -> Self {
        let column = |aggregate: &Aggregate| match (&aggregate.filter, &aggregate.arguments[..]) {
            (None, []) => Some(None),
            (None, [Expr::Column(at)]) => Some(Some(*at)),
            _ => None,
        };
        Self {
            columns: aggregates.iter().map(column).collect(),
            values: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// Computes them for a row. After an error nothing may be updated with them.
    pub fn evaluate(
        &mut self,
        aggregates: &[Aggregate],
        row: &[Value],
        context: &Context,
    ) -> Result<(), EvalError> {
        if self.columns.is_some() {
            return Ok(());
        }
        self.values.clear();
        self.wanted.clear();
        for aggregate in aggregates {
            let wanted = match &aggregate.filter {
                Some(filter) => filter.test(row, context)?,
                None => true,
            };
            self.wanted.push(wanted);
            if wanted {
                for argument in &aggregate.arguments {
                    self.values.push(argument.eval(row, context)?);
                }
            }
        }
        Ok(())
    }

    /// Updates the accumulators of the aggregates, which stand in their order, with `row`, for which these were computed.
    pub fn update(
        &self,
        aggregates: &[Aggregate],
        row: &[Value],
        accumulators: &mut [Accumulator],
        arrival: u32,
    ) {
        let aggregates = aggregates.iter().zip(accumulators);
        if let Some(columns) = &self.columns {
            for ((aggregate, accumulator), column) in aggregates.zip(columns) {
                let arguments = column.map_or(&[][..], |at| std::slice::from_ref(&row[at]));
                accumulator.update(aggregate, arguments, arrival);
            }
            return;
        }
        let mut rest = self.values.as_slice();
        for ((aggregate, accumulator), wanted) in aggregates.zip(&self.wanted) {
            if *wanted {
                let (arguments, others) = rest.split_at(aggregate.arguments.len());
                rest = others;
                accumulator.update(aggregate, arguments, arrival);
            }
        }
    }
}
