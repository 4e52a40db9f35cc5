//! CREATE TABLE as it is written.

use sqlparser::ast::{Expr, Ident};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::plan::{Diagnostic, Place};

use super::cursor::Cursor;
use super::datatype::{self, Written};
use super::lex::is_word;
use super::splice::{self, Parsed};
use super::statement::{column_list, table_name};

/// CREATE TABLE.
#[derive(Debug)]
pub(super) struct TableDef {
    /// The file.
    pub(super) file: String,
    /// Its name.
    pub(super) name: Ident,
    /// Where the name stands.
    pub(super) place: Place,
    /// Its columns in order.
    pub(super) columns: Vec<ColumnDef>,
    /// WATERMARK FOR.
    pub(super) watermark: Option<WatermarkDef>,
    /// Where a PRIMARY KEY … NOT ENFORCED stands.
    pub(super) primary_key: Option<Place>,
    /// WITH (…).
    pub(super) options: Vec<OptionDef>,
}

/// A column.
#[derive(Debug)]
pub(super) struct ColumnDef {
    /// Its name.
    pub(super) name: Ident,
    /// Where the name stands.
    pub(super) place: Place,
    /// What it is.
    pub(super) kind: ColumnKind,
}

/// What a column is.
// A table has few columns: their size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum ColumnKind {
    /// In the payload.
    Physical(Written),
    /// What travels with a message.
    Metadata {
        /// Its type.
        ty: Written,
        /// The key, and where it stands.
        key: (String, Place),
        /// Whether it is only read.
        virtual_: bool,
    },
    /// `name AS expression`.
    Computed(Parsed<Expr>),
}

/// WATERMARK FOR.
#[derive(Debug)]
pub(super) struct WatermarkDef {
    /// The column.
    pub(super) column: Ident,
    /// Where its name stands.
    pub(super) place: Place,
    /// The expression.
    pub(super) expr: Parsed<Expr>,
}

/// `'key' = 'value'`.
#[derive(Clone, Debug)]
pub(super) struct OptionDef {
    /// The key.
    pub(super) key: String,
    /// Where the key stands.
    pub(super) key_place: Place,
    /// The value.
    pub(super) value: String,
    /// Where the value stands.
    pub(super) value_place: Place,
}

/// Parses what stands behind CREATE TABLE.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<TableDef, Diagnostic> {
    cursor.take(&["IF", "NOT", "EXISTS"]);
    let place = cursor.place();
    let name = table_name(cursor)?;
    if cursor.looks_at(&["AS"]) || cursor.looks_at(&["LIKE"]) {
        return Err(cursor.error(
            "CREATE TABLE … AS and LIKE are not supported",
            "declare the columns, and write INSERT INTO for the rows",
        ));
    }
    let mut def = TableDef {
        file: cursor.file().to_owned(),
        name,
        place,
        columns: Vec::new(),
        watermark: None,
        primary_key: None,
        options: Vec::new(),
    };
    cursor.expect_sign(&Token::LParen)?;
    loop {
        element(cursor, &mut def)?;
        if !cursor.take_sign(&Token::Comma) {
            break;
        }
    }
    cursor.expect_sign(&Token::RParen)?;
    if cursor.take(&["COMMENT"]) {
        cursor.string("a comment in quotes")?;
    }
    for clause in ["PARTITIONED", "DISTRIBUTED"] {
        if cursor.looks_at(&[clause]) {
            return Err(cursor.error(
                format!("{clause} BY is not supported"),
                "write the columns into the topic: 'topic' = 'alerts/{device}'",
            ));
        }
    }
    if cursor.is_at_end() {
        return Err(cursor.error(
            format!("the table {} has no connector", def.name.value),
            "add WITH ('connector' = 'mqtt', 'topic' = '…', 'format' = 'json')",
        ));
    }
    cursor.expect(&["WITH"])?;
    cursor.expect_sign(&Token::LParen)?;
    loop {
        let (key, key_place) = cursor.string("an option's name in single quotes")?;
        cursor.expect_sign(&Token::Eq)?;
        let (value, value_place) = cursor.string("an option's value in single quotes")?;
        def.options.push(OptionDef {
            key,
            key_place,
            value,
            value_place,
        });
        if !cursor.take_sign(&Token::Comma) {
            break;
        }
    }
    cursor.expect_sign(&Token::RParen)?;
    if cursor.looks_at(&["LIKE"]) {
        return Err(cursor.error(
            "LIKE is not supported",
            "declare all columns and options here",
        ));
    }
    if !cursor.is_at_end() {
        return Err(cursor.expected("the end of the statement"));
    }
    Ok(def)
}

