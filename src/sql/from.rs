//! FROM: tables, queries, window functions, and arrays taken apart.

use compact_str::CompactString;
use sqlparser::ast::{
    Expr as Ast, FunctionArg, FunctionArgExpr, FunctionArguments, Join, JoinConstraint,
    JoinOperator, Spanned, TableAlias, TableFactor, TableWithJoins, Value as AstValue,
};
use sqlparser::tokenizer::Location;

use crate::plan::Operator;
use crate::types::{Column, Type};

use super::alarm;
use super::as_of::as_of;
use super::convert::plain_name;
use super::planner::{Home, Planned, Planner, Relation};
use super::scope::{Role, ScopeColumn};
use super::window;

impl Planner<'_> {
    /// The rows of a FROM clause.
    pub(super) fn from(
        &mut self,
        home: &Home<'_>,
        from: &[TableWithJoins],
        selection: &mut Option<&Ast>,
        at: Location,
    ) -> Planned<Relation> {
        let [first, others @ ..] = from else {
            return Err(self.refuse(
                home,
                at,
                "a query without FROM has no events",
                "write SELECT … FROM a table",
            ));
        };
        let mut relation = self.factor(home, &first.relation)?;
        for join in &first.joins {
            relation = self.join(home, relation, join)?;
        }
        // `FROM a, b WHERE …`: the condition of the join is that of the query.
        if let ([other], Some(on)) = (others, *selection)
            && other.joins.is_empty()
            && unnest_of(&other.relation).is_none()
        {
            let right = self.factor(home, &other.relation)?;
            *selection = None;
            let at = other.relation.span().start;
            return self.join_on(home, relation, right, [false, false], on, at);
        }
        for other in others {
            // `FROM t, UNNEST(a)` is a cross join.
            let Some(unnest) = unnest_of(&other.relation) else {
                let location = other.relation.span().start;
                return Err(self.refuse(
                    home,
                    location,
                    "a list of tables is joined only if there are two, with a condition",
                    "write JOIN b ON a.key = b.key AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '5' MINUTE",
                ));
            };
            relation = self.unnest(home, relation, &unnest, false)?;
            for join in &other.joins {
                relation = self.join(home, relation, join)?;
            }
        }
        Ok(relation)
    }

    fn factor(&mut self, home: &Home<'_>, factor: &TableFactor) -> Planned<Relation> {
        let at = factor.span().start;
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version,
                partitions,
                sample,
                with_ordinality: false,
                json_path: None,
                index_hints,
            } => {
                if version.is_some()
                    || sample.is_some()
                    || !with_hints.is_empty()
                    || !partitions.is_empty()
                    || !index_hints.is_empty()
                {
                    return Err(self.refuse(
                        home,
                        at,
                        "FOR SYSTEM_TIME can only be joined; TABLESAMPLE and hints are not supported",
                        "write FROM a JOIN t FOR SYSTEM_TIME AS OF a.ts AS b ON a.key = b.key",
                    ));
                }
                let [sqlparser::ast::ObjectNamePart::Identifier(name)] = name.0.as_slice() else {
                    return Err(self.refuse(
                        home,
                        at,
                        "names of catalogs and databases are not supported",
                        "write the name of the table alone",
                    ));
                };
                let relation = self.table(home, name)?;
                self.matched(home, relation, alias.as_ref())
            }
            TableFactor::Table {
                name,
                alias,
                args: Some(args),
                ..
            } => self.table_function(home, plain_name(name), &args.args, alias.as_ref(), at),
            TableFactor::TableFunction {
                expr: Ast::Function(call),
                alias,
            } => {
                let args = match &call.args {
                    FunctionArguments::List(list) => list.args.as_slice(),
                    _ => &[],
                };
                self.table_function(home, plain_name(&call.name), args, alias.as_ref(), at)
            }
            TableFactor::Derived {
                lateral: false,
                subquery,
                alias,
                sample: None,
            } => {
                let relation = self.query(home, subquery)?;
                self.matched(home, relation, alias.as_ref())
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => self.from(
                home,
                std::slice::from_ref(table_with_joins.as_ref()),
                &mut None,
                at,
            ),
            TableFactor::NestedJoin {
                table_with_joins,
                alias: Some(alias),
            } if home.types.pattern(&alias.name.value).is_some() => {
                let joined = std::slice::from_ref(table_with_joins.as_ref());
                let relation = self.from(home, joined, &mut None, at)?;
                self.matched(home, relation, Some(alias))
            }
            _ => Err(self.refuse(
                home,
                at,
                "this form of FROM is not supported",
                "read a table, a view, a query in parentheses or a window function",
            )),
        }
    }

    fn table_function(
        &mut self,
        home: &Home<'_>,
        name: Option<&str>,
        args: &[FunctionArg],
        alias: Option<&TableAlias>,
        at: Location,
    ) -> Planned<Relation> {
        let name = name.unwrap_or_default();
        if window::is_window(name) {
            let relation = self.window(home, name, args, at)?;
            return self.matched(home, relation, alias);
        }
        if name.eq_ignore_ascii_case(alarm::NAME) {
            let relation = self.alarm(home, args, at)?;
            return self.matched(home, relation, alias);
        }
        if name.eq_ignore_ascii_case("UNNEST") {
            return Err(self.refuse(
                home,
                at,
                "UNNEST needs a row to take apart",
                "write FROM t CROSS JOIN UNNEST(t.array) AS r (a, b)",
            ));
        }
        let message = format!("there is no table function {name}");
        Err(self.refuse(
            home,
            at,
            message,
            format!(
                "the table functions are {}, and {}",
                window::NAMES,
                alarm::NAME
            ),
        ))
    }

    fn join(&mut self, home: &Home<'_>, relation: Relation, join: &Join) -> Planned<Relation> {
        let at = join.relation.span().start;
        if let Some(as_of) = as_of(&join.relation) {
            return self.join_as_of(home, relation, &as_of, join);
        }
        let Some(unnest) = unnest_of(&join.relation) else {
            let right = self.factor(home, &join.relation)?;
            return self.join_streams(home, relation, right, join);
        };
        let outer = match &join.join_operator {
            JoinOperator::CrossJoin(JoinConstraint::None) => false,
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint)
                if is_true(constraint) =>
            {
                false
            }
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint)
                if is_true(constraint) =>
            {
                true
            }
            _ => {
                return Err(self.refuse(
                    home,
                    at,
                    "UNNEST can only be joined so",
                    "write CROSS JOIN UNNEST(…), or LEFT JOIN UNNEST(…) AS r (a) ON TRUE",
                ));
            }
        };
        self.unnest(home, relation, &unnest, outer)
    }

    fn unnest(
        &mut self,
        home: &Home<'_>,
        relation: Relation,
        unnest: &Unnest<'_>,
        outer: bool,
    ) -> Planned<Relation> {
        let relation = self.settled(home, relation);
        let at = unnest.array.span().start;
        if unnest.ordinality {
            return Err(self.refuse(
                home,
                at,
                "WITH ORDINALITY is not supported yet",
                "remove it",
            ));
        }
        let array = self.convert(home, &relation.scope, unnest.array)?;
        let Type::Array(item) = &array.ty else {
            return Err(self.refuse(
                home,
                at,
                format!("UNNEST takes an ARRAY, not {}", array.ty),
                "declare the column as ARRAY<…>",
            ));
        };
        let (rows, fields) = match item.as_ref() {
            Type::Row(fields) => (
                true,
                fields
                    .iter()
                    .map(|f| Column::new(f.name.clone(), f.ty.clone()))
                    .collect(),
            ),
            other => (false, vec![Column::new("EXPR$0", other.clone())]),
        };
        let mut columns: Vec<Column> = fields;
        let names: Vec<_> = unnest
            .alias
            .map(|alias| alias.columns.as_slice())
            .unwrap_or_default()
            .iter()
            .collect();
        if !names.is_empty() && names.len() != columns.len() {
            let message = format!(
                "UNNEST gives {} columns, and {} are named",
                columns.len(),
                names.len()
            );
            return Err(self.refuse(home, at, message, "name all of them: AS r (a, b)"));
        }
        for (column, name) in columns.iter_mut().zip(names) {
            column.name = CompactString::from(&name.name.value);
        }
        let operator = Operator::Unnest {
            array: array.expr,
            width: columns.len(),
            rows,
            outer,
        };
        let mut scope = relation.scope;
        let alias = unnest
            .alias
            .map(|alias| CompactString::from(&alias.name.value));
        scope
            .columns
            .extend(columns.into_iter().map(|column| ScopeColumn {
                relation: alias.clone(),
                column,
                role: Role::None,
                hidden: false,
            }));
        let node = self.graph.add(
            operator,
            vec![relation.node],
            scope.schema(),
            &home.query,
            &home.place,
        );
        Ok(Relation {
            node,
            scope,
            pending: None,
        })
    }
}

/// `UNNEST(array) AS alias (columns)`.
struct Unnest<'q> {
    array: &'q Ast,
    alias: Option<&'q TableAlias>,
    ordinality: bool,
}

fn unnest_of(factor: &TableFactor) -> Option<Unnest<'_>> {
    match factor {
        TableFactor::Table {
            name,
            alias,
            args: Some(args),
            with_ordinality,
            ..
        } => {
            let unnest = plain_name(name).is_some_and(|name| name.eq_ignore_ascii_case("UNNEST"));
            match args.args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(array))] if unnest => Some(Unnest {
                    array,
                    alias: alias.as_ref(),
                    ordinality: *with_ordinality,
                }),
                _ => None,
            }
        }
        TableFactor::UNNEST {
            alias,
            array_exprs,
            with_ordinality,
            with_offset: false,
            ..
        } => match array_exprs.as_slice() {
            [array] => Some(Unnest {
                array,
                alias: alias.as_ref(),
                ordinality: *with_ordinality,
            }),
            _ => None,
        },
        _ => None,
    }
}

fn is_true(constraint: &JoinConstraint) -> bool {
    matches!(constraint, JoinConstraint::On(Ast::Value(value)) if value.value == AstValue::Boolean(true))
}
