//! The table function ALARM: which alarms a call makes (`rules`), from settings by name (`settings`); keys that are to
//! report and commands come by further tables (`sides`).
//!
//! Deliberately absent: when an alarm is raised and cleared; the plan's rules say it, and `ops` does it.

mod rules;
mod settings;
mod sides;

use sqlparser::ast::{Expr as Ast, FunctionArg, FunctionArgExpr, Ident};
use sqlparser::tokenizer::Location;

use crate::plan::{Alarms, Operator};
use crate::types::{Column, Schema, Timespan, Type};

use super::planner::{Home, Planned, Planner, Relation};
use super::scope::Scope;

use settings::Settings;

/// The name of the table function.
pub(super) const NAME: &str = "ALARM";

/// How it is written.
const FORM: &str =
    "write ALARM(TABLE t PARTITION BY device, DESCRIPTOR(ts), value => x, high => 8)";

impl Planner<'_> {
    /// `ALARM(TABLE t PARTITION BY k, DESCRIPTOR(ts), value => x, high => 8, …)`.
    pub(super) fn alarm(
        &mut self,
        home: &Home<'_>,
        args: &[FunctionArg],
        at: Location,
    ) -> Planned<Relation> {
        let (data, time, settings) = self.alarm_arguments(home, args, at)?;
        let (relation, partition) = self.table_argument(home, data, None, FORM)?;
        let relation = self.settled(home, relation);
        let time = self.time_column(home, &relation, time, FORM, "no time passes by it")?;
        let partition = self.partition_columns(home, &relation, partition)?;
        let mut settings = settings;
        let (value, rules) = self.alarm_rules(home, &relation.scope, &mut settings, at)?;
        let expected = self.expected_keys(home, &relation.scope, &partition, &mut settings)?;
        let commands = self.alarm_commands(home, &relation.scope, &partition, &mut settings)?;
        settings.finish(self, home)?;
        let why = "an alarm cannot be revised: a late row may change when it was raised, and nothing takes back what was sent";
        let late = self.late_rows_of(home, relation.node, at, why)?;
        let (time_ty, unit) = resolution(&relation.scope.columns[time].column.ty);
        let columns = columns(&relation.scope, &partition, &time_ty);
        let schema = Schema::new(columns);
        let scope = Scope::of(&schema, None);
        let mut inputs = vec![relation.node];
        inputs.extend(commands);
        let alarms = Alarms {
            partition,
            time,
            unit,
            value,
            rules,
            expected,
            commands: commands.is_some(),
            late,
        };
        let operator = Operator::Alarms(Box::new(alarms));
        let node = self
            .graph
            .add(operator, inputs, schema, &home.query, &home.place);
        self.note_late_table(node);
        Ok(Relation {
            node,
            scope,
            pending: None,
        })
    }

    /// The table, the time column, and what is set by name.
    fn alarm_arguments<'q>(
        &mut self,
        home: &Home<'_>,
        args: &'q [FunctionArg],
        at: Location,
    ) -> Planned<(&'q Ast, &'q Ast, Settings<'q>)> {
        let mut places: [Option<&Ast>; 2] = [None; 2];
        let mut settings = Settings::new(at);
        for (i, arg) in args.iter().enumerate() {
            let named: Option<(&Ident, &Ast)> = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(ast)) if i < places.len() => {
                    places[i] = Some(ast);
                    continue;
                }
                FunctionArg::Named {
                    name,
                    arg: FunctionArgExpr::Expr(ast),
                    ..
                }
                | FunctionArg::ExprNamed {
                    name: Ast::Identifier(name),
                    arg: FunctionArgExpr::Expr(ast),
                    ..
                } => Some((name, ast)),
                _ => None,
            };
            let Some((name, ast)) = named else {
                let message = "ALARM takes a table, a time column, and settings by name";
                return Err(self.refuse(home, at, message, FORM));
            };
            match name.value.to_ascii_uppercase().as_str() {
                "DATA" => places[0] = Some(ast),
                "TIMECOL" => places[1] = Some(ast),
                _ => settings.add(self, home, name, ast)?,
            }
        }
        match places {
            [Some(data), Some(time)] => Ok((data, time, settings)),
            _ => {
                let message = "ALARM needs a table and a time column";
                Err(self.refuse(home, at, message, FORM))
            }
        }
    }
}

/// The type of the times that it gives, and what their last digit is: delays are of milliseconds.
fn resolution(ty: &Type) -> (Type, Timespan) {
    let digits = |given: u8| given.max(3);
    let (ty, digits) = match ty {
        Type::TimestampLtz { precision } => {
            let precision = digits(*precision);
            (Type::TimestampLtz { precision }, precision)
        }
        Type::Timestamp { precision } => {
            let precision = digits(*precision);
            (Type::Timestamp { precision }, precision)
        }
        other => (other.clone(), 3),
    };
    let micros = 10_i64.pow(6_u32.saturating_sub(u32::from(digits)));
    (ty, Timespan::from_micros(micros))
}

/// The columns that it gives.
fn columns(scope: &Scope, partition: &[usize], time: &Type) -> Vec<Column> {
    let mut columns: Vec<Column> = partition
        .iter()
        .map(|key| Column {
            rowtime: false,
            ..scope.columns[*key].column.clone()
        })
        .collect();
    let sure = |name: &str, ty: Type| Column {
        nullable: false,
        ..Column::new(name, ty)
    };
    columns.extend([
        sure("alarm", Type::String),
        Column::new("severity", Type::String),
        sure("event", Type::String),
        sure("state", Type::String),
        Column {
            rowtime: true,
            ..sure("at", time.clone())
        },
        Column::new("raised_at", time.clone()),
        Column::new("duration", Type::Double),
        Column::new("value", Type::Double),
        Column::new("peak", Type::Double),
        Column::new("first_out", Type::Boolean),
        sure("raises", Type::BigInt),
        sure("raises_last_minute", Type::Int),
        sure("chattering", Type::Boolean),
        Column::new("shelved_until", time.clone()),
    ]);
    columns
}
