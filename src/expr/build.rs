//! Typed expressions while they are built: the rules of types, implicit casts and constants.
//!
//! Invariant: an [`Expr`] that comes out of here is well typed: operands of a comparison are of kinds that compare,
//! arithmetic knows the type of its result, a cast exists for what it converts.

use compact_str::CompactString;
use rust_decimal::Decimal;

use crate::types::{EventTime, Field, Type, Value};

use super::promote::{self, can_cast, common_type};
use super::{Arithmetic, Comparison, Construct, Context, Expr, ResolveError};

/// An expression and what is known of its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed {
    /// The expression.
    pub expr: Expr,
    /// The type of its value.
    pub ty: Type,
    /// Whether the value may be NULL.
    pub nullable: bool,
}

impl Typed {
    /// An expression of a type.
    pub const fn new(expr: Expr, ty: Type, nullable: bool) -> Self {
        Self { expr, ty, nullable }
    }

    /// A constant.
    pub fn literal(value: Value, ty: Type) -> Self {
        let nullable = value.is_null();
        Self::new(Expr::Literal(value), ty, nullable)
    }

    /// A STRING constant.
    pub fn string(text: &str) -> Self {
        Self::literal(Value::str(text), Type::String)
    }

    /// A number as SQL writes it: digits are INT or BIGINT, digits with a point DECIMAL, with an exponent DOUBLE.
    pub fn number(text: &str) -> Result<Self, ResolveError> {
        let fail = || ResolveError::new(format!("{text} is not a number that can be represented"));
        if text.contains(['e', 'E']) {
            let value: f64 = text.parse().map_err(|_| fail())?;
            return Ok(Self::literal(Value::Double(value), Type::Double));
        }
        if !text.contains('.')
            && let Ok(value) = text.parse::<i64>()
        {
            let ty = if i32::try_from(value).is_ok() {
                Type::Int
            } else {
                Type::BigInt
            };
            return Ok(Self::literal(Value::Int(value), ty));
        }
        let value = Decimal::from_str_exact(text).map_err(|_| fail())?;
        let scale = value.scale() as u8;
        let digits = value
            .mantissa()
            .unsigned_abs()
            .checked_ilog10()
            .map_or(1, |log| log as u8 + 1);
        let ty = Type::Decimal {
            precision: digits.max(scale.max(1)),
            scale,
        };
        Ok(Self::literal(Value::Decimal(value), ty))
    }

    /// Evaluates an expression without columns and clock, so that it costs nothing per row. What fails stays as it
    /// is and fails for each row that needs it.
    #[must_use]
    pub(super) fn folded(mut self) -> Self {
        let mut constant = true;
        self.expr
            .for_each_part(&mut |part| constant &= part.as_literal().is_some());
        if constant && !self.expr.reads_columns() && !self.expr.reads_clock() {
            let context = Context {
                now: EventTime::MIN,
            };
            if let Ok(value) = self.expr.eval(&[], &context) {
                self.nullable = value.is_null();
                self.expr = Expr::Literal(value);
            }
        }
        self
    }

    /// All of these.
    pub fn all(items: Vec<Self>) -> Result<Self, ResolveError> {
        Self::connect(items, "AND", |e| match e {
            Expr::And(items) => Ok(items.into_vec()),
            other => Err(other),
        })
        .map(|(items, nullable)| Self::new(Expr::And(items), Type::Boolean, nullable))
    }

    /// One of these.
    pub fn any(items: Vec<Self>) -> Result<Self, ResolveError> {
        Self::connect(items, "OR", |e| match e {
            Expr::Or(items) => Ok(items.into_vec()),
            other => Err(other),
        })
        .map(|(items, nullable)| Self::new(Expr::Or(items), Type::Boolean, nullable))
    }

    fn connect(
        items: Vec<Self>,
        sign: &str,
        flatten: impl Fn(Expr) -> Result<Vec<Expr>, Expr>,
    ) -> Result<(Box<[Expr]>, bool), ResolveError> {
        let mut flat = Vec::with_capacity(items.len());
        let mut nullable = false;
        for item in items {
            item.want_bool(sign)?;
            nullable |= item.nullable;
            match flatten(item.expr) {
                Ok(parts) => flat.extend(parts),
                Err(part) => flat.push(part),
            }
        }
        Ok((flat.into(), nullable))
    }

