//! GROUPING SETS, ROLLUP and CUBE: one aggregation for several GROUP BYs.
//!
//! As in Flink each row is given once for each set, and the set's number becomes a key; a key that is not in the set is
//! NULL. So the rows of a set in which `a` is missing stay apart from those in which `a` is NULL, and `GROUPING(a)` tells
//! them from each other. The windows are assigned before, and every set must name them.

use sqlparser::ast::{Expr as Ast, Function, FunctionArg, FunctionArgExpr};
use sqlparser::tokenizer::Location;

use crate::expr::{Comparison, Expr, ResolveError, Typed};
use crate::plan::{Diagnostic, Operator};
use crate::types::{Column, Type, Value};

use super::aggregate::Grouping;
use super::convert::Converter;
use super::planner::{Home, Planned, Planner, Relation};
use super::scope::{Role, ScopeColumn};

/// The sets of one GROUP BY: each row is aggregated once for each.
const MAX_SETS: usize = 64;

/// Which keys are in which set.
#[derive(Clone, Debug)]
pub(super) struct Sets {
    /// For each set the positions of its keys.
    members: Vec<Vec<usize>>,
}

impl Sets {
    /// Whether a key is in all sets, so that it is NULL only where its value is.
    pub(super) fn all_have(&self, key: usize) -> bool {
        self.members.iter().all(|set| set.contains(&key))
    }

    /// The sets that a key is in.
    fn with(&self, key: usize) -> Vec<Typed> {
        let members = self.members.iter().enumerate();
        let sets = members.filter(|(_, set)| set.contains(&key));
        sets.map(|(number, _)| set_number(number)).collect()
    }

    /// The keys as the aggregation computes them: NULL in the sets that do not have them. The set's number, the last, is
    /// in all.
    pub(super) fn keys(&self, mut keys: Vec<Typed>) -> Result<Vec<Typed>, ResolveError> {
        let Some(number) = keys.pop() else {
            return Ok(keys);
        };
        let mut split = Vec::with_capacity(keys.len() + 1);
        for (position, key) in keys.into_iter().enumerate() {
            split.push(if self.all_have(position) {
                key
            } else {
                let inside = number.clone().in_list(self.with(position))?;
                let absent = Typed::literal(Value::Null, Type::Null);
                Typed::case(vec![(inside, key)], absent)?
            });
        }
        split.push(number);
        Ok(split)
    }

    /// `GROUPING_ID(keys…)` of a row with this set's number: a bit for each, the first the highest; 1 where it is not in
    /// the set.
    fn grouping_id(&self, keys: &[usize], number: &Typed) -> Result<Typed, ResolveError> {
        let mut branches = Vec::with_capacity(self.members.len());
        for (i, set) in self.members.iter().enumerate() {
            let is_set = Typed::compare(Comparison::Eq, number.clone(), set_number(i))?;
            let bits = keys
                .iter()
                .fold(0, |bits, key| (bits << 1) | i64::from(!set.contains(key)));
            branches.push((is_set, Typed::literal(Value::Int(bits), Type::BigInt)));
        }
        Typed::case(branches, Typed::literal(Value::Int(0), Type::BigInt))
    }
}

fn set_number(number: usize) -> Typed {
    Typed::literal(Value::Int(number as i64), Type::Int) // at most MAX_SETS
}

