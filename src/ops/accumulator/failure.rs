//! Why an aggregate has no result, and what a person can do about it.
//!
//! Invariant: a failure stays until its window is over; merging with one fails too. What outgrew a bound is counted as
//! `aggregate_limit`, what has no value as `expression_error`, like any expression.

use super::super::Discard;
use super::{MAX_BYTES, MAX_VALUES, time_weighted};
use crate::plan::{Aggregate, AggregateFunction};

/// Why an aggregate has no result. The numbers are written into state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Overflow = 1,
    Squares = 2,
    Values = 3,
    Bytes = 4,
    Disorder = 5,
    Buckets = 6,
    Frequency = 7,
}

impl Failure {
    pub(super) const ALL: [Self; 7] = [
        Self::Overflow,
        Self::Squares,
        Self::Values,
        Self::Bytes,
        Self::Disorder,
        Self::Buckets,
        Self::Frequency,
    ];

    /// The discard that tells of it.
    pub(super) fn discard(self, aggregate: &Aggregate) -> Discard {
        let reason = match self {
            Self::Overflow | Self::Squares | Self::Frequency => "expression_error",
            Self::Values | Self::Bytes | Self::Disorder | Self::Buckets => "aggregate_limit",
        };
        let detail = self.message(aggregate);
        Discard { reason, detail }
    }

    fn message(self, aggregate: &Aggregate) -> String {
        let name = aggregate.function.name();
        match self {
            Self::Overflow => "the sum overflows; cast the argument to DOUBLE".to_owned(),
            Self::Squares => {
                format!("the squares that {name} sums overflow; cast the argument to DOUBLE")
            }
            Self::Values | Self::Bytes => {
                let distinct = if aggregate.distinct {
                    "(DISTINCT …)"
                } else {
                    ""
                };
                let most = if self == Self::Values {
                    format!("{MAX_VALUES} values")
                } else {
                    format!("{MAX_BYTES} bytes of values")
                };
                let instead = match aggregate.function {
                    AggregateFunction::Count => "count with APPROX_COUNT_DISTINCT",
                    AggregateFunction::Percentile => "use APPROX_PERCENTILE",
                    _ => "make the window shorter or group by more columns",
                };
                format!("{name}{distinct} keeps at most {most} of a group; {instead}")
            }
            Self::Disorder => format!(
                "{name} met a row that is older than the latest {} of its group; it needs its rows nearly in order",
                time_weighted::MAX_OPEN / 2
            ),
            Self::Buckets => format!(
                "the values of {name} span more than seventeen powers of ten; filter them, or use PERCENTILE"
            ),
            Self::Frequency => {
                format!("the frequency of {name} is below 0; filter such rows, or correct it")
            }
        }
    }
}

/// The result of a step; a failure stays.
pub(super) type Step = Result<(), Failure>;
