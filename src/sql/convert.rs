//! Expressions of the syntax tree into typed expressions over a scope.
//!
//! Invariant: a form that is not listed here is refused by name; nothing is ignored.

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CastKind, CeilFloorKind, DataType, Expr as Ast, Function,
    FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Spanned, Subscript, TrimWhereField, UnaryOperator, Value as AstValue,
};

use crate::expr::{Arithmetic, Comparison, ResolveError, Typed, call};
use crate::plan::{Diagnostic, Place};
use crate::types::{Type, Value};

use super::aggregate::{self, Grouping};
use super::interval;
use super::lex::place;
use super::scope::Scope;
use super::splice::{self, Types};

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
}

type Converted = Result<Typed, Diagnostic>;

impl Converter<'_> {
    /// The typed expression that `ast` means.
    pub(super) fn convert(&mut self, ast: &Ast) -> Converted {
        if let Some(key) = self.grouping_key(ast)? {
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
            Ast::BinaryOp { left, op, right } => self.binary(left, op, right),
            Ast::UnaryOp { op, expr } => self.unary(op, expr, ast),
            Ast::IsNull(inner) => Ok(self.convert(inner)?.is_null()),
            Ast::IsNotNull(inner) => {
                let is_null = self.convert(inner)?.is_null();
                self.checked(ast, is_null.negated())
            }
            Ast::IsTrue(inner) => self.is_bool(inner, true, false),
            Ast::IsNotTrue(inner) => self.is_bool(inner, true, true),
            Ast::IsFalse(inner) => self.is_bool(inner, false, false),
            Ast::IsNotFalse(inner) => self.is_bool(inner, false, true),
            Ast::IsUnknown(inner) => Ok(self.convert(inner)?.is_null()),
            Ast::IsNotUnknown(inner) => {
                let is_null = self.convert(inner)?.is_null();
                self.checked(ast, is_null.negated())
            }
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
            Ast::Function(function) => self.function(function, ast),
            other => Err(self.blame(ast, unsupported(other))),
        }
    }

    /// A value of a GROUP BY that is asked for again behind it.
    fn grouping_key(&mut self, ast: &Ast) -> Result<Option<Typed>, Diagnostic> {
        let Some(grouping) = self.grouping.take() else {
            return Ok(None);
        };
        // In the scope of the input, where an aggregate is an error and so is no key.
        let key = self
            .convert(ast)
            .ok()
            .and_then(|typed| grouping.key(&typed));
        self.grouping = Some(grouping);
        Ok(key)
    }

    fn column(&mut self, names: &[Ident]) -> Converted {
        let blamed = names
            .first()
            .map_or_else(|| self.fallback.clone(), |name| self.place(name.span.start));
        let (position, taken) = self.scope.find(names).map_err(|e| at(blamed.clone(), e))?;
        if let Some(grouping) = &self.grouping {
            return Err(at(blamed, grouping.not_grouped(self.scope, position)));
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
            if self.grouping.is_some() && self.grouping_key(first)?.is_some() {
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

    fn unary(&mut self, op: &UnaryOperator, expr: &Ast, ast: &Ast) -> Converted {
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

    fn cast(&mut self, kind: &CastKind, expr: &Ast, ty: &DataType, ast: &Ast) -> Converted {
        let try_ = match kind {
            CastKind::Cast => false,
            CastKind::TryCast => true,
            _ => {
                return Err(self.blame(
                    ast,
                    ResolveError::hinted("this cast is not supported", "write CAST(x AS type)"),
                ));
            }
        };
        let DataType::Custom(name, _) = ty else {
            return Err(self.blame(
                ast,
                ResolveError::hinted("this cast is not supported", "write CAST(x AS type)"),
            ));
        };
        let Some(written) = plain_name(name)
            .and_then(|name| self.types.get(name))
            .cloned()
        else {
            return Err(self.blame(ast, ResolveError::new("the type of this cast is not known")));
        };
        let value = self.convert(expr)?;
        let cast = self.checked(ast, value.cast(&written.ty, try_))?;
        match written.length {
            None => Ok(cast),
            Some(length) if written.ty == Type::String && !written.padded => {
                let length = Typed::literal(Value::Int(length as i64), Type::BigInt);
                self.checked(ast, call("LEFT", vec![cast, length]))
            }
            Some(_) => Err(self.blame(
                ast,
                ResolveError::hinted(
                    "a cast to CHAR(n), BINARY(n) or VARBINARY(n) is not supported",
                    "cast to STRING or BYTES",
                ),
            )),
        }
    }

    fn ceil_floor(
        &mut self,
        name: &str,
        expr: &Ast,
        field: &CeilFloorKind,
        ast: &Ast,
    ) -> Converted {
        let value = self.convert(expr)?;
        match field {
            CeilFloorKind::DateTimeField(sqlparser::ast::DateTimeField::NoDateTime) => {
                self.checked(ast, call(name, vec![value]))
            }
            CeilFloorKind::DateTimeField(unit) => self.checked(
                ast,
                call(
                    &format!("${name}"),
                    vec![Typed::string(&unit.to_string()), value],
                ),
            ),
            CeilFloorKind::Scale(_) => Err(self.blame(
                ast,
                ResolveError::hinted(format!("{name} takes one number"), "use ROUND(x, digits)"),
            )),
        }
    }

    fn function(&mut self, function: &Function, ast: &Ast) -> Converted {
        let Some(name) = plain_name(&function.name) else {
            return Err(self.blame(ast, ResolveError::new("functions of catalogs do not exist")));
        };
        if function.over.is_some() {
            return Err(self.blame(
                ast,
                ResolveError::hinted(
                    "OVER is not supported yet",
                    "use a window: GROUP BY over TUMBLE or HOP",
                ),
            ));
        }
        if aggregate::is_aggregate(name) {
            return self.aggregate(name, function, ast);
        }
        for (given, clause) in [
            (function.filter.is_some(), "FILTER"),
            (!function.within_group.is_empty(), "WITHIN GROUP"),
            (function.null_treatment.is_some(), "IGNORE NULLS"),
        ] {
            if given {
                return Err(self.blame(
                    ast,
                    ResolveError::new(format!(
                        "{clause} belongs to an aggregate, and {name} is none"
                    )),
                ));
            }
        }
        let list = self.arguments(function, ast)?;
        if list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
            return Err(self.blame(ast, ResolveError::new(format!("{name} takes only values"))));
        }
        let mut args = Vec::with_capacity(list.args.len());
        let takes_unit = ["TIMESTAMPADD", "TIMESTAMPDIFF"]
            .iter()
            .any(|f| f.eq_ignore_ascii_case(name));
        for (i, arg) in list.args.iter().enumerate() {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(Ast::Identifier(unit)))
                    if takes_unit && i == 0 =>
                {
                    args.push(Typed::string(&unit.value));
                }
                FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) => args.push(self.convert(arg)?),
                _ => {
                    return Err(self.blame(
                        ast,
                        ResolveError::hinted(
                            format!("{name} takes only values"),
                            "write the arguments without names and *",
                        ),
                    ));
                }
            }
        }
        let result = match name.to_ascii_uppercase().as_str() {
            "ROW" => {
                let fields = args
                    .into_iter()
                    .enumerate()
                    .map(|(i, arg)| (format!("EXPR${i}").into(), arg));
                Ok(Typed::row(fields.collect()))
            }
            _ if name == splice::MAP => Typed::map(args),
            _ if name == splice::TABLE => Err(ResolveError::hinted(
                "TABLE t is an argument of a window function in FROM",
                "write FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
            )),
            "TUMBLE" | "HOP" | "CUMULATE" | "SESSION" | "TUMBLE_START" | "TUMBLE_END"
            | "HOP_START" | "HOP_END" => Err(ResolveError::hinted(
                format!(
                    "{} in GROUP BY or SELECT is the old form of a window",
                    name.to_ascii_uppercase()
                ),
                "write FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end",
            )),
            "PROCTIME" => Err(ResolveError::hinted(
                "PROCTIME() is not supported",
                "declare a column: arrived TIMESTAMP_LTZ(3) METADATA FROM 'timestamp'",
            )),
            _ => call(name, args),
        };
        self.checked(ast, result)
    }

    fn aggregate(&mut self, name: &str, function: &Function, ast: &Ast) -> Converted {
        let Some(mut grouping) = self.grouping.take() else {
            return Err(self.blame(
                ast,
                ResolveError::hinted(
                    format!(
                        "the aggregate {} cannot stand here",
                        name.to_ascii_uppercase()
                    ),
                    "aggregates stand in SELECT and HAVING, and not inside of each other",
                ),
            ));
        };
        let result = aggregate::convert(self, &mut grouping, name, function, ast);
        self.grouping = Some(grouping);
        result
    }

    /// The arguments of a call.
    pub(super) fn arguments<'f>(
        &self,
        function: &'f Function,
        ast: &Ast,
    ) -> Result<&'f FunctionArgumentList, Diagnostic> {
        static NONE: FunctionArgumentList = FunctionArgumentList {
            duplicate_treatment: None,
            args: Vec::new(),
            clauses: Vec::new(),
        };
        match &function.args {
            FunctionArguments::List(list) => Ok(list),
            FunctionArguments::None => Ok(&NONE),
            FunctionArguments::Subquery(_) => Err(self.blame(
                ast,
                ResolveError::new("a query as an argument is not supported"),
            )),
        }
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

    fn convert_all(&mut self, items: &[Ast]) -> Result<Vec<Typed>, Diagnostic> {
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

    fn checked(&self, ast: &Ast, result: Result<Typed, ResolveError>) -> Converted {
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
    if !text.is_ascii() || text.len() % 2 != 0 {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok())
        .collect()
}

fn unsupported(ast: &Ast) -> ResolveError {
    let (what, hint) = match ast {
        Ast::Subquery(_) | Ast::Exists { .. } | Ast::InSubquery { .. } => (
            "a query inside of an expression",
            "join the tables in FROM, or write the values into IN (…)",
        ),
        Ast::ILike { .. } => ("ILIKE", "write LOWER(x) LIKE '…'"),
        Ast::SimilarTo { .. } | Ast::RLike { .. } => ("SIMILAR TO", "write REGEXP(x, 'pattern')"),
        Ast::AtTimeZone { .. } => (
            "AT TIME ZONE",
            "times are in UTC; move them with + INTERVAL '1' HOUR",
        ),
        Ast::Tuple(_) => ("a list of values in parentheses", "write ROW(a, b)"),
        Ast::Overlay { .. } => ("OVERLAY", "write CONCAT(LEFT(x, n), y, SUBSTRING(x, m))"),
        Ast::Wildcard(_) | Ast::QualifiedWildcard(..) => ("*", "name the columns"),
        Ast::Map(_) | Ast::Dictionary(_) | Ast::Struct { .. } => {
            ("this constructor", "write ROW(…), ARRAY[…] or MAP[…]")
        }
        Ast::Convert { .. } => ("CONVERT", "write CAST(x AS type)"),
        Ast::IsJson { .. } | Ast::JsonAccess { .. } => (
            "this JSON expression",
            "declare the columns, or set 'fields.<column>.path'",
        ),
        Ast::GroupingSets(_) | Ast::Cube(_) | Ast::Rollup(_) => (
            "GROUPING SETS",
            "write one query for each, joined by UNION ALL",
        ),
        _ => (
            "this expression",
            "see the list of functions and operators in the documentation",
        ),
    };
    ResolveError::hinted(format!("{what} is not supported"), hint)
}
