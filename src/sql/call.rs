//! Calls: functions, casts, and what is said to forms that are not supported.

use sqlparser::ast::{
    CastKind, CeilFloorKind, DataType, DateTimeField, Expr as Ast, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments,
};

use crate::expr::{ResolveError, Typed, call};
use crate::plan::Diagnostic;
use crate::types::{Type, Value};

use super::aggregate;
use super::convert::{Converted, Converter, plain_name};
use super::grouping_sets;
use super::over;
use super::splice;
use super::syntax;

impl Converter<'_> {
    pub(super) fn cast(
        &mut self,
        kind: &CastKind,
        expr: &Ast,
        ty: &DataType,
        ast: &Ast,
    ) -> Converted {
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
        let Some(length) = written.length else {
            return Ok(cast);
        };
        let cut = match (&written.ty, written.padded) {
            (Type::String, false) => "LEFT",
            (Type::String, true) => "$CHAR",
            (_, false) => "$VARBINARY",
            (_, true) => "$BINARY",
        };
        let length = Typed::literal(Value::Int(length as i64), Type::BigInt);
        self.checked(ast, call(cut, vec![cast, length]))
    }

    pub(super) fn ceil_floor(
        &mut self,
        name: &str,
        expr: &Ast,
        field: &CeilFloorKind,
        ast: &Ast,
    ) -> Converted {
        let value = self.convert(expr)?;
        match field {
            CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) => {
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

    pub(super) fn function(&mut self, function: &Function, ast: &Ast) -> Converted {
        let Some(name) = plain_name(&function.name) else {
            return Err(self.blame(ast, ResolveError::new("functions of catalogs do not exist")));
        };
        if let Some(converted) = self.pattern_function(name, function, ast) {
            return converted;
        }
        if let Some(window) = &function.over {
            return self.over_call(name, function, window, ast);
        }
        if grouping_sets::is_grouping(name) {
            return self.grouping(name, function, ast);
        }
        if let Some(detector) = over::detector(name) {
            return Err(self.blame(ast, over::needs_over(detector)));
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
        if syntax::JSON_FUNCTIONS.contains(&name) {
            return self.json(name, list, ast);
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
            "ROW" => Ok(Typed::row_of(args)),
            _ if name == splice::MAP => Typed::map(args),
            _ if name == syntax::BETWEEN_SYMMETRIC => match <[Typed; 3]>::try_from(args) {
                Ok([value, one, other]) => value.between_symmetric(one, other),
                Err(_) => Err(ResolveError::new("BETWEEN SYMMETRIC takes two bounds")),
            },
            _ if name == splice::TABLE => Err(ResolveError::hinted(
                "TABLE t is an argument of a table function in FROM",
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
            // The time of processing is the time now; only windows need another.
            "PROCTIME" if args.is_empty() => call("CURRENT_ROW_TIMESTAMP", args),
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
}

/// What is said to a form that is not supported.
pub(super) fn refusal(ast: &Ast) -> ResolveError {
    let (what, hint) = match ast {
        Ast::Subquery(_) | Ast::Exists { .. } | Ast::InSubquery { .. } => (
            "a query inside of an expression",
            "join the tables in FROM, or write the values into IN (…)",
        ),
        Ast::ILike { .. } => ("ILIKE", "write LOWER(x) LIKE '…'"),
        Ast::RLike { .. } => ("RLIKE", "write REGEXP(x, 'pattern')"),
        Ast::Tuple(_) => ("a list of values in parentheses", "write ROW(a, b)"),
        Ast::Wildcard(_) | Ast::QualifiedWildcard(..) => ("*", "name the columns"),
        Ast::Map(_) | Ast::Dictionary(_) | Ast::Struct { .. } => {
            ("this constructor", "write ROW(…), ARRAY[…] or MAP[…]")
        }
        Ast::Convert { .. } => ("CONVERT", "write CAST(x AS type)"),
        Ast::IsJson { .. } => ("IS JSON … UNIQUE KEYS", "leave UNIQUE KEYS out"),
        Ast::JsonAccess { .. } => (
            "this JSON expression",
            "write JSON_VALUE(x, '$.key'), or declare the columns with 'fields.<column>.path'",
        ),
        Ast::GroupingSets(_) | Ast::Cube(_) | Ast::Rollup(_) => (
            "GROUPING SETS inside of each other",
            "list all sets in one: GROUPING SETS ((a, b), (a), ())",
        ),
        _ => (
            "this expression",
            "see the list of functions and operators in the documentation",
        ),
    };
    ResolveError::hinted(format!("{what} is not supported"), hint)
}
