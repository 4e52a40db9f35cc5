//! PRINTF: text by a format, as Java's `Formatter` of the locale US makes it.
//!
//! Conversions: `%s %S %d %x %X %o %f %e %E %g %b %c %n %%`, flags `- 0 + , ( #` and space, a width, a precision and
//! an index `1$`. A format that is none, or does not fit its values, gives NULL, as in Flink.

use compact_str::CompactString;
use rust_decimal::{Decimal, RoundingStrategy};

use crate::expr::cast::to_text;
use crate::types::{Type, Value};

use super::Kind::{Any, Text};
use super::Output::Is;
use super::string::{MAX_BYTES, too_long};
use super::{Args, EvalError, Function, function};

/// The greatest width and precision: a format must not exhaust the memory of a gateway.
const MAX_WIDTH: usize = 4_096;

pub(super) const FUNCTIONS: &[Function] =
    &[function("PRINTF", &[Text, Any], Is(Type::String), printf)
        .optional(1)
        .repeated()
        .sees_null()
        .may_be_null()];

fn printf(args: &Args<'_>) -> Result<Value, EvalError> {
    if args.value(0).is_null() {
        return Ok(Value::Null);
    }
    let format = args.text(0)?;
    let mut out = String::with_capacity(format.len() + 16);
    let mut rest = format;
    let mut next = 1;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let Some((spec, after)) = Spec::parse(&rest[at + 1..]) else {
            return Ok(Value::Null);
        };
        rest = after;
        let piece = match spec.conversion {
            '%' => Some("%".to_owned()),
            'n' => Some("\n".to_owned()),
            _ => {
                let position = spec.index.unwrap_or_else(|| {
                    next += 1;
                    next - 1
                });
                if position >= args.len() {
                    return Ok(Value::Null);
                }
                spec.piece(args.value(position), args.arg_type(position))?
            }
        };
        match piece {
            Some(piece) => spec.pad(&piece, &mut out),
            None => return Ok(Value::Null),
        }
        if out.len() > MAX_BYTES {
            return Err(too_long());
        }
    }
    out.push_str(rest);
    Ok(Value::str(out))
}

/// What stands behind a `%`.
#[derive(Default)]
// Flags are independent of each other.
#[allow(clippy::struct_excessive_bools)]
struct Spec {
    index: Option<usize>,
    left: bool,
    zeros: bool,
    plus: bool,
    space: bool,
    groups: bool,
    parens: bool,
    alternate: bool,
    width: usize,
    precision: Option<usize>,
    conversion: char,
}

impl Spec {
    /// The specification and the text behind it.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let mut spec = Self::default();
        let mut rest = text;
        if let Some((digits, after)) = rest.split_once('$')
            && let Ok(index) = digits.parse::<usize>()
            && index > 0
        {
            spec.index = Some(index);
            rest = after;
        }
        while let Some(c) = rest.chars().next() {
            match c {
                '-' => spec.left = true,
                '0' => spec.zeros = true,
                '+' => spec.plus = true,
                ' ' => spec.space = true,
                ',' => spec.groups = true,
                '(' => spec.parens = true,
                '#' => spec.alternate = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        spec.width = take_number(&mut rest)?.unwrap_or(0);
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            spec.precision = Some(take_number(&mut rest)??);
        }
        spec.conversion = rest.chars().next()?;
        rest = &rest[spec.conversion.len_utf8()..];
        // Java refuses these.
        if (spec.left && spec.zeros) || ((spec.left || spec.zeros) && spec.width == 0) {
            return None;
        }
        Some((spec, rest))
    }

    /// The value by this conversion; `None` if it does not fit.
    fn piece(&self, value: &Value, ty: &Type) -> Result<Option<String>, EvalError> {
        if value.is_null() {
            return Ok(Some(match self.conversion {
                'b' => "false".to_owned(),
                'S' => "NULL".to_owned(),
                _ => "null".to_owned(),
            }));
        }
        Ok(match (self.conversion, value) {
            ('s' | 'S', value) => {
                let text = match value {
                    Value::Bool(v) => CompactString::from(if *v { "true" } else { "false" }),
                    value => to_text(value, ty)?,
                };
                let cut: String = text
                    .chars()
                    .take(self.precision.unwrap_or(usize::MAX))
                    .collect();
                Some(if self.conversion == 'S' {
                    cut.to_uppercase()
                } else {
                    cut
                })
            }
            ('b', Value::Bool(v)) => Some(v.to_string()),
            ('b', _) => Some("true".to_owned()),
            ('c', Value::Int(v)) => u32::try_from(*v)
                .ok()
                .and_then(char::from_u32)
                .map(String::from),
            ('d', Value::Int(v)) if self.precision.is_none() => {
                Some(self.signed(*v < 0, &v.unsigned_abs().to_string()))
            }
            ('x' | 'X' | 'o', Value::Int(v)) if self.precision.is_none() => {
                Some(self.radix(*v, ty))
            }
            ('f' | 'e' | 'E' | 'g', Value::Double(v)) => Some(self.real(*v)),
            ('f' | 'e' | 'E' | 'g', Value::Float(v)) => {
                Some(self.real(v.to_string().parse().unwrap_or(f64::from(*v))))
            }
            ('f', Value::Decimal(v)) => {
                let places = self.precision.unwrap_or(6);
                let digits = fixed(v.abs(), places);
                Some(self.signed(v.is_sign_negative(), &digits))
            }
            _ => None,
        })
    }

