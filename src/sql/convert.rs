//! Expressions of the syntax tree into typed expressions over a scope.
//!
//! Invariant: a form that is not listed here is refused by name; nothing is ignored.

use sqlparser::ast::{
    AccessExpr, BinaryOperator, DataType, Expr as Ast, Ident, JsonPredicateType, ObjectName,
    ObjectNamePart, Spanned, Subscript, TrimWhereField, UnaryOperator, Value as AstValue,
};

use crate::expr::{Arithmetic, Comparison, ResolveError, Typed, call};
use crate::plan::{Diagnostic, Place};
use crate::types::{Type, Value};

use super::aggregate::Grouping;
use super::call::refusal;
use super::interval;
use super::lex::place;
use super::over;
use super::pattern;
use super::scope::Scope;
use super::splice::Types;

/// Turns syntax into typed expressions.
pub(super) struct Converter<'a> {
    /// The file, for places.
    pub(super) file: &'a str,
    /// What is blamed where the syntax tree has no place.
    pub(super) fallback: Place,
    /// The types of casts.
    pub(super) types: &'a Types,
    /// The columns that can be named.
    pub(super) scope: &'a Scope,
    /// Inside of a query with GROUP BY: its keys and aggregates.
    pub(super) grouping: Option<Grouping>,
    /// Inside of `MATCH_RECOGNIZE`: its names.
    pub(super) pattern: Option<pattern::Names>,
    /// Where OVER may stand: its calls so far.
    pub(super) over: Option<over::Calls>,
}

/// A typed expression, or what is wrong with it.
pub(super) type Converted = Result<Typed, Diagnostic>;