    /// Fails unless the value is a BOOLEAN.
    pub fn want_bool(&self, of: &str) -> Result<(), ResolveError> {
        if matches!(self.ty, Type::Boolean | Type::Null) {
            return Ok(());
        }
        Err(ResolveError::hinted(
            format!("{of} needs a BOOLEAN, not {}", self.ty),
            "compare the value with something, for instance x <> 0",
        ))
    }

    /// The opposite.
    pub fn negated(self) -> Result<Self, ResolveError> {
        self.want_bool("NOT")?;
        Ok(Self::new(
            Expr::Not(Box::new(self.expr)),
            Type::Boolean,
            self.nullable,
        ))
    }

    /// `IS NULL`.
    #[must_use]
    pub fn is_null(self) -> Self {
        Self::new(Expr::IsNull(Box::new(self.expr)), Type::Boolean, false)
    }

    /// `IS TRUE`, `IS FALSE`.
    pub fn is_bool(self, value: bool) -> Result<Self, ResolveError> {
        self.want_bool("IS TRUE and IS FALSE")?;
        let expr = Box::new(self.expr);
        Ok(Self::new(
            Expr::IsBool { expr, value },
            Type::Boolean,
            false,
        ))
    }

    /// A comparison.
    pub fn compare(op: Comparison, left: Self, right: Self) -> Result<Self, ResolveError> {
        let (left, right) = comparable(left, right)?;
        if !matches!(op, Comparison::Eq | Comparison::NotEq) && matches!(left.ty, Type::Map(..)) {
            return Err(ResolveError::new(
                "a MAP has no order: only = and <> compare it",
            ));
        }
        let nullable = left.nullable || right.nullable;
        let (left, right) = (Box::new(left.expr), Box::new(right.expr));
        Ok(Self::new(
            Expr::Compare { op, left, right },
            Type::Boolean,
            nullable,
        ))
    }

    /// Arithmetic.
    pub fn arith(op: Arithmetic, left: Self, right: Self) -> Result<Self, ResolveError> {
        let ty = promote::arithmetic_type(op, &left.ty, &right.ty)?;
        let nullable = left.nullable || right.nullable;
        let expr = Expr::Arith {
            op,
            ty: ty.clone(),
            left: Box::new(left.expr),
            right: Box::new(right.expr),
        };
        Ok(Self::new(expr, ty, nullable).folded())
    }

    /// Unary minus.
    pub fn minus(self) -> Result<Self, ResolveError> {
        if !(self.ty.is_numeric()
            || matches!(
                self.ty,
                Type::Null | Type::IntervalDayTime | Type::IntervalYearMonth
            ))
        {
            return Err(ResolveError::new(format!(
                "- is not defined for {}",
                self.ty
            )));
        }
        let expr = Expr::Negate {
            ty: self.ty.clone(),
            expr: Box::new(self.expr),
        };
        Ok(Self::new(expr, self.ty, self.nullable).folded())
    }

    /// `CASE`; without ELSE give a NULL.
    pub fn case(branches: Vec<(Self, Self)>, otherwise: Self) -> Result<Self, ResolveError> {
        let (conditions, mut results): (Vec<_>, Vec<_>) = branches.into_iter().unzip();
        results.push(otherwise);
        let nullable = results.iter().any(|t| t.nullable);
        let (mut results, ty) = unified(results, "the branches of CASE")?;
        let otherwise = Box::new(results.pop().expect("ELSE went in last").expr);
        let mut compiled = Vec::with_capacity(results.len());
        for (condition, result) in conditions.into_iter().zip(results) {
            condition.want_bool("WHEN")?;
            compiled.push((condition.expr, result.expr));
        }
        let branches = compiled.into();
        Ok(Self::new(
            Expr::Case {
                branches,
                otherwise,
            },
            ty,
            nullable,
        ))
    }

    /// The first that is not NULL.
    pub fn coalesce(items: Vec<Self>) -> Result<Self, ResolveError> {
        let nullable = items.iter().all(|t| t.nullable);
        let (items, ty) = unified(items, "the arguments of COALESCE")?;
        let items = items.into_iter().map(|t| t.expr).collect();
        Ok(Self::new(Expr::Coalesce(items), ty, nullable))
    }

