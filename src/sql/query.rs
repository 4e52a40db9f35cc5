//! Queries: views, WITH, UNION ALL, names of columns.

use sqlparser::ast::{Ident, Query, SetExpr, SetOperator, SetQuantifier, Spanned, TableAlias};

use compact_str::CompactString;

use super::planner::{Home, Planned, Planner, Relation};
use super::scope::{Role, Scope, ScopeColumn};
use super::statement::ViewDef;
use crate::expr::common_type;
use crate::plan::{Diagnostic, Operator};

impl Planner<'_> {
    /// The rows of a view.
    pub(super) fn view(&mut self, view: &ViewDef) -> Planned<Relation> {
        let query = CompactString::from(format!("VIEW {}", view.name.value));
        let home = Home {
            file: &view.place.file,
            query,
            place: view.place.clone(),
            types: &view.query.types,
            ttl: view.ttl,
        };
        self.open_views.push(view.name.value.clone());
        // The names of a query around the view are not in reach inside of it.
        let common = std::mem::take(&mut self.common);
        let planned = self.query(&home, &view.query.ast);
        self.common = common;
        self.open_views.pop();
        let mut relation = planned?;
        self.rename(&home, &mut relation, &view.columns)?;
        self.refuse_twins(&home, &relation)?;
        Ok(relation)
    }

    /// The rows of a query.
    pub(super) fn query(&mut self, home: &Home<'_>, query: &Query) -> Planned<Relation> {
        let mut refused = None;
        for (given, what, hint) in [
            (
                query.order_by.is_some(),
                "ORDER BY",
                "events are given as they come: remove it",
            ),
            (
                query.limit_clause.is_some() || query.fetch.is_some(),
                "LIMIT",
                "a stream has no end: remove it, or filter with WHERE",
            ),
            (
                !query.locks.is_empty() || query.for_clause.is_some(),
                "FOR",
                "remove it",
            ),
            (
                query.settings.is_some() || query.format_clause.is_some(),
                "SETTINGS",
                "remove it",
            ),
            (
                !query.pipe_operators.is_empty(),
                "|>",
                "write nested queries",
            ),
        ] {
            if given {
                let location = query
                    .order_by
                    .as_ref()
                    .map_or_else(|| query.span().start, |o| o.span().start);
                refused = Some(self.refuse(
                    home,
                    location,
                    format!("{what} is not supported on a stream"),
                    hint,
                ));
            }
        }
        let outer = self.common.len();
        if let Some(with) = &query.with {
            if with.recursive {
                refused = Some(self.refuse(
                    home,
                    with.span().start,
                    "WITH RECURSIVE is not supported",
                    "remove RECURSIVE",
                ));
            }
            for cte in &with.cte_tables {
                let planned = self.query(home, &cte.query).and_then(|mut relation| {
                    self.alias(home, &mut relation, Some(&cte.alias))?;
                    Ok(relation)
                });
                match planned {
                    Ok(relation) => self.common.push((cte.alias.name.value.clone(), relation)),
                    Err(failed) => refused = Some(failed),
                }
            }
        }
        let result = match refused {
            Some(failed) => Err(failed),
            None => self.body(home, &query.body),
        };
        self.common.truncate(outer);
        result
    }

    fn body(&mut self, home: &Home<'_>, body: &SetExpr) -> Planned<Relation> {
        match body {
            SetExpr::Select(select) => self.select(home, select),
            SetExpr::Query(query) => self.query(home, query),
            SetExpr::SetOperation { .. } => self.union(home, body),
            other => {
                let location = other.span().start;
                Err(self.refuse(
                    home,
                    location,
                    "only SELECT and UNION ALL are supported here",
                    "write SELECT … FROM a table",
                ))
            }
        }
    }

    fn union(&mut self, home: &Home<'_>, body: &SetExpr) -> Planned<Relation> {
        // Chains lean to the left.
        let mut parts = Vec::new();
        let mut first = body;
        while let SetExpr::SetOperation {
            left,
            op,
            set_quantifier,
            right,
        } = first
        {
            if *op != SetOperator::Union || *set_quantifier != SetQuantifier::All {
                let location = right.span().start;
                let message = match op {
                    SetOperator::Union => {
                        "UNION without ALL is not supported on a stream".to_owned()
                    }
                    op => format!("{op} is not supported on a stream"),
                };
                return Err(self.refuse(home, location, message, "write UNION ALL"));
            }
            parts.push(right.as_ref());
            first = left;
        }
        parts.push(first);
        parts.reverse();
        let planned: Vec<Planned<Relation>> =
            parts.iter().map(|part| self.body(home, part)).collect();
        let mut relations = Vec::with_capacity(planned.len());
        for relation in planned {
            let relation = self.settled(home, relation?);
            relations.push(relation);
        }
        let width = relations[0].scope.columns.len();
        let mut columns: Vec<ScopeColumn> = relations[0].scope.columns.clone();
        for (relation, part) in relations.iter().zip(&parts).skip(1) {
            if relation.scope.columns.len() != width {
                let message = format!(
                    "the queries of UNION ALL have {width} and {} columns",
                    relation.scope.columns.len()
                );
                return Err(self.refuse(
                    home,
                    part.span().start,
                    message,
                    "give each the same columns",
                ));
            }
            for (column, other) in columns.iter_mut().zip(&relation.scope.columns) {
                let (a, b) = (&column.column.ty, &other.column.ty);
                let Some(common) = common_type(a, b) else {
                    let message = format!(
                        "the column {} of UNION ALL is {a} in one query and {b} in another",
                        column.column.name
                    );
                    return Err(self.refuse(
                        home,
                        part.span().start,
                        message,
                        "convert one with CAST",
                    ));
                };
                column.column.ty = common;
                column.column.nullable |= other.column.nullable;
                column.column.rowtime &= other.column.rowtime;
                if column.role != other.role {
                    column.role = Role::None;
                }
                column.relation = None;
            }
        }
        let scope = Scope { columns };
        let schema = scope.schema();
        let mut inputs = Vec::with_capacity(relations.len());
        for relation in &relations {
            let mut exprs = Vec::with_capacity(width);
            let mut changed = false;
            for (i, column) in scope.columns.iter().enumerate() {
                let value = relation.scope.typed(i);
                changed |= value.ty != column.column.ty;
                exprs.push(
                    value
                        .cast(&column.column.ty, false)
                        .map_err(|e| {
                            self.refuse(home, body.span().start, e.message, "convert it with CAST")
                        })?
                        .expr,
                );
            }
            inputs.push(if changed {
                self.project(home, relation, exprs, schema.clone(), &[])
                    .node
            } else {
                relation.node
            });
        }
        let node = self
            .graph
            .add(Operator::Union, inputs, schema, &home.query, &home.place);
        Ok(Relation {
            node,
            scope,
            pending: None,
        })
    }

    /// Gives a relation an alias, and its columns new names.
    pub(super) fn alias(
        &mut self,
        home: &Home<'_>,
        relation: &mut Relation,
        alias: Option<&TableAlias>,
    ) -> Planned<()> {
        let Some(alias) = alias else {
            return Ok(());
        };
        let names: Vec<Ident> = alias.columns.iter().map(|c| c.name.clone()).collect();
        self.rename(home, relation, &names)?;
        for column in &mut relation.scope.columns {
            column.relation = Some(CompactString::from(&alias.name.value));
        }
        Ok(())
    }

    fn rename(&mut self, home: &Home<'_>, relation: &mut Relation, names: &[Ident]) -> Planned<()> {
        let Some(first) = names.first() else {
            return Ok(());
        };
        let width = relation.scope.columns.len();
        if names.len() != width {
            let message = format!("{} names are given for {width} columns", names.len());
            return Err(self.refuse(home, first.span.start, message, "name all columns or none"));
        }
        for (column, name) in relation.scope.columns.iter_mut().zip(names) {
            column.column.name = CompactString::from(&name.value);
        }
        Ok(())
    }

    /// A view cannot have two columns of one name: neither could be used.
    fn refuse_twins(&mut self, home: &Home<'_>, relation: &Relation) -> Planned<()> {
        let columns = &relation.scope.columns;
        for (i, column) in columns.iter().enumerate() {
            if columns[..i]
                .iter()
                .any(|other| other.column.name == column.column.name)
            {
                let problem = Diagnostic {
                    place: home.place.clone(),
                    message: format!("the view has two columns {}", column.column.name),
                    hint: Some("rename one with AS".to_owned()),
                };
                return Err(self.report(problem));
            }
        }
        Ok(())
    }
}
