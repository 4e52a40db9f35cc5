//! Types as Flink writes them: `DECIMAL(10, 2)`, `TIMESTAMP_LTZ(3)`, `ARRAY<ROW<a INT, b STRING>>`.

use sqlparser::tokenizer::Token;

use crate::plan::{Diagnostic, nearest};
use crate::types::{Field, Type};

use super::cursor::Cursor;

/// A type as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written {
    /// The type.
    pub(super) ty: Type,
    /// The length of a VARCHAR(n), CHAR(n), VARBINARY(n) or BINARY(n).
    pub(super) length: Option<u64>,
    /// Whether a shorter CHAR is padded.
    pub(super) padded: bool,
    /// False for NOT NULL.
    pub(super) nullable: bool,
}

const NAMES: [&str; 27] = [
    "BOOLEAN",
    "TINYINT",
    "SMALLINT",
    "INT",
    "INTEGER",
    "BIGINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "DEC",
    "NUMERIC",
    "STRING",
    "VARCHAR",
    "CHAR",
    "BYTES",
    "VARBINARY",
    "BINARY",
    "DATE",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "INTERVAL",
    "ARRAY",
    "MAP",
    "ROW",
    "MULTISET",
    "RAW",
];

/// Reads a type, with `NULL` or `NOT NULL` behind it.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Written, Diagnostic> {
    parse_nested(cursor, 0)
}

fn parse_nested(cursor: &mut Cursor<'_>, depth: usize) -> Result<Written, Diagnostic> {
    if depth > 16 {
        return Err(cursor.error(
            "the type is nested too deeply",
            "flatten it with 'fields.<column>.path'",
        ));
    }
    let start = cursor.clone();
    let name = cursor.name("a type")?;
    let mut length = None;
    let mut padded = false;
    let mut ty = match name.value.to_ascii_uppercase().as_str() {
        "BOOLEAN" | "BOOL" => Type::Boolean,
        "TINYINT" => Type::TinyInt,
        "SMALLINT" => Type::SmallInt,
        "INT" | "INTEGER" => Type::Int,
        "BIGINT" => Type::BigInt,
        "FLOAT" => Type::Float,
        "DOUBLE" => {
            cursor.take(&["PRECISION"]);
            Type::Double
        }
        "DECIMAL" | "DEC" | "NUMERIC" => decimal(cursor)?,
        "STRING" => Type::String,
        "VARCHAR" | "CHAR" | "CHARACTER" => {
            padded = !name.value.eq_ignore_ascii_case("VARCHAR") && !cursor.take(&["VARYING"]);
            length = in_parens(cursor, 1, u64::from(u32::MAX))?;
            Type::String
        }
        "BYTES" => Type::Bytes,
        "VARBINARY" | "BINARY" => {
            padded = name.value.eq_ignore_ascii_case("BINARY");
            length = in_parens(cursor, 1, u64::from(u32::MAX))?;
            Type::Bytes
        }
        "DATE" => Type::Date,
        "TIME" => {
            let precision = fraction_digits(cursor, 0)?;
            cursor.take(&["WITHOUT", "TIME", "ZONE"]);
            Type::Time { precision }
        }
        "TIMESTAMP" => timestamp(cursor)?,
        "TIMESTAMP_LTZ" => Type::TimestampLtz {
            precision: fraction_digits(cursor, 6)?,
        },
        "INTERVAL" => interval(cursor)?,
        "ARRAY" => {
            expect_open(cursor, "ARRAY<type>")?;
            let item = parse_nested(cursor, depth + 1)?;
            expect_close(cursor)?;
            Type::Array(item.ty.into())
        }
        "MAP" => {
            expect_open(cursor, "MAP<type, type>")?;
            let key = parse_nested(cursor, depth + 1)?;
            cursor.expect_sign(&Token::Comma)?;
            let value = parse_nested(cursor, depth + 1)?;
            expect_close(cursor)?;
            Type::Map(key.ty.into(), value.ty.into())
        }
        "ROW" => row(cursor, depth)?,
        "MULTISET" | "RAW" | "VARIANT" | "STRUCTURED" => {
            return Err(start.error(
                format!("the type {} is not supported", name.value),
                "use ROW, ARRAY or MAP",
            ));
        }
        _ => {
            return Err(Diagnostic {
                place: start.place(),
                message: format!("there is no type {}", name.value),
                hint: nearest(&name.value, NAMES).map(|near| format!("did you mean {near}?")),
            });
        }
    };
    while cursor.take(&["ARRAY"]) {
        ty = Type::Array(ty.into());
    }
    let nullable = !cursor.take(&["NOT", "NULL"]);
    if nullable {
        cursor.take(&["NULL"]);
    }
    Ok(Written {
        ty,
        length,
        padded,
        nullable,
    })
}

