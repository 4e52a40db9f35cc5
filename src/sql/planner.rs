//! The state of planning: what is declared, what is planned already, what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use compact_str::CompactString;
use sqlparser::ast::{Expr as Ast, Ident};
use sqlparser::tokenizer::Location;

use crate::expr::{Expr, ResolveError, Typed};
use crate::plan::{Diagnostic, Node, NodeId, Operator, Place, Window, nearest};
use crate::types::{Schema, Timespan};

use super::Catalog;
use super::aggregate::Grouping;
use super::convert::Converter;
use super::graph::Graph;
use super::lex::place;
use super::over::Calls;
use super::scope::{Role, Scope};
use super::splice::Types;
use super::statement::ViewDef;
use super::table::TableDef;
use super::window::{LateTables, is_of_rows};

/// Something is wrong, and it has been reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed;

/// The result of a step of planning.
pub(super) type Planned<T> = Result<T, Failed>;

/// Rows with names.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    /// The node that gives them; for a window that is not assigned yet, the node before it.
    pub(super) node: NodeId,
    /// The names of its columns; those of a window that is not assigned yet are the last three.
    pub(super) scope: Scope,
    /// A window function that has not become a step: with a GROUP BY it becomes one with it.
    pub(super) pending: Option<(Window, usize)>,
}

/// Where a query stands: for messages and counters.
#[derive(Clone, Debug)]
pub(super) struct Home<'q> {
    /// The file.
    pub(super) file: &'q str,
    /// The INSERT or VIEW.
    pub(super) query: CompactString,
    /// Where it begins.
    pub(super) place: Place,
    /// The types of its casts.
    pub(super) types: &'q Types,
    /// How long state that has no bound of its own is kept, if that is said.
    pub(super) ttl: Option<Timespan>,
}