    /// `CAST` and `TRY_CAST`.
    pub fn cast(self, to: &Type, try_: bool) -> Result<Self, ResolveError> {
        if let Err(hint) = can_cast(&self.ty, to) {
            return Err(ResolveError {
                message: format!("{} cannot be cast to {to}", self.ty),
                hint: hint.map(str::to_owned),
            });
        }
        if self.ty == *to {
            return Ok(self);
        }
        let nullable = self.nullable || try_;
        let expr = match self.expr {
            Expr::Literal(Value::Null) => Expr::Literal(Value::Null),
            expr => Expr::Cast {
                expr: Box::new(expr),
                from: self.ty,
                to: to.clone(),
                try_,
            },
        };
        Ok(Self::new(expr, to.clone(), nullable).folded())
    }

    /// The value as `to` where SQL converts without being asked: into a wider number, NULL into anything, a DATE
    /// into a TIMESTAMP, a constant string into a point in time.
    pub fn coerce(self, to: &Type) -> Result<Self, ResolveError> {
        if self.ty == *to {
            return Ok(self);
        }
        if common_type(&self.ty, to).as_ref() == Some(to) {
            return self.cast(to, false);
        }
        if self.is_time_text(to) {
            let text = self.expr.to_string();
            let cast = self.cast(to, false)?;
            return match cast.expr {
                Expr::Literal(_) => Ok(cast),
                _ => Err(ResolveError::new(format!(
                    "{text} is not a {to}: write 'YYYY-MM-DD hh:mm:ss'"
                ))),
            };
        }
        Err(ResolveError {
            message: format!("expected {to}, found {}", self.ty),
            hint: can_cast(&self.ty, to)
                .is_ok()
                .then(|| format!("convert it: CAST(… AS {to})")),
        })
    }

    fn is_time_text(&self, other: &Type) -> bool {
        matches!(self.expr, Expr::Literal(Value::Str(_)))
            && (other.is_timestamp() || matches!(other, Type::Date | Type::Time { .. }))
    }

    /// A field of a ROW by its name.
    pub fn field(self, name: &str) -> Result<Self, ResolveError> {
        let Type::Row(fields) = &self.ty else {
            return Err(ResolveError::new(format!(
                "{} has no fields, so no field {name}",
                self.ty
            )));
        };
        let found = fields.iter().position(|f| f.name == name).or_else(|| {
            fields
                .iter()
                .position(|f| f.name.eq_ignore_ascii_case(name))
        });
        let Some(index) = found else {
            let known: Vec<&str> = fields.iter().map(|f| f.name.as_str()).collect();
            return Err(ResolveError::hinted(
                format!("no field {name} in {}", self.ty),
                format!("its fields are {}", known.join(", ")),
            ));
        };
        let Field { name, ty } = fields[index].clone();
        let expr = Box::new(self.expr);
        Ok(Self::new(Expr::Field { expr, index, name }, ty, true))
    }

    /// An element of an ARRAY, the value of a MAP's key, or a field of a ROW by its position from 1.
    pub fn element(self, index: Self) -> Result<Self, ResolveError> {
        let (index, ty) = match &self.ty {
            Type::Array(item) if index.ty.is_integer() => (index, item.as_ref().clone()),
            Type::Array(_) => {
                return Err(ResolveError::new(format!(
                    "an ARRAY is indexed by an integer from 1, not by {}",
                    index.ty
                )));
            }
            Type::Map(key, value) => (index.coerce(key)?, value.as_ref().clone()),
            other => {
                return Err(ResolveError::new(format!(
                    "{other} cannot be indexed with []"
                )));
            }
        };
        let (expr, index) = (Box::new(self.expr), Box::new(index.expr));
        Ok(Self::new(Expr::Element { expr, index }, ty, true))
    }

    /// `ROW(…)` or `(…, …)`: the fields are named `EXPR$0`, `EXPR$1` and so on.
    pub fn row_of(items: Vec<Self>) -> Self {
        let name = |at: usize| compact_str::format_compact!("EXPR${at}");
        let named = items
            .into_iter()
            .enumerate()
            .map(|(at, item)| (name(at), item));
        Self::row(named.collect())
    }

    /// `ROW(…)` with these names.
    pub fn row(items: Vec<(CompactString, Self)>) -> Self {
        let fields: Vec<Field> = items
            .iter()
            .map(|(name, t)| Field {
                name: name.clone(),
                ty: t.ty.clone(),
            })
            .collect();
        let items = items.into_iter().map(|(_, t)| t.expr).collect();
        let expr = Expr::Construct {
            kind: Construct::Row,
            items,
        };
        Self::new(expr, Type::Row(fields.into()), false)
    }

