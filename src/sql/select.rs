//! SELECT: filter, group, project.

use compact_str::CompactString;
use sqlparser::ast::{
    Distinct, Expr as Ast, GroupByExpr, Ident, Select, SelectItem, SelectItemQualifiedWildcardKind,
    Spanned, WildcardAdditionalOptions,
};

use crate::expr::{Expr, Typed};
use crate::plan::Operator;
use crate::types::{Column, Schema, Type};

use super::aggregate::{Grouping, contains_aggregate};
use super::over::Calls;
use super::planner::{Failed, Home, Planned, Planner, Relation};
use super::scope::{Role, Scope};
use super::window;

/// An output column of a SELECT.
struct Output {
    /// Its name.
    name: CompactString,
    /// Its value.
    value: Typed,
    /// Whether it carries time.
    rowtime: bool,
    /// What it is of a window.
    role: Role,
}

impl Planner<'_> {
    /// The rows of a SELECT.
    pub(super) fn select(&mut self, home: &Home<'_>, select: &Select) -> Planned<Relation> {
        self.refuse_clauses(home, select)?;
        let mut selection = select.selection.as_ref();
        let start = select.select_token.0.span.start;
        let mut relation = self.from(home, &select.from, &mut selection, start)?;
        if let Some(predicate) = selection {
            let predicate = self.convert_predicate(home, &relation.scope, predicate, "WHERE")?;
            relation = self.filtered(home, relation, predicate.expr);
        }
        let keys = match &select.group_by {
            GroupByExpr::Expressions(keys, modifiers) if modifiers.is_empty() => keys.as_slice(),
            _ => {
                return Err(self.refuse(
                    home,
                    select.group_by.span().start,
                    "this form of GROUP BY is not supported",
                    "name the columns to group by",
                ));
            }
        };
        if let Some(distinct) = &select.distinct {
            let plain = *distinct == Distinct::Distinct && keys.is_empty();
            return self.distinct(home, select, relation, plain);
        }
        let aggregated = select.projection.iter().any(|item| match item {
            SelectItem::UnnamedExpr(ast) | SelectItem::ExprWithAlias { expr: ast, .. } => {
                contains_aggregate(ast)
            }
            _ => false,
        });
        if !keys.is_empty() || aggregated || select.having.as_ref().is_some_and(contains_aggregate)
        {
            self.refuse_over_clauses(home, select)?;
            return self.grouped(home, select, relation, keys);
        }
        if let Some(having) = &select.having {
            return Err(self.refuse(
                home,
                having.span().start,
                "HAVING needs GROUP BY",
                "write WHERE",
            ));
        }
        self.projected(home, select, relation)
    }

    /// `SELECT DISTINCT` of the rows of windows: a GROUP BY of all columns.
    fn distinct(
        &mut self,
        home: &Home<'_>,
        select: &Select,
        relation: Relation,
        plain: bool,
    ) -> Planned<Relation> {
        let start = select.select_token.0.span.start;
        let hint = "group by the columns over a window: GROUP BY a, window_start, window_end";
        if relation.scope.position_of(Role::End).is_none() {
            let message = "SELECT DISTINCT over a whole stream would remember every row for ever";
            return Err(self.refuse(home, start, message, hint));
        }
        if !plain || select.having.is_some() {
            let message = "SELECT DISTINCT takes no ON, GROUP BY or HAVING";
            return Err(self.refuse(home, start, message, hint));
        }
        let wild = select.projection.iter().any(|item| {
            matches!(
                item,
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
            )
        });
        if wild {
            let message = "SELECT DISTINCT takes no *";
            return Err(self.refuse(home, start, message, "name the columns"));
        }
        let columns = select.projection.iter().filter_map(|item| match item {
            SelectItem::UnnamedExpr(ast) | SelectItem::ExprWithAlias { expr: ast, .. } => Some(ast),
            _ => None,
        });
        let keys: Vec<Ast> = columns
            .filter(|ast| !matches!(ast, Ast::Value(_)))
            .cloned()
            .collect();
        self.refuse_over_clauses(home, select)?;
        self.grouped(home, select, relation, &keys)
    }

    /// A filter; below a window that is not assigned yet where that is possible.
    pub(super) fn filtered(
        &mut self,
        home: &Home<'_>,
        relation: Relation,
        predicate: Expr,
    ) -> Relation {
        let width = self.graph.node(relation.node).schema.len();
        // Rows that a filter leaves out are part of a session, and count in a window of rows, all the same.
        let mut below = !window::is_of_rows(&relation);
        predicate.for_each_column(&mut |column| below &= column < width);
        let mut relation = if below {
            relation
        } else {
            self.settled(home, relation)
        };
        relation = self.limited(relation, &predicate);
        self.step(home, &mut relation, Operator::Filter { predicate });
        relation
    }

    fn projected(
        &mut self,
        home: &Home<'_>,
        select: &Select,
        relation: Relation,
    ) -> Planned<Relation> {
        self.over = Some(Calls::new(&select.named_window));
        let outputs = self.outputs(home, select, &relation.scope, None);
        let qualify = select.qualify.as_ref();
        let qualified =
            qualify.map(|ast| self.convert_predicate(home, &relation.scope, ast, "QUALIFY"));
        let calls = self.over.take().unwrap_or_default();
        let (outputs, _) = outputs?;
        let qualified = qualified.transpose()?;
        self.refuse_unused(home, &calls, qualify);
        if calls.any() {
            return Ok(self.overed(home, relation, calls, outputs, qualified));
        }
        let identity = outputs.len() == relation.scope.columns.len()
            && outputs
                .iter()
                .enumerate()
                .all(|(i, output)| output.value.expr == Expr::Column(i));
        if identity {
            let mut relation = relation;
            for (column, output) in relation.scope.columns.iter_mut().zip(outputs) {
                column.column.name = output.name;
                column.relation = None;
            }
            return Ok(relation);
        }
        let relation = self.settled(home, relation);
        Ok(self.project_outputs(home, &relation, outputs))
    }

    /// A projection of calls with OVER, and of what QUALIFY keeps.
    fn overed(
        &mut self,
        home: &Home<'_>,
        relation: Relation,
        calls: Calls,
        outputs: Vec<Output>,
        qualified: Option<Typed>,
    ) -> Relation {
        let (mut relation, columns) = self.over_steps(home, relation, calls);
        if let Some(predicate) = qualified {
            let predicate = Self::over_placed(predicate, &columns).expr;
            relation = self.filtered(home, relation, predicate);
        }
        let placed = |output: Output| Output {
            value: Self::over_placed(output.value, &columns),
            ..output
        };
        let outputs = outputs.into_iter().map(placed).collect();
        self.project_outputs(home, &relation, outputs)
    }

    fn project_outputs(
        &mut self,
        home: &Home<'_>,
        relation: &Relation,
        outputs: Vec<Output>,
    ) -> Relation {
        let roles: Vec<Role> = outputs.iter().map(|o| o.role).collect();
        let (mut exprs, mut columns) = (Vec::new(), Vec::new());
        for output in outputs {
            exprs.push(output.value.expr);
            columns.push(Column {
                name: output.name,
                ty: output.value.ty,
                nullable: output.value.nullable,
                rowtime: output.rowtime,
            });
        }
        self.project(home, relation, exprs, Schema::new(columns), &roles)
    }

    fn grouped(
        &mut self,
        home: &Home<'_>,
        select: &Select,
        relation: Relation,
        keys: &[Ast],
    ) -> Planned<Relation> {
        let location = keys
            .first()
            .map(|key| key.span().start)
            .filter(|start| start.line > 0)
            .unwrap_or(select.select_token.0.span.start);
        let (keys, sets) = self.group_keys(home, &relation, keys, location)?;
        let (relation, sets) = match sets {
            Some(sets) => {
                let (relation, number) = self.once_for_each_set(home, relation, &sets);
                (relation, Some((sets, number)))
            }
            None => (relation, None),
        };
        let grouping = Grouping::new(keys, sets, &relation.scope);
        // SELECT and HAVING say what is aggregated; so they are converted before the step is made.
        let (outputs, grouping) = self.outputs(home, select, &relation.scope, Some(grouping))?;
        let Some(grouping) = grouping else {
            return Err(Failed);
        };
        let (having, grouping) = match &select.having {
            Some(ast) => {
                let (value, grouping) = self.convert_in(home, &relation.scope, Some(grouping), ast);
                let value = value?;
                self.want_bool(home, &value, ast, "HAVING")?;
                (Some(value), grouping.ok_or(Failed)?)
            }
            None => (None, grouping),
        };
        let outputs: Vec<Output> = outputs
            .into_iter()
            .map(|o| Output {
                value: grouping.placed(o.value),
                ..o
            })
            .collect();
        let having = having.map(|value| grouping.placed(value).expr);
        let grouping = match grouping.split() {
            Ok(grouping) => grouping,
            Err(error) => {
                let hint = error.hint.unwrap_or_default();
                return Err(self.refuse(home, location, error.message, hint));
            }
        };
        let mut result = self.aggregated(home, relation, grouping, location)?;
        if let Some(predicate) = having {
            self.step(home, &mut result, Operator::Filter { predicate });
        }
        Ok(self.project_outputs(home, &result, outputs))
    }

    pub(super) fn group_key(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        key: &Ast,
    ) -> Planned<(Typed, Role)> {
        if matches!(key, Ast::Value(_)) {
            return Err(self.refuse(
                home,
                key.span().start,
                "GROUP BY a constant groups nothing",
                "name the column instead of its number",
            ));
        }
        let typed = self.convert(home, scope, key)?;
        if matches!(typed.ty, Type::Map(..)) {
            return Err(self.refuse(
                home,
                key.span().start,
                "a MAP cannot be grouped by",
                "group by one of its values: m['key']",
            ));
        }
        let role = match typed.expr {
            Expr::Column(at) => scope.columns[at].role,
            _ => Role::None,
        };
        Ok((typed, role))
    }

    /// The output columns of a SELECT; all that is wrong with them is reported at once.
    fn outputs(
        &mut self,
        home: &Home<'_>,
        select: &Select,
        scope: &Scope,
        mut grouping: Option<Grouping>,
    ) -> Planned<(Vec<Output>, Option<Grouping>)> {
        let mut outputs = Vec::new();
        let mut failed = None;
        for item in &select.projection {
            let (ast, alias) = match item {
                SelectItem::UnnamedExpr(ast) => (ast, None),
                SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias)),
                other => {
                    if grouping.is_some() {
                        let location = other.span().start;
                        failed = Some(self.refuse(
                            home,
                            location,
                            "* cannot stand in a query with GROUP BY",
                            "name the keys and aggregates",
                        ));
                    } else if let Err(e) = self.wildcard(home, scope, other, &mut outputs) {
                        failed = Some(e);
                    }
                    continue;
                }
            };
            let (value, after) = self.convert_in(home, scope, grouping, ast);
            grouping = after;
            match value {
                Ok(value) => {
                    let name = output_name(ast, alias, outputs.len());
                    outputs.push(output(scope, grouping.as_ref(), name, value));
                }
                Err(e) => failed = Some(e),
            }
        }
        match failed {
            Some(failed) => Err(failed),
            None => Ok((outputs, grouping)),
        }
    }

    fn wildcard(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        item: &SelectItem,
        outputs: &mut Vec<Output>,
    ) -> Planned<()> {
        let (relation, options) = match item {
            SelectItem::Wildcard(options) => (None, options),
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => (super::convert::plain_name(name), options),
            other => {
                return Err(self.refuse(
                    home,
                    other.span().start,
                    "this form of SELECT is not supported",
                    "name the columns",
                ));
            }
        };
        let bare = WildcardAdditionalOptions {
            wildcard_token: options.wildcard_token.clone(),
            ..Default::default()
        };
        if *options != bare {
            return Err(self.refuse(
                home,
                item.span().start,
                "EXCEPT, REPLACE and RENAME of * are not supported",
                "name the columns",
            ));
        }
        let before = outputs.len();
        for (i, column) in scope.columns.iter().enumerate() {
            let wanted = relation.is_none_or(|name| {
                column
                    .relation
                    .as_deref()
                    .is_some_and(|r| r.eq_ignore_ascii_case(name))
            });
            if wanted && !column.hidden {
                outputs.push(output(
                    scope,
                    None,
                    column.column.name.clone(),
                    scope.typed(i),
                ));
            }
        }
        if outputs.len() == before {
            let name = relation.unwrap_or("*");
            return Err(self.refuse(
                home,
                item.span().start,
                format!("there is no table {name} in FROM"),
                "use the alias if it has one",
            ));
        }
        Ok(())
    }

    /// OVER and what belongs to it stand in the query around one with GROUP BY.
    fn refuse_over_clauses(&mut self, home: &Home<'_>, select: &Select) -> Planned<()> {
        let window = select.named_window.first().map(|w| ("WINDOW", w.0.span));
        let qualify = select.qualify.as_ref().map(|q| ("QUALIFY", q.span()));
        let Some((what, span)) = window.or(qualify) else {
            return Ok(());
        };
        Err(self.refuse(
            home,
            span.start,
            format!("{what} cannot stand in a query with GROUP BY"),
            "group in a query in FROM, and write OVER in the query around it",
        ))
    }

    fn refuse_clauses(&mut self, home: &Home<'_>, select: &Select) -> Planned<()> {
        let start = select.select_token.0.span.start;
        for (given, what, hint) in [
            (
                select.top.is_some(),
                "TOP",
                "a stream has no end: filter with WHERE",
            ),
            (
                select.into.is_some(),
                "SELECT INTO",
                "write INSERT INTO table SELECT …",
            ),
            (
                !select.lateral_views.is_empty(),
                "LATERAL VIEW",
                "write CROSS JOIN UNNEST(array) AS t (column)",
            ),
            (select.prewhere.is_some(), "PREWHERE", "write WHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY", "remove it"),
            (
                !select.cluster_by.is_empty()
                    || !select.distribute_by.is_empty()
                    || !select.sort_by.is_empty(),
                "CLUSTER BY",
                "remove it",
            ),
            (
                select.value_table_mode.is_some()
                    || select.select_modifiers.is_some()
                    || select.exclude.is_some(),
                "this form of SELECT",
                "name the columns",
            ),
        ] {
            if given {
                return Err(self.refuse(home, start, format!("{what} is not supported yet"), hint));
            }
        }
        Ok(())
    }
}

fn output(scope: &Scope, grouping: Option<&Grouping>, name: CompactString, value: Typed) -> Output {
    let (role, rowtime) = match (&value.expr, grouping) {
        // The column of a call with OVER is not there yet.
        (Expr::Column(at), None) => scope
            .columns
            .get(*at)
            .map_or((Role::None, false), |c| (c.role, c.column.rowtime)),
        (Expr::Column(at), Some(grouping)) => grouping.role(*at),
        _ => (Role::None, false),
    };
    Output {
        name,
        value,
        rowtime,
        role,
    }
}

/// The name of an output column: its alias, the column it is, or Flink's `EXPR$n`.
fn output_name(ast: &Ast, alias: Option<&Ident>, position: usize) -> CompactString {
    match (alias, ast) {
        (Some(alias), _) => CompactString::from(&alias.value),
        (None, Ast::Identifier(name)) => CompactString::from(&name.value),
        (None, Ast::CompoundIdentifier(names)) => names
            .last()
            .map_or_else(CompactString::default, |n| CompactString::from(&n.value)),
        _ => CompactString::from(format!("EXPR${position}")),
    }
}