/// Whether a function tells about the sets.
pub(super) fn is_grouping(name: &str) -> bool {
    ["GROUPING", "GROUPING_ID", "GROUP_ID"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}

/// The sets that the elements of a GROUP BY make together: the sets of one with the sets of the next, and so on.
/// `None` if there are more than [`MAX_SETS`].
fn combined(elements: &[Ast]) -> Option<Vec<Vec<&Ast>>> {
    let mut sets: Vec<Vec<&Ast>> = vec![Vec::new()];
    for element in elements {
        let more: Vec<Vec<&Ast>> = match element {
            Ast::GroupingSets(list) => list.iter().map(|set| set.iter().collect()).collect(),
            Ast::Rollup(list) => (0..=list.len())
                .rev()
                .map(|taken| list[..taken].iter().flatten().collect())
                .collect(),
            Ast::Cube(list) => {
                if list.len() > MAX_SETS.ilog2() as usize {
                    return None;
                }
                // The first element is the highest bit, so that it varies slowest and the whole set comes first.
                (0..1_usize << list.len())
                    .rev()
                    .map(|chosen| {
                        let bit = |i: usize| (chosen >> (list.len() - 1 - i)) & 1 == 1;
                        let taken = list.iter().enumerate().filter(|(i, _)| bit(*i));
                        taken.flat_map(|(_, keys)| keys).collect()
                    })
                    .collect()
            }
            Ast::Tuple(keys) => vec![keys.iter().collect()],
            key => vec![vec![key]],
        };
        if sets.len() * more.len() > MAX_SETS {
            return None;
        }
        sets = sets
            .iter()
            .flat_map(|set| {
                more.iter()
                    .map(move |other| set.iter().chain(other).copied().collect())
            })
            .collect();
    }
    Some(sets)
}

impl Planner<'_> {
    /// The keys of a GROUP BY beside the window, each once, and which of them are in which set; `None` if there is one
    /// set of all. Refuses sets that do not name the window.
    pub(super) fn group_keys(
        &mut self,
        home: &Home<'_>,
        relation: &Relation,
        elements: &[Ast],
        at: Location,
    ) -> Planned<(Vec<Typed>, Option<Sets>)> {
        let Some(sets) = combined(elements) else {
            return Err(self.refuse(
                home,
                at,
                format!("GROUP BY makes more than {MAX_SETS} grouping sets"),
                "list those that are needed: GROUPING SETS ((a, b), (a), ())",
            ));
        };
        let mut keys: Vec<Typed> = Vec::new();
        let mut members = Vec::with_capacity(sets.len());
        let mut failed = None;
        for set in &sets {
            let (mut positions, mut roles) = (Vec::new(), Vec::new());
            for ast in set {
                match self.group_key(home, &relation.scope, ast) {
                    Ok((key, Role::None)) => {
                        let known = keys.iter().position(|known| *known == key);
                        positions.push(known.unwrap_or_else(|| {
                            keys.push(key);
                            keys.len() - 1
                        }));
                    }
                    Ok((_, role)) => roles.push(role),
                    Err(e) => failed = Some(e),
                }
            }
            if let Some(failed) = failed {
                return Err(failed);
            }
            self.check_window(home, &relation.scope, &roles, at, elements.is_empty())?;
            members.push(positions);
        }
        let sets = (members.len() != 1).then_some(Sets { members });
        Ok((keys, sets))
    }

    /// The rows of a relation once for each set, with the set's number in a column that has no name.
    pub(super) fn once_for_each_set(
        &mut self,
        home: &Home<'_>,
        relation: Relation,
        sets: &Sets,
    ) -> (Relation, Typed) {
        let relation = self.settled(home, relation);
        let mut scope = relation.scope;
        let numbers = (0..sets.members.len() as i64).map(Value::Int).collect();
        let operator = Operator::Unnest {
            array: Expr::Literal(Value::Array(numbers)),
            width: 1,
            rows: false,
            outer: false,
        };
        let column = Column {
            nullable: false,
            ..Column::new("grouping set", Type::Int)
        };
        scope.columns.push(ScopeColumn {
            relation: None,
            column,
            role: Role::None,
            hidden: true,
        });
        let number = scope.typed(scope.columns.len() - 1);
        let node = self.graph.add(
            operator,
            vec![relation.node],
            scope.schema(),
            &home.query,
            &home.place,
        );
        let relation = Relation {
            node,
            scope,
            pending: None,
        };
        (relation, number)
    }
}

impl Converter<'_> {
    /// `GROUPING(a)` and `GROUPING_ID(a, b)`: 0 where a row's set has the key.
    pub(super) fn grouping(
        &mut self,
        name: &str,
        function: &Function,
        ast: &Ast,
    ) -> Result<Typed, Diagnostic> {
        // Set aside, so that columns of the input can be named.
        let Some(grouping) = self.grouping.take() else {
            let hint = "it stands in SELECT and HAVING of a query with GROUP BY";
            return Err(self.blame(ast, misused(name, hint)));
        };
        let value = self.grouping_of(&grouping, name, function, ast);
        self.grouping = Some(grouping);
        value
    }

    fn grouping_of(
        &mut self,
        grouping: &Grouping,
        name: &str,
        function: &Function,
        ast: &Ast,
    ) -> Result<Typed, Diagnostic> {
        let list = self.arguments(function, ast)?;
        let mut keys = Vec::new();
        for argument in &list.args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(key)) = argument else {
                return Err(self.blame(ast, misused(name, "write GROUPING(key)")));
            };
            let typed = self.convert(key)?;
            match grouping.position_of(&typed) {
                Some(position) => keys.push(position),
                None => {
                    let hint = "its arguments are keys of GROUP BY beside the window";
                    return Err(self.blame(key, misused(name, hint)));
                }
            }
        }
        let most = if name.eq_ignore_ascii_case("GROUPING") {
            1
        } else {
            62
        };
        if !(1..=most).contains(&keys.len()) {
            let hint = "write GROUPING(key), or GROUPING_ID(key, …) for several";
            return Err(self.blame(ast, misused(name, hint)));
        }
        match grouping.sets() {
            Some((sets, number)) => self.checked(ast, sets.grouping_id(&keys, &number)),
            None => Ok(Typed::literal(Value::Int(0), Type::BigInt)),
        }
    }
}

fn misused(name: &str, hint: &str) -> ResolveError {
    let message = format!("{} cannot be used like this", name.to_ascii_uppercase());
    ResolveError::hinted(message, hint)
}
