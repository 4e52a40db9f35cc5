//! The first arguments of table functions: `TABLE t PARTITION BY k` or a query, and `DESCRIPTOR(ts)`.

use sqlparser::ast::{Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned};

use crate::expr::Expr;

use super::convert::plain_name;
use super::planner::{Home, Planned, Planner, Relation};
use super::splice;

impl Planner<'_> {
    /// The rows that a table function takes, and the columns that PARTITION BY names. `unkeyed` says what to do where those
    /// have no meaning.
    pub(super) fn table_argument<'q>(
        &mut self,
        home: &Home<'_>,
        data: &'q Ast,
        unkeyed: Option<&str>,
        form: &str,
    ) -> Planned<(Relation, &'q [FunctionArg])> {
        match data {
            Ast::Function(call) if plain_name(&call.name) == Some(splice::TABLE) => {
                let args = match &call.args {
                    FunctionArguments::List(list) => list.args.as_slice(),
                    _ => &[],
                };
                let [
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(table)),
                    partition @ ..,
                ] = args
                else {
                    return Err(self.refuse(home, data.span().start, "TABLE names no table", form));
                };
                if let (Some(hint), [FunctionArg::Unnamed(FunctionArgExpr::Expr(key)), ..]) =
                    (unkeyed, partition)
                {
                    return Err(self.refuse(
                        home,
                        key.span().start,
                        "PARTITION BY has no meaning here",
                        hint,
                    ));
                }
                let relation = match table {
                    Ast::Identifier(name) => self.table(home, name)?,
                    Ast::Subquery(query) => self.query(home, query)?,
                    _ => {
                        return Err(self.refuse(
                            home,
                            data.span().start,
                            "names of catalogs and databases are not supported",
                            "write the name of the table alone",
                        ));
                    }
                };
                Ok((relation, partition))
            }
            Ast::Subquery(query) => Ok((self.query(home, query)?, &[])),
            Ast::Nested(inner) => self.table_argument(home, inner, unkeyed, form),
            Ast::Identifier(name) => Err(self.refuse(
                home,
                name.span.start,
                format!("write TABLE before {}", name.value),
                form,
            )),
            other => Err(self.refuse(
                home,
                other.span().start,
                "the first argument of a table function is a table",
                form,
            )),
        }
    }

    /// The column that `DESCRIPTOR(ts)` names; `otherwise` says what cannot be if it carries no time.
    pub(super) fn time_column(
        &mut self,
        home: &Home<'_>,
        relation: &Relation,
        ast: &Ast,
        form: &str,
        otherwise: &str,
    ) -> Planned<usize> {
        let column = match ast {
            Ast::Function(call)
                if plain_name(&call.name)
                    .is_some_and(|name| name.eq_ignore_ascii_case("DESCRIPTOR")) =>
            {
                match &call.args {
                    FunctionArguments::List(list) => match list.args.as_slice() {
                        [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] => Some(column),
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        };
        let Some(column) = column else {
            return Err(self.refuse(
                home,
                ast.span().start,
                "the time column is written DESCRIPTOR(column)",
                form,
            ));
        };
        let typed = self.convert(home, &relation.scope, column)?;
        let Expr::Column(at) = typed.expr else {
            return Err(self.refuse(
                home,
                column.span().start,
                "DESCRIPTOR takes a column",
                "compute it in the table: ts AS …, with a WATERMARK on it",
            ));
        };
        let found = &relation.scope.columns[at].column;
        if found.rowtime {
            return Ok(at);
        }
        let name = found.name.clone();
        let times: Vec<&str> = relation
            .scope
            .columns
            .iter()
            .filter(|c| c.column.rowtime)
            .map(|c| c.column.name.as_str())
            .collect();
        let hint = if times.is_empty() {
            format!(
                "declare it in CREATE TABLE: WATERMARK FOR {name} AS {name} - INTERVAL '5' SECOND, and select it unchanged"
            )
        } else {
            format!("the time attribute here is {}", times.join(", "))
        };
        Err(self.refuse(
            home,
            column.span().start,
            format!("{name} is not a time attribute, so {otherwise}"),
            hint,
        ))
    }

    /// The columns that PARTITION BY names.
    pub(super) fn partition_columns(
        &mut self,
        home: &Home<'_>,
        relation: &Relation,
        named: &[FunctionArg],
    ) -> Planned<Vec<usize>> {
        let mut columns = Vec::with_capacity(named.len());
        for key in named {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(ast)) = key else {
                continue; // The splicing puts nothing else in.
            };
            match self.group_key(home, &relation.scope, ast)?.0.expr {
                Expr::Column(at) if !columns.contains(&at) => columns.push(at),
                _ => {}
            }
        }
        Ok(columns)
    }
}
