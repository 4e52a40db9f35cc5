//! `JOIN t FOR SYSTEM_TIME AS OF …`: with the latest row of another stream, or with a table from a file.

use sqlparser::ast::{
    Expr as Ast, Ident, Join, JoinConstraint, JoinOperator, ObjectNamePart, Spanned, TableAlias,
    TableFactor, TableVersion,
};
use sqlparser::tokenizer::Location;

use crate::expr::Expr;
use crate::plan::{JoinSide, LookupJoin, Operator, TemporalJoin};
use crate::types::Timespan;

use super::join::Condition;
use super::planner::{Failed, Home, Planned, Planner, Relation, find};
use super::scope::{Role, Scope, ScopeColumn};
use super::table::TableDef;

/// `table FOR SYSTEM_TIME AS OF time AS alias`.
pub(super) struct AsOf<'q> {
    name: &'q Ident,
    time: &'q Ast,
    alias: Option<&'q TableAlias>,
}

/// The table of a join that is as of some time.
pub(super) fn as_of(factor: &TableFactor) -> Option<AsOf<'_>> {
    let TableFactor::Table {
        name,
        alias,
        version: Some(TableVersion::ForSystemTimeAsOf(time)),
        args: None,
        ..
    } = factor
    else {
        return None;
    };
    let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else {
        return None;
    };
    let alias = alias.as_ref();
    Some(AsOf { name, time, alias })
}

/// Left and right, joined.
struct Joined {
    scope: Scope,
    /// Equal values, over each side's own row.
    keys: [Vec<Expr>; 2],
    residual: Option<Expr>,
}

