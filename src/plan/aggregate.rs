//! Aggregates as the plan has them: a function, its arguments, and what is said about them.
//!
//! Invariant: all that decides the value and the state of an aggregate is here, and its [`Aggregate::canonical`]
//! text covers it. How an aggregate is computed is the operators' business.

use std::fmt::Write as _;

use crate::expr::Expr;
use crate::types::{Type, Value};

/// One aggregate of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Which.
    pub function: AggregateFunction,
    /// What is aggregated, over the input; nothing for `COUNT(*)`.
    pub arguments: Vec<Expr>,
    /// The types of the arguments.
    pub argument_types: Vec<Type>,
    /// The constants among what the function was given: LISTAGG's separator, the fraction or fractions of PERCENTILE as
    /// a DOUBLE or an ARRAY of them, the rule of `TIME_WEIGHTED_AVG`.
    pub parameters: Vec<Value>,
    /// Whether equal arguments count once.
    pub distinct: bool,
    /// Whether rows with NULL arguments count too; otherwise they are left out.
    pub respects_nulls: bool,
    /// `FILTER (WHERE …)`, over the input.
    pub filter: Option<Expr>,
    /// The type of the result.
    pub ty: Type,
}

impl Aggregate {
    /// A function of typed arguments, without any clause.
    pub fn new(function: AggregateFunction, arguments: Vec<(Expr, Type)>, ty: Type) -> Self {
        let (arguments, argument_types) = arguments.into_iter().unzip();
        Self {
            function,
            arguments,
            argument_types,
            parameters: Vec::new(),
            distinct: false,
            respects_nulls: false,
            filter: None,
            ty,
        }
    }

    /// Whether the result can be NULL.
    pub fn nullable(&self) -> bool {
        use AggregateFunction as F;
        let counts = [F::Count, F::ApproxCountDistinct, F::RegrCount, F::Collect];
        !counts.contains(&self.function)
    }

    /// The text that decides what the aggregate is and how its state is to be read.
    pub fn canonical(&self) -> String {
        let arguments: Vec<String> = self.arguments.iter().map(ToString::to_string).collect();
        let types: Vec<String> = self
            .argument_types
            .iter()
            .map(ToString::to_string)
            .collect();
        let mut text = format!(
            "{:?}({}) {} {}",
            self.function,
            if arguments.is_empty() {
                "*".to_owned()
            } else {
                arguments.join(", ")
            },
            if types.is_empty() {
                Type::Null.to_string()
            } else {
                types.join(", ")
            },
            self.ty
        );
        for parameter in &self.parameters {
            // Writing to a string cannot fail.
            let _ = write!(text, " with {}", Expr::Literal(parameter.clone()));
        }
        if self.distinct {
            text.push_str(" distinct");
        }
        if self.respects_nulls {
            text.push_str(" with nulls");
        }
        if let Some(filter) = &self.filter {
            let _ = write!(text, " filter {filter}");
        }
        text
    }

    /// The call for people, with its columns named.
    pub fn describe(&self, naming: &dyn Fn(usize) -> String) -> String {
        let given = self
            .arguments
            .iter()
            .map(|argument| argument.describe(naming));
        let constants = self
            .parameters
            .iter()
            .cloned()
            .map(|p| Expr::Literal(p).to_string());
        let given: Vec<String> = given.chain(constants).collect();
        let mut text = format!(
            "{}({}{})",
            self.function.name(),
            if self.distinct { "DISTINCT " } else { "" },
            if given.is_empty() {
                "*".to_owned()
            } else {
                given.join(", ")
            }
        );
        if self.respects_nulls {
            text.push_str(" RESPECT NULLS");
        }
        if let Some(filter) = &self.filter {
            // Writing to a string cannot fail.
            let _ = write!(text, " FILTER (WHERE {})", filter.describe(naming));
        }
        text
    }
}

/// The aggregate functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateFunction {
    /// `COUNT(*)`, `COUNT(x)` and `COUNT(DISTINCT x, …)`.
    Count,
    /// SUM; NULL over no value.
    Sum,
    /// AVG; over integers an integer, as in Flink.
    Avg,
    /// MIN.
    Min,
    /// MAX.
    Max,
    /// `FIRST_VALUE`, in order of arrival.
    FirstValue,
    /// `LAST_VALUE`, in order of arrival.
    LastValue,
    /// `BIT_AND`.
    BitAnd,
    /// `BIT_OR`.
    BitOr,
    /// `BIT_XOR`.
    BitXor,
    /// `STDDEV_POP`.
    StddevPop,
    /// `STDDEV_SAMP` and STDDEV.
    StddevSamp,
    /// `VAR_POP`.
    VarPop,
    /// `VAR_SAMP` and VARIANCE.
    VarSamp,
    /// `COVAR_POP(y, x)`.
    CovarPop,
    /// `COVAR_SAMP(y, x)`.
    CovarSamp,
    /// `CORR(y, x)`.
    Corr,
    /// `REGR_COUNT(y, x)`.
    RegrCount,
    /// `REGR_SLOPE(y, x)`.
    RegrSlope,
    /// `REGR_INTERCEPT(y, x)`.
    RegrIntercept,
    /// `REGR_R2(y, x)`.
    RegrR2,
    /// `MAX_BY(x, y)`: the x of the greatest y.
    MaxBy,
    /// `MIN_BY(x, y)`: the x of the least y.
    MinBy,
    /// LISTAGG.
    ListAgg,
    /// `ARRAY_AGG`.
    ArrayAgg,
    /// COLLECT.
    Collect,
    /// PERCENTILE.
    Percentile,
    /// `APPROX_PERCENTILE`.
    ApproxPercentile,
    /// `APPROX_COUNT_DISTINCT`.
    ApproxCountDistinct,
    /// `TIME_WEIGHTED_AVG(x, ts)`.
    TimeWeightedAvg,
}

impl AggregateFunction {
    /// The name in SQL; of several names the one of the standard, or of Flink.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "COUNT",
            Self::Sum => "SUM",
            Self::Avg => "AVG",
            Self::Min => "MIN",
            Self::Max => "MAX",
            Self::FirstValue => "FIRST_VALUE",
            Self::LastValue => "LAST_VALUE",
            Self::BitAnd => "BIT_AND",
            Self::BitOr => "BIT_OR",
            Self::BitXor => "BIT_XOR",
            Self::StddevPop => "STDDEV_POP",
            Self::StddevSamp => "STDDEV_SAMP",
            Self::VarPop => "VAR_POP",
            Self::VarSamp => "VAR_SAMP",
            Self::CovarPop => "COVAR_POP",
            Self::CovarSamp => "COVAR_SAMP",
            Self::Corr => "CORR",
            Self::RegrCount => "REGR_COUNT",
            Self::RegrSlope => "REGR_SLOPE",
            Self::RegrIntercept => "REGR_INTERCEPT",
            Self::RegrR2 => "REGR_R2",
            Self::MaxBy => "MAX_BY",
            Self::MinBy => "MIN_BY",
            Self::ListAgg => "LISTAGG",
            Self::ArrayAgg => "ARRAY_AGG",
            Self::Collect => "COLLECT",
            Self::Percentile => "PERCENTILE",
            Self::ApproxPercentile => "APPROX_PERCENTILE",
            Self::ApproxCountDistinct => "APPROX_COUNT_DISTINCT",
            Self::TimeWeightedAvg => "TIME_WEIGHTED_AVG",
        }
    }
}
