//! The further tables of ALARM: the keys that are to report, and commands.

use sqlparser::ast::{Expr as Ast, Spanned};

use crate::expr::{Expr, ResolveError, Typed};
use crate::plan::{ExpectedKeys, NodeId, Operator};
use crate::types::{Column, Schema, Type, Value};

use super::super::as_of::is_lookup;
use super::super::convert::plain_name;
use super::super::planner::{Failed, Home, Planned, Planner, find, same};
use super::super::scope::Scope;
use super::super::splice;
use super::settings::Settings;

const EXPECTED_FORM: &str =
    "write expected => TABLE devices, a table with 'connector' = 'filesystem' and no watermark";
const COMMANDS_FORM: &str = "write commands => TABLE alarm_commands, a table with the columns of PARTITION BY, command, and as needed alarm, duration, until";

impl Planner<'_> {
    /// `expected => TABLE devices`.
    pub(super) fn expected_keys(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        partition: &[usize],
        settings: &mut Settings<'_>,
    ) -> Planned<Option<ExpectedKeys>> {
        let silent = settings.get("silent_after").is_some();
        if !silent {
            settings.pointless(self, home, "expected", "silent_after")?;
        }
        let Some(ast) = settings.get("expected") else {
            return Ok(None);
        };
        if partition.is_empty() {
            let message = "the setting expected of ALARM lists keys, and there is no PARTITION BY";
            let at = settings.place_of("expected");
            return Err(self.refuse(home, at, message, "write TABLE t PARTITION BY device"));
        }
        let tables = self.tables;
        let named = table_name(ast).and_then(|name| find(tables, name));
        let Some(table) = named.map(|name| &tables[&name]).filter(|t| is_lookup(t)) else {
            let message = "the setting expected of ALARM is a table that is read from a file";
            return Err(self.refuse(home, ast.span().start, message, EXPECTED_FORM));
        };
        let (id, rows) = self.lookup_table(table)?;
        self.used.insert(table.name.value.clone());
        let mut keys = Vec::with_capacity(partition.len());
        for key in partition {
            let key = &scope.columns[*key].column;
            keys.push(self.side_key(home, &rows, key, ast, "expected")?);
        }
        Ok(Some(ExpectedKeys { table: id, keys }))
    }

    /// `commands => TABLE alarm_commands`: the node that gives the key, `command`, `alarm`, `duration`, `until`.
    pub(super) fn alarm_commands(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        partition: &[usize],
        settings: &mut Settings<'_>,
    ) -> Planned<Option<NodeId>> {
        let Some(ast) = settings.get("commands") else {
            return Ok(None);
        };
        let unkeyed = Some("the key is that of the first table: commands carry its columns");
        let (relation, _) = self.table_argument(home, ast, unkeyed, COMMANDS_FORM)?;
        let relation = self.settled(home, relation);
        let rows = &relation.scope;
        let (mut exprs, mut columns) = (Vec::new(), Vec::new());
        for key in partition {
            let key = &scope.columns[*key].column;
            exprs.push(self.side_key(home, rows, key, ast, "commands")?);
            columns.push(Column::new(key.name.clone(), key.ty.clone()));
        }
        let timestamp = Type::Timestamp { precision: 3 };
        let take = |planner: &mut Self, name: &str, fits: &dyn Fn(&Type) -> bool, ty: &Type| {
            let Some(found) = column(rows, name) else {
                let null = Typed::literal(Value::Null, ty.clone());
                return Ok((null, false));
            };
            if fits(&found.ty) {
                return Ok((found, true));
            }
            let message = format!(
                "the column {name} of commands of ALARM cannot be {}",
                found.ty
            );
            let hint = "command and alarm are STRING, duration is STRING ('8 h'), INTERVAL or a number of seconds, until is TIMESTAMP_LTZ(3)";
            Err(planner.refuse(home, ast.span().start, message, hint))
        };
        let text = |ty: &Type| *ty == Type::String;
        let span =
            |ty: &Type| ty.is_numeric() || matches!(ty, Type::String | Type::IntervalDayTime);
        let (command, there) = take(self, "command", &text, &Type::String)?;
        if !there {
            let message = "the table of commands of ALARM has no column command";
            return Err(self.refuse(home, ast.span().start, message, COMMANDS_FORM));
        }
        let (alarm, _) = take(self, "alarm", &text, &Type::String)?;
        let (mut duration, _) = take(self, "duration", &span, &Type::String)?;
        if duration.ty.is_numeric() {
            let cast = duration.cast(&Type::Double, false);
            duration = cast.map_err(|error| self.blame(home, ast, error))?;
        }
        let (until, _) = take(self, "until", &Type::is_timestamp, &timestamp)?;
        for (name, typed) in [
            ("command", command),
            ("alarm", alarm),
            ("duration", duration),
            ("until", until),
        ] {
            columns.push(Column::new(name, typed.ty));
            exprs.push(typed.expr);
        }
        let operator = Operator::Project { exprs };
        let (inputs, schema) = (vec![relation.node], Schema::new(columns));
        let node = self
            .graph
            .add(operator, inputs, schema, &home.query, &home.place);
        Ok(Some(node))
    }

    /// The column of a side's rows that is a key, in the type of the key.
    fn side_key(
        &mut self,
        home: &Home<'_>,
        rows: &Scope,
        key: &Column,
        ast: &Ast,
        setting: &str,
    ) -> Planned<Expr> {
        let Some(found) = column(rows, &key.name) else {
            let message = format!(
                "the table {setting} of ALARM has no column {}, by which the alarms are partitioned",
                key.name
            );
            let hint = format!(
                "declare {} {} in it, or rename a column with a view",
                key.name, key.ty
            );
            return Err(self.refuse(home, ast.span().start, message, hint));
        };
        let coerced = found.coerce(&key.ty);
        let coerced = coerced.map_err(|error| -> Failed {
            let message = format!(
                "{}, in the column {} of {setting} of ALARM",
                error.message, key.name
            );
            let hint = error.hint;
            self.blame(home, ast, ResolveError { message, hint })
        });
        Ok(coerced?.expr)
    }
}

/// The column of this name.
fn column(rows: &Scope, name: &str) -> Option<Typed> {
    let mut columns = rows.columns.iter();
    let at = columns.position(|c| !c.hidden && same(&c.column.name, name))?;
    Some(rows.typed(at))
}

/// The name in `TABLE name`.
fn table_name(ast: &Ast) -> Option<&str> {
    use sqlparser::ast::{FunctionArg, FunctionArgExpr, FunctionArguments};
    let Ast::Function(call) = ast else {
        return None;
    };
    match &call.args {
        FunctionArguments::List(list) if plain_name(&call.name) == Some(splice::TABLE) => {
            match list.args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(Ast::Identifier(name)))] => {
                    Some(&name.value)
                }
                _ => None,
            }
        }
        _ => None,
    }
}