    /// `ARRAY[…]`.
    pub fn array(items: Vec<Self>) -> Result<Self, ResolveError> {
        let (items, ty) = unified(items, "the elements of ARRAY")?;
        let items = items.into_iter().map(|t| t.expr).collect();
        let expr = Expr::Construct {
            kind: Construct::Array,
            items,
        };
        Ok(Self::new(expr, Type::Array(ty.into()), false))
    }

    /// `MAP[key, value, …]`.
    pub fn map(items: Vec<Self>) -> Result<Self, ResolveError> {
        if items.is_empty() || !items.len().is_multiple_of(2) {
            return Err(ResolveError::new("MAP[…] takes keys and values in turn"));
        }
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (i, item) in items.into_iter().enumerate() {
            if i % 2 == 0 {
                keys.push(item);
            } else {
                values.push(item);
            }
        }
        let (keys, key_type) = unified(keys, "the keys of MAP")?;
        let (values, value_type) = unified(values, "the values of MAP")?;
        let items = keys
            .into_iter()
            .zip(values)
            .flat_map(|(k, v)| [k.expr, v.expr])
            .collect();
        let expr = Expr::Construct {
            kind: Construct::Map,
            items,
        };
        Ok(Self::new(
            expr,
            Type::Map(key_type.into(), value_type.into()),
            false,
        ))
    }
}

/// Both sides in kinds that compare.
pub(super) fn comparable(left: Typed, right: Typed) -> Result<(Typed, Typed), ResolveError> {
    let mut both = comparable_all(vec![left, right])?;
    let right = both.pop().expect("two went in");
    let left = both.pop().expect("two went in");
    Ok((left, right))
}

pub(super) fn comparable_all(items: Vec<Typed>) -> Result<Vec<Typed>, ResolveError> {
    // Integers of all widths are one kind of value and need no cast to meet each other or a DECIMAL.
    let exact = |t: &Typed| t.ty.is_integer() || matches!(t.ty, Type::Decimal { .. } | Type::Null);
    if items.iter().all(exact) {
        return Ok(items);
    }
    let mut target: Option<Type> = None;
    for item in items
        .iter()
        .filter(|t| !matches!(t.expr, Expr::Literal(Value::Str(_))))
    {
        target = Some(match target {
            None => item.ty.clone(),
            Some(so_far) => {
                common_type(&so_far, &item.ty).ok_or_else(|| not_comparable(&so_far, &item.ty))?
            }
        });
    }
    let target = match target {
        None | Some(Type::Null) => Type::String,
        Some(target) => target,
    };
    items
        .into_iter()
        .map(|item| {
            let ty = item.ty.clone();
            item.coerce(&target).map_err(|e| {
                if e.hint.is_some() {
                    not_comparable(&target, &ty)
                } else {
                    e
                }
            })
        })
        .collect()
}

fn not_comparable(left: &Type, right: &Type) -> ResolveError {
    let number = |t: &Type| t.is_numeric();
    let text = |t: &Type| *t == Type::String;
    let hint = match (left, right) {
        (a, b) if (number(a) && text(b)) || (text(a) && number(b)) => {
            "convert the text: CAST(… AS DOUBLE), or TRY_CAST for NULL where it is no number"
        }
        (a, b) if (a.is_timestamp() && number(b)) || (number(a) && b.is_timestamp()) => {
            "make a timestamp of the number: TO_TIMESTAMP_LTZ(number, 3) for milliseconds"
        }
        _ => "convert one side with CAST",
    };
    ResolveError::hinted(format!("{left} and {right} cannot be compared"), hint)
}

/// All values in their common type.
pub(super) fn unified(items: Vec<Typed>, what: &str) -> Result<(Vec<Typed>, Type), ResolveError> {
    let mut target = Type::Null;
    for item in &items {
        target = common_type(&target, &item.ty).ok_or_else(|| {
            ResolveError::hinted(
                format!("{what} are of different types: {target} and {}", item.ty),
                format!("convert one with CAST, for instance CAST(… AS {target})"),
            )
        })?;
    }
    let items: Result<Vec<Typed>, ResolveError> =
        items.into_iter().map(|t| t.cast(&target, false)).collect();
    Ok((items?, target))
}