impl Planner<'_> {
    /// `left [LEFT] JOIN table FOR SYSTEM_TIME AS OF time ON …`.
    pub(super) fn join_as_of(
        &mut self,
        home: &Home<'_>,
        left: Relation,
        as_of: &AsOf<'_>,
        join: &Join,
    ) -> Planned<Relation> {
        let at = join.relation.span().start;
        let (outer, on) = match &join.join_operator {
            JoinOperator::Join(JoinConstraint::On(on))
            | JoinOperator::Inner(JoinConstraint::On(on)) => (false, on),
            JoinOperator::Left(JoinConstraint::On(on))
            | JoinOperator::LeftOuter(JoinConstraint::On(on)) => (true, on),
            _ => {
                return Err(self.refuse(
                    home,
                    at,
                    "FOR SYSTEM_TIME AS OF can only be joined so",
                    "write [LEFT] JOIN t FOR SYSTEM_TIME AS OF a.ts AS b ON a.key = b.key",
                ));
            }
        };
        let left = self.settled(home, left);
        let tables = self.tables;
        let table = find(tables, &as_of.name.value).map(|name| &tables[&name]);
        match table {
            Some(table) if is_lookup(table) => {
                self.lookup_join(home, left, as_of, table, (outer, on), at)
            }
            _ => self.temporal_join(home, left, as_of, (outer, on), at),
        }
    }

    fn lookup_join(
        &mut self,
        home: &Home<'_>,
        left: Relation,
        as_of: &AsOf<'_>,
        table: &TableDef,
        (outer, on): (bool, &Ast),
        at: Location,
    ) -> Planned<Relation> {
        // A table has no history: whatever time is asked for, it is as it is now. But the time must be one.
        let time = self.convert(home, &left.scope, as_of.time)?;
        if !time.ty.is_timestamp() {
            return Err(self.no_time(home, as_of, at));
        }
        let (id, mut scope) = self.lookup_table(table)?;
        self.used.insert(table.name.value.clone());
        self.name_columns(home, &mut scope, as_of.alias)?;
        let width = scope.columns.len();
        let joined = self.joined(home, &left.scope, scope, outer, on, at)?;
        let [keys, table_keys] = joined.keys;
        let operator = Operator::LookupJoin(Box::new(LookupJoin {
            table: id,
            keys,
            table_keys,
            residual: joined.residual,
            outer,
            width,
        }));
        Ok(self.joined_relation(home, operator, vec![left.node], joined.scope))
    }

    fn temporal_join(
        &mut self,
        home: &Home<'_>,
        left: Relation,
        as_of: &AsOf<'_>,
        (outer, on): (bool, &Ast),
        at: Location,
    ) -> Planned<Relation> {
        let time = self.convert(home, &left.scope, as_of.time)?;
        let left_time = match time.expr {
            Expr::Column(column) if left.scope.columns[column].column.rowtime => column,
            _ => return Err(self.no_time(home, as_of, at)),
        };
        let mut right = self.named(home, as_of.name)?;
        self.name_columns(home, &mut right.scope, as_of.alias)?;
        let right = self.settled(home, right);
        let mut times = right.scope.columns.iter().enumerate();
        let Some((right_time, _)) = times.find(|(_, column)| column.column.rowtime) else {
            let name = &as_of.name.value;
            return Err(self.refuse(
                home,
                at,
                format!("the versions of {name} need a time, and it has no watermark"),
                "declare WATERMARK FOR ts AS ts, or read it from a file: 'connector' = 'filesystem' without a watermark",
            ));
        };
        let widths = [left.scope.columns.len(), right.scope.columns.len()];
        let joined = self.joined(home, &left.scope, right.scope, outer, on, at)?;
        let [left_keys, right_keys] = joined.keys;
        let side = |time, keys, outer, width| JoinSide {
            time,
            shift: Timespan::ZERO,
            keys,
            outer,
            width,
        };
        let operator = Operator::TemporalJoin(Box::new(TemporalJoin {
            sides: [
                side(left_time, left_keys, outer, widths[0]),
                side(right_time, right_keys, false, widths[1]),
            ],
            residual: joined.residual,
        }));
        let inputs = vec![left.node, right.node];
        Ok(self.joined_relation(home, operator, inputs, joined.scope))
    }

    fn no_time(&mut self, home: &Home<'_>, as_of: &AsOf<'_>, at: Location) -> Failed {
        let span = as_of.time.span().start;
        let at = if span.line == 0 { at } else { span };
        self.refuse(
            home,
            at,
            "FOR SYSTEM_TIME AS OF needs the event time of the rows before it",
            "write FOR SYSTEM_TIME AS OF a.ts, where a declares WATERMARK FOR ts",
        )
    }

    /// The columns and the condition of a join as of a time. Times of the right side are times no more: what is joined
    /// has the time of the left.
    fn joined(
        &mut self,
        home: &Home<'_>,
        left: &Scope,
        right: Scope,
        outer: bool,
        on: &Ast,
        at: Location,
    ) -> Planned<Joined> {
        let width = left.columns.len();
        let mut scope = left.clone();
        scope.columns.extend(right.columns);
        for column in &mut scope.columns[width..] {
            column.column.rowtime = false;
            column.role = Role::None;
        }
        let predicate = self.convert_predicate(home, &scope, on, "ON")?;
        let condition = Condition::of_values(predicate.expr, &scope, width);
        let (keys, residual) = condition.into_keys(width);
        if keys[0].is_empty() {
            return Err(self.refuse(
                home,
                at,
                "a join as of a time needs a column that is equal on both sides",
                "write ON a.key = b.key",
            ));
        }
        for column in &mut scope.columns[width..] {
            column.column.nullable |= outer;
        }
        Ok(Joined {
            scope,
            keys,
            residual,
        })
    }

    fn joined_relation(
        &mut self,
        home: &Home<'_>,
        operator: Operator,
        inputs: Vec<crate::plan::NodeId>,
        scope: Scope,
    ) -> Relation {
        let node = self
            .graph
            .add(operator, inputs, scope.schema(), &home.query, &home.place);
        Relation {
            node,
            scope,
            pending: None,
        }
    }

    fn name_columns(
        &mut self,
        home: &Home<'_>,
        scope: &mut Scope,
        alias: Option<&TableAlias>,
    ) -> Planned<()> {
        let columns: &mut Vec<ScopeColumn> = &mut scope.columns;
        let Some(alias) = alias else { return Ok(()) };
        if !alias.columns.is_empty() && alias.columns.len() != columns.len() {
            let message = format!(
                "{} names are given for {} columns",
                alias.columns.len(),
                columns.len()
            );
            let at = alias.name.span.start;
            return Err(self.refuse(home, at, message, "name all columns or none"));
        }
        for (column, name) in columns.iter_mut().zip(&alias.columns) {
            column.column.name = name.name.value.as_str().into();
        }
        for column in columns {
            column.relation = Some(alias.name.value.as_str().into());
        }
        Ok(())
    }
}

/// Whether a table is a file that has no time of its own, and so no history.
pub(super) fn is_lookup(table: &TableDef) -> bool {
    let file = |o: &super::table::OptionDef| o.key == "connector" && o.value == "filesystem";
    table.watermark.is_none() && table.options.iter().any(file)
}
