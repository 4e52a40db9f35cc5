//! Typed predicates beyond comparison: DISTINCT, BETWEEN, IN, LIKE, SIMILAR TO, OVERLAPS.

use crate::types::{Type, Value};

use super::build::{comparable, comparable_all};
use super::{Arithmetic, Comparison, Expr, LikePattern, ResolveError, Typed, call};

impl Typed {
    /// `IS DISTINCT FROM`.
    pub fn distinct(left: Self, right: Self) -> Result<Self, ResolveError> {
        let (left, right) = comparable(left, right)?;
        let (left, right) = (Box::new(left.expr), Box::new(right.expr));
        Ok(Self::new(
            Expr::Distinct { left, right },
            Type::Boolean,
            false,
        ))
    }

    /// `BETWEEN`.
    pub fn between(self, low: Self, high: Self) -> Result<Self, ResolveError> {
        let nullable = self.nullable || low.nullable || high.nullable;
        let mut all = comparable_all(vec![self, low, high])?.into_iter();
        let mut next = || all.next().map(|t| Box::new(t.expr)).expect("three went in");
        let (expr, low, high) = (next(), next(), next());
        Ok(Self::new(
            Expr::Between { expr, low, high },
            Type::Boolean,
            nullable,
        ))
    }

    /// `IN (…)`.
    pub fn in_list(self, list: Vec<Self>) -> Result<Self, ResolveError> {
        let mut all = vec![self];
        all.extend(list);
        let nullable = all.iter().any(|t| t.nullable);
        let mut all = comparable_all(all)?.into_iter().map(|t| t.expr);
        let expr = Box::new(all.next().expect("the tested value went in first"));
        let list = all.collect();
        Ok(Self::new(Expr::In { expr, list }, Type::Boolean, nullable))
    }

    /// `LIKE`; a constant pattern is compiled now.
    pub fn like(self, pattern: Self, escape: Option<char>) -> Result<Self, ResolveError> {
        for side in [&self, &pattern] {
            if !matches!(side.ty, Type::String | Type::Null) {
                return Err(ResolveError::hinted(
                    format!("LIKE compares STRINGs, not {}", side.ty),
                    "convert with CAST(… AS STRING)",
                ));
            }
        }
        if let Expr::Literal(Value::Str(text)) = &pattern.expr {
            let pattern = LikePattern::new(text, escape)?;
            let expr = Box::new(self.expr);
            return Ok(Self::new(
                Expr::Like { expr, pattern },
                Type::Boolean,
                self.nullable,
            ));
        }
        let mut args = vec![self, pattern];
        args.extend(escape.map(|c| Self::string(c.encode_utf8(&mut [0; 4]))));
        call("$LIKE", args)
    }

    /// `BETWEEN SYMMETRIC`: the bounds in either order.
    pub fn between_symmetric(self, one: Self, other: Self) -> Result<Self, ResolveError> {
        let forth = self.clone().between(one.clone(), other.clone())?;
        let back = self.between(other, one)?;
        Self::any(vec![forth, back])
    }

    /// `SIMILAR TO`; a constant pattern is compiled now.
    pub fn similar(self, pattern: Self, escape: Option<char>) -> Result<Self, ResolveError> {
        let mut args = vec![self, pattern];
        args.extend(escape.map(|c| Self::string(c.encode_utf8(&mut [0; 4]))));
        call("$SIMILAR", args)
    }

    /// `(start, end) OVERLAPS (start, end)`, where an end may be an interval from its start. Periods that only touch
    /// overlap, as in Flink; an end before its start is exchanged with it.
    pub fn overlaps(one: (Self, Self), other: (Self, Self)) -> Result<Self, ResolveError> {
        let bounds = |(start, end): (Self, Self)| {
            let span = matches!(end.ty, Type::IntervalDayTime | Type::IntervalYearMonth);
            let end = if span {
                Self::arith(Arithmetic::Add, start.clone(), end)?
            } else {
                end
            };
            let (start, end) = comparable(start, end)?;
            let point =
                start.ty.is_timestamp() || matches!(start.ty, Type::Date | Type::Time { .. });
            if !point {
                return Err(ResolveError::hinted(
                    format!("OVERLAPS compares periods of time, not of {}", start.ty),
                    "write (start, end) OVERLAPS (start, end) with TIMESTAMP, DATE or TIME",
                ));
            }
            let first = call("LEAST", vec![start.clone(), end.clone()])?;
            Ok((first, call("GREATEST", vec![start, end])?))
        };
        let ((first_a, last_a), (first_b, last_b)) = (bounds(one)?, bounds(other)?);
        Self::all(vec![
            Self::compare(Comparison::GtEq, last_a, first_b)?,
            Self::compare(Comparison::GtEq, last_b, first_a)?,
        ])
    }
}
