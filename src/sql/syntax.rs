//! Expressions that sqlparser cannot read, read for it: the clauses of the JSON functions, BETWEEN SYMMETRIC.
//!
//! | written | becomes |
//! |---|---|
//! | `JSON_VALUE(doc, path RETURNING INT NULL ON EMPTY DEFAULT 0 ON ERROR)` | `JSON_VALUE(doc, path, returning => …, on_empty => 'NULL', on_error => 'DEFAULT', default_on_error => 0)` |
//! | `JSON_QUERY(doc, path WITH CONDITIONAL WRAPPER)` | `JSON_QUERY(doc, path, wrapper => 'CONDITIONAL')` |
//! | `JSON_OBJECT(KEY 'k' VALUE v ABSENT ON NULL)` | `JSON_OBJECT('k', v, on_null => 'ABSENT')` |
//! | `x BETWEEN SYMMETRIC a AND b` | `$between_symmetric(x, a, b)` |
//!
//! Invariant: a clause that a function does not have, or has twice, is an error here; what the clauses mean is decided
//! in `json`.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName, UnaryOperator, Value,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use super::lex::is_word;

/// The function that stands for BETWEEN SYMMETRIC.
pub(super) const BETWEEN_SYMMETRIC: &str = "$between_symmetric";

/// The JSON functions with clauses.
pub(super) const JSON_FUNCTIONS: [&str; 5] = [
    "JSON_VALUE",
    "JSON_QUERY",
    "JSON_EXISTS",
    "JSON_OBJECT",
    "JSON_ARRAY",
];

type Parsed<T> = Result<T, ParserError>;

/// What begins with the next token, if that is for this room.
pub(super) fn parse_prefix(parser: &mut Parser<'_>) -> Option<Parsed<Expr>> {
    if parser.peek_nth_token_ref(1).token != Token::LParen {
        return None;
    }
    let name = parser.peek_token_ref();
    let known = JSON_FUNCTIONS.iter().any(|known| is_word(name, known));
    known.then(|| json_function(parser))
}

/// `left BETWEEN …`, if it says SYMMETRIC or ASYMMETRIC; `between` is how tightly BETWEEN binds.
pub(super) fn parse_infix(
    parser: &mut Parser<'_>,
    left: &Expr,
    between: u8,
) -> Option<Parsed<Expr>> {
    let negated = usize::from(is_word(parser.peek_token_ref(), "NOT"));
    if !is_word(parser.peek_nth_token_ref(negated), "BETWEEN") {
        return None;
    }
    let said = parser.peek_nth_token_ref(negated + 1);
    let symmetric = is_word(said, "SYMMETRIC");
    if !symmetric && !is_word(said, "ASYMMETRIC") {
        return None;
    }
    for _ in 0..negated + 2 {
        parser.next_token();
    }
    Some(range(
        parser,
        left.clone(),
        negated == 1,
        symmetric,
        between,
    ))
}

fn range(
    parser: &mut Parser<'_>,
    left: Expr,
    negated: bool,
    symmetric: bool,
    between: u8,
) -> Parsed<Expr> {
    let low = parser.parse_subexpr(between)?;
    parser.expect_keyword_is(Keyword::AND)?;
    let high = parser.parse_subexpr(between)?;
    if !symmetric {
        return Ok(Expr::Between {
            expr: Box::new(left),
            negated,
            low: Box::new(low),
            high: Box::new(high),
        });
    }
    let args = [left, low, high].into_iter().map(unnamed).collect();
    let call = function(Ident::new(BETWEEN_SYMMETRIC), args);
    Ok(if negated {
        Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(call),
        }
    } else {
        call
    })
}

fn json_function(parser: &mut Parser<'_>) -> Parsed<Expr> {
    let token = parser.next_token();
    let Token::Word(word) = &token.token else {
        return parser.expected("a JSON function", token);
    };
    let upper = word.value.to_ascii_uppercase();
    let name = Ident::with_span(token.span, upper.clone());
    parser.expect_token(&Token::LParen)?;
    let mut args = Vec::new();
    match upper.as_str() {
        "JSON_OBJECT" | "JSON_ARRAY" => constructor(parser, upper == "JSON_OBJECT", &mut args)?,
        _ => {
            args.push(unnamed(parser.parse_expr()?));
            parser.expect_token(&Token::Comma)?;
            args.push(unnamed(parser.parse_expr()?));
            while parser.peek_token_ref().token != Token::RParen {
                clause(parser, &upper, &mut args)?;
            }
        }
    }
    parser.expect_token(&Token::RParen)?;
    Ok(function(name, args))
}