fn element(cursor: &mut Cursor<'_>, def: &mut TableDef) -> Result<(), Diagnostic> {
    if cursor.looks_at(&["WATERMARK", "FOR"]) {
        let start = cursor.clone();
        cursor.take(&["WATERMARK", "FOR"]);
        if def.watermark.is_some() {
            return Err(start.error("a table has one watermark", "remove one"));
        }
        let place = cursor.place();
        let column = cursor.name("the column with the event time")?;
        if matches!(cursor.peek().map(|t| &t.token), Some(Token::Period)) {
            return Err(cursor.error(
                "a watermark is declared on a column, not on a field of one",
                "add a column: ts AS payload.ts, or set 'fields.ts.path' = 'payload.ts'",
            ));
        }
        cursor.expect(&["AS"])?;
        let expr = expression(cursor)?;
        def.watermark = Some(WatermarkDef {
            column,
            place,
            expr,
        });
        return Ok(());
    }
    if cursor.looks_at(&["CONSTRAINT"]) || cursor.looks_at(&["PRIMARY", "KEY"]) {
        let place = cursor.place();
        if cursor.take(&["CONSTRAINT"]) {
            cursor.name("the constraint's name")?;
        }
        cursor.expect(&["PRIMARY", "KEY"])?;
        cursor.expect_sign(&Token::LParen)?;
        column_list(cursor)?;
        return primary_key(cursor, def, place);
    }
    if cursor.looks_at(&["UNIQUE"]) {
        return Err(cursor.error(
            "UNIQUE is not supported",
            "a stream has no unique rows: remove it",
        ));
    }
    let place = cursor.place();
    let name = cursor.name("a column's name")?;
    if cursor.take(&["AS"]) {
        let expr = expression(cursor)?;
        def.columns.push(ColumnDef {
            name,
            place,
            kind: ColumnKind::Computed(expr),
        });
        return Ok(());
    }
    let ty = datatype::parse(cursor)?;
    let kind = if cursor.take(&["METADATA"]) {
        let key = if cursor.take(&["FROM"]) {
            cursor.string("the key of the metadata in single quotes")?
        } else {
            (name.value.clone(), place.clone())
        };
        let virtual_ = cursor.take(&["VIRTUAL"]);
        ColumnKind::Metadata { ty, key, virtual_ }
    } else {
        ColumnKind::Physical(ty)
    };
    let key_place = cursor.place();
    if cursor.take(&["PRIMARY", "KEY"]) {
        primary_key(cursor, def, key_place)?;
    }
    if cursor.looks_at(&["DEFAULT"]) {
        return Err(cursor.error(
            "DEFAULT is not supported",
            "write COALESCE(column, value) in the query",
        ));
    }
    if cursor.take(&["COMMENT"]) {
        cursor.string("a comment in quotes")?;
    }
    def.columns.push(ColumnDef { name, place, kind });
    if !matches!(
        cursor.peek().map(|t| &t.token),
        Some(Token::Comma | Token::RParen)
    ) {
        return Err(cursor.expected("a comma or )"));
    }
    Ok(())
}

fn primary_key(
    cursor: &mut Cursor<'_>,
    def: &mut TableDef,
    place: Place,
) -> Result<(), Diagnostic> {
    if !cursor.take(&["NOT", "ENFORCED"]) {
        return Err(Diagnostic {
            place,
            message: "a PRIMARY KEY of a stream cannot be enforced".to_owned(),
            hint: Some("write PRIMARY KEY (…) NOT ENFORCED, or remove it".to_owned()),
        });
    }
    def.primary_key = Some(place);
    Ok(())
}

/// An expression up to the next comma or closing parenthesis; a comment behind it is dropped.
fn expression(cursor: &mut Cursor<'_>) -> Result<Parsed<Expr>, Diagnostic> {
    let missing = cursor.clone();
    let tokens = without_comment(cursor.until_comma());
    if tokens.is_empty() {
        return Err(missing.expected("an expression"));
    }
    splice::expr(cursor.file(), tokens)
}

fn without_comment(tokens: &[TokenWithSpan]) -> &[TokenWithSpan] {
    match tokens {
        [rest @ .., word, text]
            if is_word(word, "COMMENT") && matches!(text.token, Token::SingleQuotedString(_)) =>
        {
            rest
        }
        _ => tokens,
    }
}
