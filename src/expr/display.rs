//! Expressions as text: canonical for fingerprints, with column names for people.
//!
//! Invariant: two expressions with the same text compute the same. Operations stand in parentheses, casts are
//! written out, literals show what kind they are.

use std::fmt::{self, Write};

use crate::types::{Timespan, Value};

use super::calendar;
use super::cast::hex;
use super::{Construct, Expr};

/// How a column is written.
type Naming<'a> = &'a dyn Fn(usize) -> String;

impl fmt::Display for Expr {
    /// The canonical text; a column is `#` and its position.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_expr(f, self, &|index| format!("#{index}"))
    }
}

impl Expr {
    /// The text for people: columns by the name `naming` gives.
    pub fn describe(&self, naming: &dyn Fn(usize) -> String) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write_expr(&mut text, self, naming);
        text
    }
}

fn write_expr(f: &mut dyn Write, expr: &Expr, naming: Naming<'_>) -> fmt::Result {
    match expr {
        Expr::Column(index) => f.write_str(&naming(*index)),
        Expr::Literal(value) => write_value(f, value),
        Expr::And(items) => write_joined(f, "(", items, " AND ", ")", naming),
        Expr::Or(items) => write_joined(f, "(", items, " OR ", ")", naming),
        Expr::Not(expr) => write_around(f, "(NOT ", expr, ")", naming),
        Expr::IsNull(expr) => write_around(f, "(", expr, " IS NULL)", naming),
        Expr::IsBool { expr, value } => write_around(
            f,
            "(",
            expr,
            if *value { " IS TRUE)" } else { " IS FALSE)" },
            naming,
        ),
        Expr::Compare { op, left, right } => write_infix(f, left, op.sign(), right, naming),
        Expr::Distinct { left, right } => write_infix(f, left, "IS DISTINCT FROM", right, naming),
        Expr::Arith {
            op, left, right, ..
        } => write_infix(f, left, op.sign(), right, naming),
        Expr::Between { expr, low, high } => {
            write_around(f, "(", expr, " BETWEEN ", naming)?;
            write_around(f, "", low, " AND ", naming)?;
            write_around(f, "", high, ")", naming)
        }
        Expr::In { expr, list } => {
            write_around(f, "(", expr, " IN ", naming)?;
            write_joined(f, "(", list, ", ", "))", naming)
        }
        Expr::Like { expr, pattern } => {
            write_around(f, "(", expr, " LIKE ", naming)?;
            let (text, escape) = pattern.source();
            write_quoted(f, text)?;
            if let Some(escape) = escape {
                f.write_str(" ESCAPE ")?;
                write_quoted(f, escape.encode_utf8(&mut [0; 4]))?;
            }
            f.write_char(')')
        }
        Expr::Negate { expr, .. } => write_around(f, "(-", expr, ")", naming),
        Expr::Case {
            branches,
            otherwise,
        } => {
            f.write_str("CASE")?;
            for (condition, result) in branches {
                write_around(f, " WHEN ", condition, " THEN ", naming)?;
                write_expr(f, result, naming)?;
            }
            write_around(f, " ELSE ", otherwise, " END", naming)
        }
        Expr::Coalesce(items) => write_joined(f, "COALESCE(", items, ", ", ")", naming),
        Expr::Cast { expr, to, try_, .. } => {
            write_around(
                f,
                if *try_ { "TRY_CAST(" } else { "CAST(" },
                expr,
                " AS ",
                naming,
            )?;
            write!(f, "{to})")
        }
        Expr::Field { expr, index, name } => {
            write_expr(f, expr, naming)?;
            write!(f, ".`{}`@{index}", name.replace('`', "``"))
        }
        Expr::Element { expr, index } => {
            write_around(f, "", expr, "[", naming)?;
            write_around(f, "", index, "]", naming)
        }
        Expr::Construct { kind, items } => match kind {
            Construct::Row => write_joined(f, "ROW(", items, ", ", ")", naming),
            Construct::Array => write_joined(f, "ARRAY[", items, ", ", "]", naming),
            Construct::Map => write_joined(f, "MAP[", items, ", ", "]", naming),
        },
        Expr::Call(call) => {
            f.write_str(call.function.name())?;
            write_joined(f, "(", &call.args, ", ", ")", naming)
        }
    }
}

fn write_around(
    f: &mut dyn Write,
    before: &str,
    expr: &Expr,
    after: &str,
    naming: Naming<'_>,
) -> fmt::Result {
    f.write_str(before)?;
    write_expr(f, expr, naming)?;
    f.write_str(after)
}

fn write_infix(
    f: &mut dyn Write,
    left: &Expr,
    sign: &str,
    right: &Expr,
    naming: Naming<'_>,
) -> fmt::Result {
    write_around(f, "(", left, " ", naming)?;
    f.write_str(sign)?;
    write_around(f, " ", right, ")", naming)
}

fn write_joined(
    f: &mut dyn Write,
    open: &str,
    items: &[Expr],
    between: &str,
    close: &str,
    naming: Naming<'_>,
) -> fmt::Result {
    f.write_str(open)?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(between)?;
        }
        write_expr(f, item, naming)?;
    }
    f.write_str(close)
}

fn write_value(f: &mut dyn Write, value: &Value) -> fmt::Result {
    match value {
        Value::Null => f.write_str("NULL"),
        Value::Bool(v) => f.write_str(if *v { "TRUE" } else { "FALSE" }),
        Value::Int(v) => write!(f, "{v}"),
        Value::Double(v) => write!(f, "{v:e}"),
        Value::Float(v) => write!(f, "FLOAT '{v:e}'"),
        Value::Decimal(v) if v.scale() == 0 => write!(f, "DECIMAL '{v}'"),
        Value::Decimal(v) => write!(f, "{v}"),
        Value::Str(v) => write_quoted(f, v),
        Value::Bytes(v) => write!(f, "x'{}'", hex(v)),
        Value::Date(v) => write!(f, "DATE '{}'", calendar::format_date(i64::from(*v))),
        Value::Time(v) => write!(f, "TIME '{}'", calendar::format_time(*v, 6)),
        Value::Timestamp(v) => write!(f, "TIMESTAMP '{}'", calendar::format_timestamp(*v, 6)),
        Value::Interval(v) => write!(f, "INTERVAL '{}'", Timespan::from_micros(*v)),
        Value::Months(v) => write!(f, "INTERVAL '{v}' MONTH"),
        Value::Array(items) => write_values(f, "ARRAY[", items.iter(), "]"),
        Value::Row(items) => write_values(f, "ROW(", items.iter(), ")"),
        Value::Map(entries) => {
            write_values(f, "MAP[", entries.iter().flat_map(|(k, v)| [k, v]), "]")
        }
    }
}

fn write_values<'a>(
    f: &mut dyn Write,
    open: &str,
    values: impl Iterator<Item = &'a Value>,
    close: &str,
) -> fmt::Result {
    f.write_str(open)?;
    for (i, value) in values.enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write_value(f, value)?;
    }
    f.write_str(close)
}

fn write_quoted(f: &mut dyn Write, text: &str) -> fmt::Result {
    write!(f, "'{}'", text.replace('\'', "''"))
}
