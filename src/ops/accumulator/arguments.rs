//! The arguments of aggregates, computed from a row before any accumulator changes.

use super::Accumulator;
use crate::expr::{Context, EvalError};
use crate::plan::Aggregate;
use crate::types::Value;

/// The arguments of one row for a list of aggregates; kept between rows to save allocations.
#[derive(Debug, Default)]
pub struct Arguments {
    values: Vec<Value>,
    /// For each aggregate whether its FILTER lets the row through; only then are there values.
    wanted: Vec<bool>,
}

impl Arguments {
    /// Computes them. After an error nothing may be updated with them.
    pub fn evaluate(
        &mut self,
        aggregates: &[Aggregate],
        row: &[Value],
        context: &Context,
    ) -> Result<(), EvalError> {
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

    /// The aggregates that take the row, each by its position and with its arguments.
    pub fn taken<'a>(
        &'a self,
        aggregates: &'a [Aggregate],
    ) -> impl Iterator<Item = (usize, &'a Aggregate, &'a [Value])> {
        let mut rest = self.values.as_slice();
        let listed = aggregates.iter().zip(&self.wanted).enumerate();
        listed.filter_map(move |(i, (aggregate, wanted))| {
            if !*wanted {
                return None;
            }
            let (mine, others) = rest.split_at(aggregate.arguments.len());
            rest = others;
            Some((i, aggregate, mine))
        })
    }

    /// Updates the accumulators of the aggregates, which stand in their order.
    pub fn update(&self, aggregates: &[Aggregate], accumulators: &mut [Accumulator], arrival: u32) {
        for (i, aggregate, arguments) in self.taken(aggregates) {
            accumulators[i].update(aggregate, arguments, arrival);
        }
    }
}