/// Plans statements.
pub(super) struct Planner<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) tables: &'a BTreeMap<String, TableDef>,
    pub(super) views: &'a BTreeMap<String, ViewDef>,
    pub(super) graph: Graph,
    pub(super) problems: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
    /// Tables and views that have been planned; `None` for those that are wrong.
    pub(super) planned: BTreeMap<String, Option<Relation>>,
    /// Views being planned, for finding circles.
    pub(super) open_views: Vec<String>,
    /// Common table expressions in reach, innermost last.
    pub(super) common: Vec<(String, Relation)>,
    /// Tables and views whose declarations are wrong: nobody is blamed for using them.
    pub(super) broken: Vec<String>,
    /// Tables and views that are read.
    pub(super) used: BTreeSet<String>,
    /// Tables that are written.
    pub(super) written: BTreeSet<String>,
    /// The options of each table that somebody asked for.
    pub(super) asked: BTreeMap<String, BTreeSet<String>>,
    /// While the columns of a SELECT are converted: its calls with OVER.
    pub(super) over: Option<Calls>,
    /// What becomes of late rows.
    pub(super) late: LateTables,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        tables: &'a BTreeMap<String, TableDef>,
        views: &'a BTreeMap<String, ViewDef>,
    ) -> Self {
        Self {
            catalog,
            tables,
            views,
            graph: Graph::default(),
            problems: Vec::new(),
            warnings: Vec::new(),
            planned: BTreeMap::new(),
            open_views: Vec::new(),
            common: Vec::new(),
            broken: Vec::new(),
            used: BTreeSet::new(),
            written: BTreeSet::new(),
            asked: BTreeMap::new(),
            over: None,
            late: LateTables::default(),
        }
    }

    /// Notes an error.
    pub(super) fn report(&mut self, problem: Diagnostic) -> Failed {
        self.problems.push(problem);
        Failed
    }

    /// Notes an error at a location of a query.
    pub(super) fn refuse(
        &mut self,
        home: &Home<'_>,
        location: Location,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Failed {
        let at = if location.line == 0 {
            home.place.clone()
        } else {
            place(home.file, location)
        };
        self.report(Diagnostic {
            place: at,
            message: message.into(),
            hint: Some(hint.into()),
        })
    }

    /// The typed expression over a scope.
    pub(super) fn convert(&mut self, home: &Home<'_>, scope: &Scope, ast: &Ast) -> Planned<Typed> {
        self.convert_in(home, scope, None, ast).0
    }

    /// The typed expression in a query with or without GROUP BY.
    pub(super) fn convert_in(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        grouping: Option<Grouping>,
        ast: &Ast,
    ) -> (Planned<Typed>, Option<Grouping>) {
        let mut converter = Converter {
            file: home.file,
            fallback: home.place.clone(),
            types: home.types,
            scope,
            grouping,
            pattern: None,
            over: self.over.take(),
        };
        let result = converter.convert(ast);
        let (grouping, over) = (converter.grouping, converter.over);
        self.over = over;
        (result.map_err(|problem| self.report(problem)), grouping)
    }

    /// A predicate over a scope.
    pub(super) fn convert_predicate(
        &mut self,
        home: &Home<'_>,
        scope: &Scope,
        ast: &Ast,
        of: &str,
    ) -> Planned<Typed> {
        let predicate = self.convert(home, scope, ast)?;
        self.want_bool(home, &predicate, ast, of)?;
        Ok(predicate)
    }

    /// Fails unless a value is a BOOLEAN.
    pub(super) fn want_bool(
        &mut self,
        home: &Home<'_>,
        value: &Typed,
        ast: &Ast,
        of: &str,
    ) -> Planned<()> {
        value.want_bool(of).map_err(|e| self.blame(home, ast, e))
    }

    /// Notes an error of types at a piece of syntax.
    pub(super) fn blame(&mut self, home: &Home<'_>, ast: &Ast, error: ResolveError) -> Failed {
        use sqlparser::ast::Spanned;
        let start = ast.span().start;
        let at = if start.line == 0 {
            home.place.clone()
        } else {
            place(home.file, start)
        };
        self.report(super::convert::at(at, error))
    }

    /// Adds a step to a relation whose rows keep their columns.
    pub(super) fn step(&mut self, home: &Home<'_>, relation: &mut Relation, operator: Operator) {
        let schema = self.graph.node(relation.node).schema.clone();
        relation.node = self.graph.add(
            operator,
            vec![relation.node],
            schema,
            &home.query,
            &home.place,
        );
    }

    /// The relation with its window assigned to its rows.
    pub(super) fn settled(&mut self, home: &Home<'_>, mut relation: Relation) -> Relation {
        let of_rows = is_of_rows(&relation);
        if let Some((window, time)) = relation.pending.take() {
            if of_rows {
                return self.rows_of_closed(home, &relation, window, time);
            }
            let schema = relation.scope.schema();
            let operator = Operator::WindowAssign { window, time };
            relation.node = self.graph.add(
                operator,
                vec![relation.node],
                schema,
                &home.query,
                &home.place,
            );
        }
        relation
    }

    /// A projection of a relation. `roles` says what the new columns are of a window.
    pub(super) fn project(
        &mut self,
        home: &Home<'_>,
        relation: &Relation,
        exprs: Vec<Expr>,
        schema: Schema,
        roles: &[Role],
    ) -> Relation {
        let mut scope = Scope::of(&schema, None);
        for (column, role) in scope.columns.iter_mut().zip(roles) {
            column.role = *role;
        }
        let (input, exprs) = self.over(relation.node, exprs);
        let operator = Operator::Project { exprs };
        let node = self
            .graph
            .add(operator, vec![input], schema, &home.query, &home.place);
        Relation {
            node,
            scope,
            pending: None,
        }
    }

    /// Expressions over a projection as expressions over what it projects, unless one of its values would be
    /// computed twice. A projection that nobody reads any more is left out in the end.
    fn over(&self, node: NodeId, exprs: Vec<Expr>) -> (NodeId, Vec<Expr>) {
        let Node {
            operator: Operator::Project { exprs: inner },
            inputs,
            ..
        } = self.graph.node(node)
        else {
            return (node, exprs);
        };
        let mut reads = vec![0_usize; inner.len()];
        for expr in &exprs {
            expr.for_each_column(&mut |column| reads[column] += 1);
        }
        let cheap = |expr: &Expr| matches!(expr, Expr::Column(_) | Expr::Literal(_));
        let twice = inner
            .iter()
            .zip(&reads)
            .any(|(expr, reads)| *reads > 1 && !cheap(expr));
        if twice {
            return (node, exprs);
        }
        let of = |column: usize| inner[column].clone();
        let exprs = exprs
            .into_iter()
            .map(|expr| expr.with_columns(&of))
            .collect();
        (inputs[0], exprs)
    }

    /// The declared or planned rows of this name.
    pub(super) fn named(&mut self, home: &Home<'_>, name: &Ident) -> Planned<Relation> {
        let wanted = &name.value;
        if let Some((_, relation)) = self
            .common
            .iter()
            .rev()
            .find(|(known, _)| same(known, wanted))
        {
            return Ok(relation.clone());
        }
        let known = find(self.tables, wanted).or_else(|| find(self.views, wanted));
        let Some(key) = known else {
            return Err(self.no_such(home, name));
        };
        self.used.insert(key.clone());
        if let Some(planned) = self.planned.get(&key) {
            return planned.clone().ok_or(Failed);
        }
        if self.open_views.contains(&key) {
            let circle = self.open_views.join(" → ");
            let message = format!("the view {key} refers to itself ({circle} → {key})");
            return Err(self.refuse(
                home,
                name.span.start,
                message,
                "a view can only use tables and views before it",
            ));
        }
        let planned = match (self.tables.get(&key), self.views.get(&key)) {
            (Some(table), _) => self.source(table),
            (_, Some(view)) => self.view(view),
            _ => Err(Failed),
        };
        self.planned.insert(key, planned.as_ref().ok().cloned());
        planned
    }

    fn no_such(&mut self, home: &Home<'_>, name: &Ident) -> Failed {
        if self.broken.iter().any(|broken| same(broken, &name.value)) {
            return Failed;
        }
        let known = self
            .tables
            .keys()
            .chain(self.views.keys())
            .chain(self.common.iter().map(|(name, _)| name));
        let hint = match nearest(&name.value, known.map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => "declare it with CREATE TABLE or CREATE VIEW".to_owned(),
        };
        self.refuse(
            home,
            name.span.start,
            format!("there is no table {}", name.value),
            hint,
        )
    }
}

/// The known spelling of a name: the same, or the only one that differs by case alone.
pub(super) fn find<T>(names: &BTreeMap<String, T>, wanted: &str) -> Option<String> {
    if names.contains_key(wanted) {
        return Some(wanted.to_owned());
    }
    let mut alike = names
        .keys()
        .filter(|known| known.eq_ignore_ascii_case(wanted));
    match (alike.next(), alike.next()) {
        (Some(only), None) => Some(only.clone()),
        _ => None,
    }
}

/// Whether two names mean the same.
pub(super) fn same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}