    /// Digits with their sign, grouping and leading zeros.
    fn signed(&self, negative: bool, digits: &str) -> String {
        let mut body = if self.groups {
            grouped(digits)
        } else {
            digits.to_owned()
        };
        let (before, after) = match (negative, self.parens) {
            (true, true) => ("(", ")"),
            (true, false) => ("-", ""),
            (false, _) if self.plus => ("+", ""),
            (false, _) if self.space => (" ", ""),
            (false, _) => ("", ""),
        };
        if self.zeros {
            let missing = self
                .width
                .saturating_sub(before.len() + body.len() + after.len());
            body.insert_str(0, &"0".repeat(missing));
        }
        format!("{before}{body}{after}")
    }

    /// Negative numbers are two's complement of the width of their type.
    fn radix(&self, value: i64, ty: &Type) -> String {
        let bits = match ty {
            Type::TinyInt => u64::from(value as u8),
            Type::SmallInt => u64::from(value as u16),
            Type::Int => u64::from(value as u32),
            _ => value as u64,
        };
        let (digits, mark) = match self.conversion {
            'x' => (format!("{bits:x}"), "0x"),
            'X' => (format!("{bits:X}"), "0X"),
            _ => (format!("{bits:o}"), "0"),
        };
        let mark = if self.alternate { mark } else { "" };
        let missing = if self.zeros {
            self.width.saturating_sub(mark.len() + digits.len())
        } else {
            0
        };
        format!("{mark}{}{digits}", "0".repeat(missing))
    }

    fn real(&self, value: f64) -> String {
        if !value.is_finite() {
            let name = if value.is_nan() { "NaN" } else { "Infinity" };
            return self.without_zeros().signed(value < 0.0, name);
        }
        let places = self.precision.unwrap_or(6);
        let magnitude = value.abs();
        let digits = match self.conversion {
            'f' => fixed_double(magnitude, places),
            'g' => {
                let significant = places.max(1);
                if magnitude == 0.0 || (1e-4..10_f64.powi(significant as i32)).contains(&magnitude)
                {
                    let whole = if magnitude == 0.0 {
                        0
                    } else {
                        magnitude.log10().floor() as i32
                    };
                    fixed_double(magnitude, (significant as i32 - 1 - whole).max(0) as usize)
                } else {
                    scientific(magnitude, significant - 1)
                }
            }
            _ => scientific(magnitude, places),
        };
        let digits = if self.conversion == 'E' {
            digits.to_uppercase()
        } else {
            digits
        };
        self.signed(value.is_sign_negative(), &digits)
    }

    fn without_zeros(&self) -> Self {
        Self {
            plus: self.plus,
            space: self.space,
            parens: self.parens,
            ..Self::default()
        }
    }

    fn pad(&self, piece: &str, out: &mut String) {
        let missing = self.width.saturating_sub(piece.chars().count());
        let spaces = " ".repeat(missing);
        if self.left {
            out.push_str(piece);
            out.push_str(&spaces);
        } else {
            out.push_str(&spaces);
            out.push_str(piece);
        }
    }
}

/// A number if there is one; `None` if it is too large.
// The outer option is the failure, the inner one the absence.
#[allow(clippy::option_option)]
fn take_number(rest: &mut &str) -> Option<Option<usize>> {
    let count = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at(count);
    *rest = after;
    if digits.is_empty() {
        return Some(None);
    }
    digits.parse().ok().filter(|n| *n <= MAX_WIDTH).map(Some)
}

/// Commas between thousands of the whole part.
fn grouped(digits: &str) -> String {
    let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, c) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out + fraction
}

/// Halves round up, as Java does it with the shortest decimal text of the number.
fn fixed_double(value: f64, places: usize) -> String {
    match value.to_string().parse::<Decimal>() {
        Ok(exact) => fixed(exact, places),
        Err(_) => format!("{value:.places$}"),
    }
}

fn fixed(value: Decimal, places: usize) -> String {
    let kept = u32::try_from(places).unwrap_or(28).min(28);
    let rounded = value.round_dp_with_strategy(kept, RoundingStrategy::MidpointAwayFromZero);
    format!("{rounded:.places$}")
}

/// `1.234560e+05`.
fn scientific(value: f64, places: usize) -> String {
    let text = format!("{value:.places$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}