fn row(cursor: &mut Cursor<'_>, depth: usize) -> Result<Type, Diagnostic> {
    let round = cursor.take_sign(&Token::LParen);
    if !round {
        expect_open(cursor, "ROW<name type, …>")?;
    }
    let mut fields: Vec<Field> = Vec::new();
    loop {
        let at = cursor.clone();
        let name = cursor.name("a field's name")?;
        if fields.iter().any(|f| f.name == name.value) {
            return Err(at.error(
                format!("the ROW has two fields {}", name.value),
                "rename one",
            ));
        }
        let field = parse_nested(cursor, depth + 1)?;
        // A comment on a field.
        if matches!(
            cursor.peek().map(|t| &t.token),
            Some(Token::SingleQuotedString(_))
        ) {
            cursor.advance();
        }
        fields.push(Field {
            name: name.value.into(),
            ty: field.ty,
        });
        if !cursor.take_sign(&Token::Comma) {
            break;
        }
    }
    if round {
        cursor.expect_sign(&Token::RParen)?;
    } else {
        expect_close(cursor)?;
    }
    Ok(Type::Row(fields.into()))
}

fn expect_open(cursor: &mut Cursor<'_>, form: &str) -> Result<(), Diagnostic> {
    if cursor.take_sign(&Token::Lt) {
        return Ok(());
    }
    Err(cursor.expected(&format!("< as in {form}")))
}

/// Takes one `>`; the tokenizer makes one token of `>>`, of which the cursor then keeps the second half.
fn expect_close(cursor: &mut Cursor<'_>) -> Result<(), Diagnostic> {
    cursor
        .take_angle()
        .then_some(())
        .ok_or_else(|| cursor.expected(">"))
}

fn decimal(cursor: &mut Cursor<'_>) -> Result<Type, Diagnostic> {
    let (mut precision, mut scale) = (10, 0);
    let at = cursor.clone();
    if cursor.take_sign(&Token::LParen) {
        precision = cursor.number("the number of digits")?;
        if cursor.take_sign(&Token::Comma) {
            scale = cursor.number("the number of digits after the point")?;
        }
        cursor.expect_sign(&Token::RParen)?;
    }
    if !(1..=38).contains(&precision) || scale > precision || scale > 28 {
        return Err(at.error(
            format!("DECIMAL({precision}, {scale}) does not exist"),
            "DECIMAL(p, s) has 1 to 38 digits, at most 28 of them after the point",
        ));
    }
    Ok(Type::Decimal {
        precision: precision as u8,
        scale: scale as u8,
    })
}

fn timestamp(cursor: &mut Cursor<'_>) -> Result<Type, Diagnostic> {
    let precision = fraction_digits(cursor, 6)?;
    if cursor.take(&["WITH", "LOCAL", "TIME", "ZONE"]) {
        return Ok(Type::TimestampLtz { precision });
    }
    if cursor.looks_at(&["WITH", "TIME", "ZONE"]) {
        return Err(cursor.error(
            "TIMESTAMP WITH TIME ZONE is not supported",
            "use TIMESTAMP_LTZ(3)",
        ));
    }
    cursor.take(&["WITHOUT", "TIME", "ZONE"]);
    Ok(Type::Timestamp { precision })
}

fn interval(cursor: &mut Cursor<'_>) -> Result<Type, Diagnostic> {
    let unit = cursor.name("a unit, as in INTERVAL DAY TO SECOND")?;
    in_parens(cursor, 0, 9)?;
    if cursor.take(&["TO"]) {
        cursor.name("a unit")?;
        in_parens(cursor, 0, 9)?;
    }
    Ok(match unit.value.to_ascii_uppercase().as_str() {
        "YEAR" | "MONTH" => Type::IntervalYearMonth,
        _ => Type::IntervalDayTime,
    })
}

/// Fraction digits of a time. Values have microseconds; finer precisions are taken as that.
fn fraction_digits(cursor: &mut Cursor<'_>, default: u8) -> Result<u8, Diagnostic> {
    Ok(in_parens(cursor, 0, 9)?.map_or(default, |digits| digits.min(6) as u8))
}

fn in_parens(cursor: &mut Cursor<'_>, least: u64, most: u64) -> Result<Option<u64>, Diagnostic> {
    if !cursor.take_sign(&Token::LParen) {
        return Ok(None);
    }
    let at = cursor.clone();
    let number = cursor.number("a number")?;
    if !(least..=most).contains(&number) {
        return Err(at.error(
            format!("{number} is out of bounds"),
            format!("it can be {least} to {most}"),
        ));
    }
    cursor.expect_sign(&Token::RParen)?;
    Ok(Some(number))
}