/// Keys and values, or values, and what is done with NULL.
fn constructor(parser: &mut Parser<'_>, keyed: bool, args: &mut Vec<FunctionArg>) -> Parsed<()> {
    loop {
        if parser.peek_token_ref().token == Token::RParen {
            return Ok(());
        }
        for action in ["NULL", "ABSENT"] {
            let written = take(parser, &[action, "ON", "NULL"]);
            if written {
                args.push(named("on_null", text(action)));
                return Ok(());
            }
        }
        if keyed {
            if !matches!(
                parser.peek_nth_token_ref(1).token,
                Token::LParen | Token::Period
            ) {
                take(parser, &["KEY"]);
            }
            args.push(unnamed(parser.parse_expr()?));
            if !take(parser, &["VALUE"]) {
                return wanted(parser, "VALUE between key and value");
            }
        }
        args.push(unnamed(parser.parse_expr()?));
        let next = &parser.peek_token_ref().token;
        if *next == Token::Comma {
            parser.next_token();
        } else if !matches!(next, Token::RParen | Token::Word(_)) {
            return wanted(parser, ", or )");
        }
    }
}

/// One clause behind the path.
fn clause(parser: &mut Parser<'_>, of: &str, args: &mut Vec<FunctionArg>) -> Parsed<()> {
    let returns = of != "JSON_EXISTS";
    if returns && take(parser, &["RETURNING"]) {
        let ty = Expr::Identifier(parser.parse_identifier()?);
        return add(parser, args, "returning", ty);
    }
    if of == "JSON_QUERY" {
        for (words, wrapper) in [
            (&["WITHOUT"][..], "NONE"),
            (&["WITH", "CONDITIONAL"], "CONDITIONAL"),
            (&["WITH", "UNCONDITIONAL"], "UNCONDITIONAL"),
            (&["WITH"], "UNCONDITIONAL"),
        ] {
            if take(parser, words) {
                take(parser, &["ARRAY"]);
                if !take(parser, &["WRAPPER"]) {
                    return wanted(parser, "WRAPPER");
                }
                return add(parser, args, "wrapper", text(wrapper));
            }
        }
    }
    let actions: &[&[&str]] = match of {
        "JSON_VALUE" => &[&["NULL"], &["ERROR"]],
        "JSON_QUERY" => &[
            &["NULL"],
            &["ERROR"],
            &["EMPTY", "ARRAY"],
            &["EMPTY", "OBJECT"],
        ],
        _ => &[&["TRUE"], &["FALSE"], &["UNKNOWN"], &["ERROR"]],
    };
    for words in actions {
        if take(parser, words) {
            let (when, _) = occasion(parser, of)?;
            return add(parser, args, when, text(&words.join(" ")));
        }
    }
    if of == "JSON_VALUE" && take(parser, &["DEFAULT"]) {
        let default = parser.parse_expr()?;
        let (when, default_name) = occasion(parser, of)?;
        add(parser, args, when, text("DEFAULT"))?;
        return add(parser, args, default_name, default);
    }
    let clauses = match of {
        "JSON_VALUE" => {
            "RETURNING type, or NULL, ERROR or DEFAULT value, then ON EMPTY or ON ERROR"
        }
        "JSON_QUERY" => {
            "RETURNING type, WITH or WITHOUT WRAPPER, or NULL, EMPTY ARRAY, EMPTY OBJECT or ERROR, then ON EMPTY or ON ERROR"
        }
        _ => "TRUE, FALSE, UNKNOWN or ERROR, then ON ERROR",
    };
    wanted(parser, clauses)
}

/// `ON EMPTY` or `ON ERROR`: the names of its argument and of that of its default.
fn occasion(parser: &mut Parser<'_>, of: &str) -> Parsed<(&'static str, &'static str)> {
    if take(parser, &["ON", "ERROR"]) {
        Ok(("on_error", "default_on_error"))
    } else if of != "JSON_EXISTS" && take(parser, &["ON", "EMPTY"]) {
        Ok(("on_empty", "default_on_empty"))
    } else if of == "JSON_EXISTS" {
        wanted(parser, "ON ERROR")
    } else {
        wanted(parser, "ON EMPTY or ON ERROR")
    }
}

/// Takes the next words if they are these, in any case.
fn take(parser: &mut Parser<'_>, words: &[&str]) -> bool {
    let are = words
        .iter()
        .enumerate()
        .all(|(at, word)| is_word(parser.peek_nth_token_ref(at), word));
    if are {
        for _ in words {
            parser.next_token();
        }
    }
    are
}

fn add(
    parser: &mut Parser<'_>,
    args: &mut Vec<FunctionArg>,
    name: &str,
    value: Expr,
) -> Parsed<()> {
    let twice = args
        .iter()
        .any(|arg| matches!(arg, FunctionArg::Named { name: given, .. } if given.value == name));
    if twice {
        return wanted(parser, "each clause once");
    }
    args.push(named(name, value));
    Ok(())
}

fn wanted<T>(parser: &Parser<'_>, what: &str) -> Parsed<T> {
    parser.expected_ref(what, parser.peek_token_ref())
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).into())
}

fn unnamed(value: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(value))
}

fn named(name: &str, value: Expr) -> FunctionArg {
    FunctionArg::Named {
        name: Ident::new(name),
        arg: FunctionArgExpr::Expr(value),
        operator: FunctionArgOperator::RightArrow,
    }
}

fn function(name: Ident, args: Vec<FunctionArg>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
