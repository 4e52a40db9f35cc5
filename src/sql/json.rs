//! The JSON functions with clauses: from their syntax (see `syntax`) to the calls that mean it.

use sqlparser::ast::{
    Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArgumentList, Value as AstValue,
};

use crate::expr::{ResolveError, Typed, call};
use crate::plan::Diagnostic;
use crate::types::{Type, Value};

use super::convert::{Converted, Converter, plain_name};

/// The clauses of a call.
struct Clauses<'a> {
    list: &'a FunctionArgumentList,
}

impl<'a> Clauses<'a> {
    fn find(&self, wanted: &str) -> Option<&'a Ast> {
        self.list.args.iter().find_map(|arg| match arg {
            FunctionArg::Named {
                name,
                arg: FunctionArgExpr::Expr(value),
                ..
            } if name.value == wanted => Some(value),
            _ => None,
        })
    }

    /// The word of a clause, or what holds without it.
    fn word(&self, wanted: &str, default: &'a str) -> Typed {
        let word = match self.find(wanted) {
            Some(Ast::Value(value)) => match &value.value {
                AstValue::SingleQuotedString(text) => text.as_str(),
                _ => default,
            },
            _ => default,
        };
        Typed::string(word)
    }
}

impl Converter<'_> {
    /// A call of one of [`super::syntax::JSON_FUNCTIONS`].
    pub(super) fn json(&mut self, name: &str, list: &FunctionArgumentList, ast: &Ast) -> Converted {
        let clauses = Clauses { list };
        let plain: Vec<&Ast> = list
            .args
            .iter()
            .filter_map(|arg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value),
                _ => None,
            })
            .collect();
        let mut values = Vec::with_capacity(plain.len());
        for value in &plain {
            values.push(self.convert(value)?);
        }
        let texts = if name == "JSON_OBJECT" || name == "JSON_ARRAY" {
            0
        } else {
            2
        };
        for (value, given) in values.iter().zip(&plain).take(texts) {
            if !matches!(value.ty, Type::String | Type::Null) {
                return Err(self.blame(
                    given,
                    ResolveError::hinted(
                        format!(
                            "{name} reads a STRING by a path that is a STRING, not {}",
                            value.ty
                        ),
                        "write JSON_VALUE(text, '$.key'); fields of a ROW are read with a point",
                    ),
                ));
            }
        }
        let result = match name {
            "JSON_OBJECT" | "JSON_ARRAY" => {
                return self.json_constructor(name, &clauses, &plain, values, ast);
            }
            "JSON_EXISTS" => {
                values.push(clauses.word("on_error", "FALSE"));
                call("$JSON_EXISTS", values)
            }
            _ => {
                let ty = self.returned(name, &clauses, ast)?;
                let mut args = vec![
                    Typed::literal(Value::Null, ty.clone()),
                    Typed::string(&ty.to_string()),
                ];
                args.extend(values);
                if name == "JSON_QUERY" {
                    args.push(clauses.word("wrapper", "NONE"));
                    args.push(clauses.word("on_empty", "NULL"));
                    args.push(clauses.word("on_error", "NULL"));
                    call("$JSON_QUERY", args)
                } else {
                    for (action, default) in [
                        ("on_empty", "default_on_empty"),
                        ("on_error", "default_on_error"),
                    ] {
                        args.push(clauses.word(action, "NULL"));
                        args.push(self.default(clauses.find(default), &ty)?);
                    }
                    call("$JSON_VALUE", args)
                }
            }
        };
        self.checked(ast, result)
    }

    /// The type behind RETURNING.
    fn returned(&self, name: &str, clauses: &Clauses<'_>, ast: &Ast) -> Result<Type, Diagnostic> {
        let Some(Ast::Identifier(kept)) = clauses.find("returning") else {
            return Ok(Type::String);
        };
        let Some(written) = self.types.get(&kept.value) else {
            return Err(self.blame(
                ast,
                ResolveError::new("the type behind RETURNING is not known"),
            ));
        };
        let text_array = Type::Array(Type::String.into());
        let possible = match name {
            "JSON_QUERY" => written.ty == Type::String || written.ty == text_array,
            _ => matches!(written.ty, Type::String | Type::Boolean) || written.ty.is_numeric(),
        };
        if possible && written.length.is_none() {
            return Ok(written.ty.clone());
        }
        let (types, cast) = match name {
            "JSON_QUERY" => ("STRING and ARRAY<STRING>", "take it apart with JSON_VALUE"),
            _ => (
                "STRING, BOOLEAN and numbers",
                "write CAST(JSON_VALUE(…) AS type)",
            ),
        };
        Err(self.blame(
            ast,
            ResolveError::hinted(format!("{name} returns {types}, not {}", written.ty), cast),
        ))
    }

    /// The default of a clause in the wanted type, NULL without one.
    fn default(&mut self, default: Option<&Ast>, ty: &Type) -> Converted {
        let Some(ast) = default else {
            return Ok(Typed::literal(Value::Null, ty.clone()));
        };
        let value = self.convert(ast)?;
        // As JSON spells it, not as CAST does.
        if value.ty == Type::Boolean && *ty == Type::String {
            let text = self.checked(ast, value.cast(ty, false))?;
            return self.checked(ast, call("LOWER", vec![text]));
        }
        self.checked(ast, value.cast(ty, false))
    }

    fn json_constructor(
        &mut self,
        name: &str,
        clauses: &Clauses<'_>,
        plain: &[&Ast],
        values: Vec<Typed>,
        ast: &Ast,
    ) -> Converted {
        let keyed = name == "JSON_OBJECT";
        let (step, default) = if keyed { (2, "NULL") } else { (1, "ABSENT") };
        if keyed {
            for (key, value) in plain.iter().zip(&values).step_by(2) {
                if value.ty != Type::String {
                    return Err(self.blame(
                        key,
                        ResolveError::hinted(
                            format!("a key of JSON_OBJECT is a STRING, not {}", value.ty),
                            "write JSON_OBJECT('name' VALUE x)",
                        ),
                    ));
                }
            }
        }
        // What another constructor makes is put in as JSON and not as a text.
        let kinds: String = plain
            .iter()
            .skip(step - 1)
            .step_by(step)
            .map(|value| if makes_json(value) { 'j' } else { 'v' })
            .collect();
        let mut args = vec![clauses.word("on_null", default), Typed::string(&kinds)];
        args.extend(values);
        self.checked(ast, call(&format!("${name}"), args))
    }
}

fn makes_json(ast: &Ast) -> bool {
    match ast {
        Ast::Function(function) => {
            matches!(
                plain_name(&function.name),
                Some("JSON_OBJECT" | "JSON_ARRAY")
            )
        }
        Ast::Nested(inner) => makes_json(inner),
        _ => false,
    }
}