impl Converter<'_> {
    /// The typed expression that `ast` means.
    pub(super) fn convert(&mut self, ast: &Ast) -> Converted {
        if let Some(key) = self.grouping_key(ast) {
            return Ok(key);
        }
        match ast {
            Ast::Identifier(name) => self.column(std::slice::from_ref(name)),
            Ast::CompoundIdentifier(names) => self.column(names),
            Ast::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain),
            Ast::Nested(inner) => self.convert(inner),
            Ast::Value(value) => self.literal(&value.value, ast),
            Ast::TypedString(typed) => self.typed_string(&typed.data_type, &typed.value.value, ast),
            Ast::Interval(it) => interval::convert(it).map_err(|e| self.blame(ast, e)),
            Ast::BinaryOp {
                left,
                op: BinaryOperator::Overlaps,
                right,
            } => {
                let (one, other) = (self.period(left)?, self.period(right)?);
                self.checked(ast, Typed::overlaps(one, other))
            }
            Ast::BinaryOp { left, op, right } => self.binary(left, op, right),
            Ast::UnaryOp { op, expr } => self.unary(*op, expr, ast),
            Ast::IsNull(inner) | Ast::IsUnknown(inner) => Ok(self.convert(inner)?.is_null()),
            Ast::IsNotNull(inner) | Ast::IsNotUnknown(inner) => {
                let is_null = self.convert(inner)?.is_null();
                self.checked(ast, is_null.negated())
            }
            Ast::IsTrue(inner) => self.is_bool(inner, true, false),
            Ast::IsNotTrue(inner) => self.is_bool(inner, true, true),
            Ast::IsFalse(inner) => self.is_bool(inner, false, false),
            Ast::IsNotFalse(inner) => self.is_bool(inner, false, true),
            Ast::IsDistinctFrom(left, right) => {
                let (left, right) = (self.convert(left)?, self.convert(right)?);
                self.checked(ast, Typed::distinct(left, right))
            }
            Ast::IsNotDistinctFrom(left, right) => {
                let (left, right) = (self.convert(left)?, self.convert(right)?);
                self.checked(ast, Typed::distinct(left, right).and_then(Typed::negated))
            }
            Ast::InList {
                expr,
                list,
                negated,
            } => {
                if list.is_empty() {
                    return Err(
                        self.blame(ast, ResolveError::new("IN () needs at least one value"))
                    );
                }
                let value = self.convert(expr)?;
                let list = self.convert_all(list)?;
                self.negated_if(ast, value.in_list(list), *negated)
            }
            Ast::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let (value, low, high) =
                    (self.convert(expr)?, self.convert(low)?, self.convert(high)?);
                self.negated_if(ast, value.between(low, high), *negated)
            }
            Ast::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char,
            } => {
                let (value, pattern) = (self.convert(expr)?, self.convert(pattern)?);
                let escape = self.escape(escape_char.as_deref())?;
                self.negated_if(ast, value.like(pattern, escape), *negated)
            }
            Ast::SimilarTo {
                negated,
                expr,
                pattern,
                escape_char,
            } => {
                let (value, pattern) = (self.convert(expr)?, self.convert(pattern)?);
                let escape = self.escape(escape_char.as_deref())?;
                self.negated_if(ast, value.similar(pattern, escape), *negated)
            }
            Ast::IsJson {
                expr,
                kind,
                unique_keys: None,
                negated,
            } => {
                let kind = kind.unwrap_or(JsonPredicateType::Value).to_string();
                let args = vec![self.convert(expr)?, Typed::string(&kind)];
                self.negated_if(ast, call("$IS_JSON", args), *negated)
            }
            Ast::AtTimeZone {
                timestamp,
                time_zone,
            } => {
                let args = vec![self.convert(timestamp)?, self.convert(time_zone)?];
                self.checked(ast, call("$AT_TIME_ZONE", args))
            }
            Ast::Overlay {
                expr,
                overlay_what,
                overlay_from,
                overlay_for,
            } => {
                let mut args = Vec::with_capacity(4);
                for part in [expr, overlay_what, overlay_from]
                    .into_iter()
                    .chain(overlay_for)
                {
                    args.push(self.convert(part)?);
                }
                self.checked(ast, call("OVERLAY", args))
            }
            Ast::Case {
                operand,
                conditions,
                else_result,
                ..
            } => {
                let operand = operand.as_ref().map(|o| self.convert(o)).transpose()?;
                let mut branches = Vec::with_capacity(conditions.len());
                for branch in conditions {
                    let mut condition = self.convert(&branch.condition)?;
                    if let Some(operand) = &operand {
                        let compared = Typed::compare(Comparison::Eq, operand.clone(), condition);
                        condition = self.checked(&branch.condition, compared)?;
                    }
                    branches.push((condition, self.convert(&branch.result)?));
                }
                let otherwise = match else_result {
                    Some(result) => self.convert(result)?,
                    None => Typed::literal(Value::Null, Type::Null),
                };
                self.checked(ast, Typed::case(branches, otherwise))
            }
            Ast::Cast {
                kind,
                expr,
                data_type,
                format: None,
            } => self.cast(kind, expr, data_type, ast),
            Ast::Extract { field, expr, .. } => {
                let args = vec![Typed::string(&field.to_string()), self.convert(expr)?];
                self.checked(ast, call("EXTRACT", args))
            }
            Ast::Ceil { expr, field } => self.ceil_floor("CEIL", expr, field, ast),
            Ast::Floor { expr, field } => self.ceil_floor("FLOOR", expr, field, ast),
            Ast::Position { expr, r#in } => {
                let args = vec![self.convert(expr)?, self.convert(r#in)?];
                self.checked(ast, call("POSITION", args))
            }
            Ast::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => {
                let mut args = vec![self.convert(expr)?];
                for part in [substring_from, substring_for].into_iter().flatten() {
                    args.push(self.convert(part)?);
                }
                self.checked(ast, call("SUBSTRING", args))
            }
            Ast::Trim {
                trim_where,
                trim_what,
                expr,
                trim_characters,
            } => {
                let name = match trim_where {
                    None | Some(TrimWhereField::Both) => "BTRIM",
                    Some(TrimWhereField::Leading) => "LTRIM",
                    Some(TrimWhereField::Trailing) => "RTRIM",
                };
                let mut args = vec![self.convert(expr)?];
                if let Some(what) = trim_what {
                    args.push(self.convert(what)?);
                }
                args.extend(self.convert_all(trim_characters.as_deref().unwrap_or_default())?);
                self.checked(ast, call(name, args))
            }
            Ast::Array(array) => {
                let items = self.convert_all(&array.elem)?;
                self.checked(ast, Typed::array(items))
            }
            Ast::Tuple(items) if items.len() > 1 => {
                let items = self.convert_all(items)?;
                Ok(Typed::row_of(items))
            }
            Ast::Function(function) => self.function(function, ast),
            other => Err(self.blame(ast, refusal(other))),
        }
    }

    /// A value of a GROUP BY that is asked for again behind it.
    fn grouping_key(&mut self, ast: &Ast) -> Option<Typed> {
        let grouping = self.grouping.take()?;
        // In the scope of the input, where an aggregate is an error and so is no key.
        let key = self
            .convert(ast)
            .ok()
            .and_then(|typed| grouping.key(&typed));
        self.grouping = Some(grouping);
        key
    }

    fn column(&mut self, names: &[Ident]) -> Converted {
        if self.pattern.is_some() {
            return self.pattern_column(names);
        }
        let blamed = names
            .first()
            .map_or_else(|| self.fallback.clone(), |name| self.place(name.span.start));
        let (position, taken) = self.scope.find(names).map_err(|e| at(blamed.clone(), e))?;
        if self.grouping.is_some() {
            return Err(at(blamed, Grouping::not_grouped(self.scope, position)));
        }
        let mut value = self.scope.typed(position);
        for name in &names[taken..] {
            value = value
                .field(&name.value)
                .map_err(|e| at(self.place(name.span.start), e))?;
        }
        Ok(value)
    }

    fn access(&mut self, root: &Ast, chain: &[AccessExpr]) -> Converted {
        let mut value = self.convert(root)?;
        for step in chain {
            value = match step {
                AccessExpr::Dot(Ast::Identifier(name)) => value
                    .field(&name.value)
                    .map_err(|e| at(self.place(name.span.start), e))?,
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    let position = self.convert(index)?;
                    let element = value.element(position);
                    self.checked(index, element)?
                }
                _ => {
                    return Err(self.blame(
                        root,
                        ResolveError::new("only .field and [index] can follow a value"),
                    ));
                }
            };
        }
        Ok(value)
    }

    fn literal(&self, value: &AstValue, ast: &Ast) -> Converted {
        match value {
            AstValue::Number(text, false) => self.checked(ast, Typed::number(text)),
            AstValue::SingleQuotedString(text) => Ok(Typed::string(text)),
            AstValue::Boolean(value) => Ok(Typed::literal(Value::Bool(*value), Type::Boolean)),
            AstValue::Null => Ok(Typed::literal(Value::Null, Type::Null)),
            AstValue::HexStringLiteral(text) => match bytes_of_hex(text) {
                Some(bytes) => Ok(Typed::literal(Value::Bytes(bytes.into()), Type::Bytes)),
                None => Err(self.blame(
                    ast,
                    ResolveError::new(format!("x'{text}' is not hexadecimal")),
                )),
            },
            _ => Err(self.blame(
                ast,
                ResolveError::hinted(
                    "this kind of constant is not supported",
                    "write strings in single quotes",
                ),
            )),
        }
    }

    fn typed_string(&self, ty: &DataType, value: &AstValue, ast: &Ast) -> Converted {
        let AstValue::SingleQuotedString(text) = value else {
            return Err(self.blame(
                ast,
                ResolveError::new("the constant is written in single quotes"),
            ));
        };
        let digits = text
            .rsplit_once('.')
            .map_or(0, |(_, fraction)| fraction.len().min(6)) as u8;
        let to = match ty {
            DataType::Date => Type::Date,
            DataType::Time(..) => Type::Time { precision: digits },
            DataType::Timestamp(..) => Type::Timestamp { precision: digits },
            other => {
                return Err(self.blame(
                    ast,
                    ResolveError::hinted(
                        format!("{other} '…' is not supported"),
                        "write CAST('…' AS type)",
                    ),
                ));
            }
        };
        self.checked(ast, Typed::string(text).coerce(&to))
    }

    fn binary(&mut self, left: &Ast, op: &BinaryOperator, right: &Ast) -> Converted {
        // Chains lean to the left: walk down in a loop, so that a long one needs no stack.
        let mut steps = vec![(op, right)];
        let mut first = left;
        while let Ast::BinaryOp { left, op, right } = first {
            if *op == BinaryOperator::Overlaps
                || (self.grouping.is_some() && self.grouping_key(first).is_some())
            {
                break;
            }
            steps.push((op, right));
            first = left;
        }
        let mut value = self.convert(first)?;
        while let Some((op, right)) = steps.pop() {
            let other = self.convert(right)?;
            let blamed = right;
            value = self.operate(op, value, other, first, blamed)?;
        }
        Ok(value)
    }

    fn operate(
        &self,
        op: &BinaryOperator,
        left: Typed,
        right: Typed,
        first: &Ast,
        last: &Ast,
    ) -> Converted {
        use BinaryOperator as B;
        let result = match op {
            B::Plus => Typed::arith(Arithmetic::Add, left, right),
            B::Minus => Typed::arith(Arithmetic::Sub, left, right),
            B::Multiply => Typed::arith(Arithmetic::Mul, left, right),
            B::Divide => Typed::arith(Arithmetic::Div, left, right),
            B::Modulo => Typed::arith(Arithmetic::Rem, left, right),
            B::StringConcat => call("CONCAT", vec![left, right]),
            B::Eq => Typed::compare(Comparison::Eq, left, right),
            B::NotEq => Typed::compare(Comparison::NotEq, left, right),
            B::Lt => Typed::compare(Comparison::Lt, left, right),
            B::LtEq => Typed::compare(Comparison::LtEq, left, right),
            B::Gt => Typed::compare(Comparison::Gt, left, right),
            B::GtEq => Typed::compare(Comparison::GtEq, left, right),
            B::And => Typed::all(vec![left, right]),
            B::Or => Typed::any(vec![left, right]),
            other => Err(ResolveError::new(format!(
                "the operator {other} is not supported"
            ))),
        };
        result.map_err(|e| {
            let start = first.span().start;
            self.blame(if start.line == 0 { last } else { first }, e)
        })
    }

    /// The two ends of `(start, end)`.
    fn period(&mut self, ast: &Ast) -> Result<(Typed, Typed), Diagnostic> {
        match ast {
            Ast::Tuple(ends) if ends.len() == 2 => {
                Ok((self.convert(&ends[0])?, self.convert(&ends[1])?))
            }
            Ast::Nested(inner) => self.period(inner),
            other => Err(self.blame(
                other,
                ResolveError::hinted(
                    "OVERLAPS stands between two periods",
                    "write (start, end) OVERLAPS (start, end)",
                ),
            )),
        }
    }

    fn unary(&mut self, op: UnaryOperator, expr: &Ast, ast: &Ast) -> Converted {
        let value = self.convert(expr)?;
        match op {
            UnaryOperator::Not => self.checked(ast, value.negated()),
            UnaryOperator::Minus => self.checked(ast, value.minus()),
            UnaryOperator::Plus => Ok(value),
            other => Err(self.blame(
                ast,
                ResolveError::new(format!("the operator {other} is not supported")),
            )),
        }
    }

    fn is_bool(&mut self, inner: &Ast, value: bool, negated: bool) -> Converted {
        let tested = self.convert(inner)?.is_bool(value);
        self.negated_if(inner, tested, negated)
    }

    fn escape(&self, escape: Option<&Ast>) -> Result<Option<char>, Diagnostic> {
        let Some(ast) = escape else {
            return Ok(None);
        };
        if let Ast::Value(value) = ast
            && let AstValue::SingleQuotedString(text) = &value.value
        {
            let mut chars = text.chars();
            if let (Some(c), None) = (chars.next(), chars.next()) {
                return Ok(Some(c));
            }
        }
        Err(self.blame(
            ast,
            ResolveError::new("ESCAPE takes one character in single quotes"),
        ))
    }

    pub(super) fn convert_all(&mut self, items: &[Ast]) -> Result<Vec<Typed>, Diagnostic> {
        items.iter().map(|item| self.convert(item)).collect()
    }

    fn negated_if(
        &self,
        ast: &Ast,
        result: Result<Typed, ResolveError>,
        negated: bool,
    ) -> Converted {
        let value = self.checked(ast, result)?;
        if negated {
            self.checked(ast, value.negated())
        } else {
            Ok(value)
        }
    }

    pub(super) fn checked(&self, ast: &Ast, result: Result<Typed, ResolveError>) -> Converted {
        result.map_err(|e| self.blame(ast, e))
    }

    /// The error at the place of a piece of syntax.
    pub(super) fn blame(&self, ast: &Ast, error: ResolveError) -> Diagnostic {
        let start = ast.span().start;
        at(
            if start.line == 0 {
                self.fallback.clone()
            } else {
                self.place(start)
            },
            error,
        )
    }

    fn place(&self, location: sqlparser::tokenizer::Location) -> Place {
        place(self.file, location)
    }
}

/// An error of types at a place.
pub(super) fn at(place: Place, error: ResolveError) -> Diagnostic {
    Diagnostic {
        place,
        message: error.message,
        hint: error.hint,
    }
}

/// A name without dots.
pub(super) fn plain_name(name: &ObjectName) -> Option<&str> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Some(&ident.value),
        _ => None,
    }
}

fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok())
        .collect()
}
