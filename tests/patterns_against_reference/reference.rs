//! A matcher straight from the standard's definition of preferment: it tries all ways to match from a row, the preferred
//! one first, over the rows of a whole partition, and takes the first that succeeds.

use super::pattern::{Aggregate, Condition, Navigation, Node, Operand, Query, Skip};

/// A row of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) number: i64,
    pub(crate) millis: i64,
    pub(crate) value: Option<i64>,
}

/// A match that is tried: its rows follow each other, each matched to a variable.
pub(crate) struct Attempt<'a> {
    rows: &'a [Row],
    start: usize,
    variables: Vec<usize>,
}

/// A value of a measure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Measured {
    Number(Option<i64>),
    Name(Option<usize>),
}

/// The measures of all matches of a partition whose rows are in order. `steps` bounds the work; `None` if it is too much.
pub(crate) fn matches(
    query: &Query,
    rows: &[Row],
    steps: &mut usize,
) -> Option<Vec<Vec<Measured>>> {
    let pattern = query.pattern.clone().preferred();
    let mut found = Vec::new();
    let mut start = 0;
    while start < rows.len() {
        let mut search = Search {
            query,
            ran_out: false,
            steps,
        };
        let mut attempt = Attempt {
            rows,
            start,
            variables: Vec::new(),
        };
        let matched = search.node(&pattern, &mut attempt, &mut |_, _| true);
        if *search.steps == 0 {
            return None;
        }
        if search.ran_out {
            // A preferred match may still come about with rows that have not come: nobody knows where the next begins.
            break;
        }
        if !matched || attempt.variables.is_empty() {
            start += 1;
            continue;
        }
        let number = found.len() as i64 + 1;
        let measures = query.measures.iter();
        found.push(
            measures
                .map(|measure| attempt.measured(measure, number))
                .collect(),
        );
        let length = attempt.variables.len();
        let position = |variable: usize, last: bool| {
            let mut at = attempt.variables.iter();
            let is = |v: &usize| *v == variable;
            if last {
                at.rposition(is)
            } else {
                at.position(is)
            }
        };
        start += match query.skip {
            Skip::PastLastRow => length,
            Skip::ToNextRow => 1,
            Skip::ToFirst(variable) => position(variable, false).unwrap_or(0).max(1),
            Skip::ToLast(variable) => position(variable, true).unwrap_or(0).max(1),
        };
    }
    Some(found)
}

struct Search<'a> {
    query: &'a Query,
    /// Whether a match that was tried would have gone on with a row that has not come.
    ran_out: bool,
    steps: &'a mut usize,
}

/// What is to be matched behind a node.
type Rest<'r> = &'r mut dyn FnMut(&mut Search<'_>, &mut Attempt<'_>) -> bool;

impl Search<'_> {
    /// Tries the ways to match a node and what is behind it. The attempt is what matched, or as it was.
    fn node(&mut self, node: &Node, attempt: &mut Attempt<'_>, rest: Rest<'_>) -> bool {
        if *self.steps == 0 {
            return false;
        }
        *self.steps -= 1;
        match node {
            Node::Variable(variable) => {
                let at = attempt.start + attempt.variables.len();
                let Some(row) = attempt.rows.get(at) else {
                    // Once time has passed WITHIN no further row can belong to it.
                    self.ran_out |= self.query.within.is_none();
                    return false;
                };
                let first = attempt.rows[attempt.start].millis;
                if self.query.within.is_some_and(|w| row.millis - first >= w) {
                    return false;
                }
                attempt.variables.push(*variable);
                let condition = &self.query.conditions[*variable];
                if attempt.meets(condition) && rest(self, attempt) {
                    return true;
                }
                attempt.variables.pop();
                false
            }
            Node::Sequence(nodes) => self.sequence(nodes, attempt, rest),
            Node::Either(nodes) => nodes.iter().any(|node| self.node(node, attempt, rest)),
            Node::Permute(nodes) => {
                let orders = orders(nodes.len());
                orders.iter().any(|order| {
                    let nodes: Vec<Node> = order.iter().map(|at| nodes[*at].clone()).collect();
                    self.sequence(&nodes, attempt, rest)
                })
            }
            Node::Repeat { .. } => self.repeat(node, 0, attempt, rest),
        }
    }

    fn sequence(&mut self, nodes: &[Node], attempt: &mut Attempt<'_>, rest: Rest<'_>) -> bool {
        match nodes {
            [] => rest(self, attempt),
            [first, others @ ..] => self.node(first, attempt, &mut |search, attempt| {
                search.sequence(others, attempt, rest)
            }),
        }
    }

    fn repeat(
        &mut self,
        node: &Node,
        done: u32,
        attempt: &mut Attempt<'_>,
        rest: Rest<'_>,
    ) -> bool {
        let Node::Repeat {
            node: body,
            min,
            max,
            greedy,
        } = node
        else {
            unreachable!("only repetitions are repeated");
        };
        let once_more = |search: &mut Self, attempt: &mut Attempt<'_>, rest: Rest<'_>| {
            if max.is_some_and(|max| done >= max) {
                return false;
            }
            let before = attempt.variables.len();
            search.node(body, attempt, &mut |search, attempt| {
                if attempt.variables.len() == before {
                    // A round without a row is the last: the rounds that are missing are like it.
                    return rest(search, attempt);
                }
                search.repeat(node, done + 1, attempt, rest)
            })
        };
        if done < *min {
            once_more(self, attempt, rest)
        } else if *greedy {
            once_more(self, attempt, rest) || rest(self, attempt)
        } else {
            rest(self, attempt) || once_more(self, attempt, rest)
        }
    }
}

/// The orders of so many things, as the standard lists them.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    fn go(left: &[usize], so_far: &[usize], all: &mut Vec<Vec<usize>>) {
        if left.is_empty() {
            all.push(so_far.to_vec());
        }
        for next in left {
            let others: Vec<usize> = left.iter().copied().filter(|at| at != next).collect();
            go(&others, &[so_far, &[*next]].concat(), all);
        }
    }
    go(&(0..count).collect::<Vec<_>>(), &[], &mut all);
    all
}

impl Attempt<'_> {
    fn meets(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Any => true,
            Condition::Compare(left, operator, right) => {
                match (self.value(left), self.value(right)) {
                    (Some(left), Some(right)) => operator.holds(left, right),
                    _ => false,
                }
            }
            Condition::IsNull(operand) => self.value(operand).is_none(),
            Condition::And(conditions) => conditions.iter().all(|c| self.meets(c)),
            Condition::Or(conditions) => conditions.iter().any(|c| self.meets(c)),
        }
    }

    /// The place in the rows, and in the match if it is in it.
    fn place(&self, at: &Navigation) -> Option<usize> {
        let positions = self.variables.iter().enumerate();
        let mut positions: Vec<usize> = positions
            .filter(|(_, variable)| at.of.is_empty() || at.of.contains(variable))
            .map(|(position, _)| position)
            .collect();
        if !at.first {
            positions.reverse();
        }
        (self.start + positions.get(at.skip)?).checked_sub(at.back)
    }

    fn value(&self, operand: &Operand) -> Option<i64> {
        match operand {
            Operand::Constant(value) => Some(*value),
            Operand::Value(at) => self.rows[self.place(at)?].value,
            Operand::Number(at) => Some(self.rows[self.place(at)?].number),
            Operand::Aggregate(aggregate, of) => {
                let rows = self.variables.iter().enumerate();
                let rows = rows.filter(|(_, v)| of.is_empty() || of.contains(v));
                let values = rows.filter_map(|(at, _)| self.rows[self.start + at].value);
                let mut values: Vec<i64> = values.collect();
                match aggregate {
                    Aggregate::Count => Some(values.len() as i64),
                    Aggregate::CountDistinct => {
                        values.sort_unstable();
                        values.dedup();
                        Some(values.len() as i64)
                    }
                    Aggregate::Sum if values.is_empty() => None,
                    Aggregate::Sum => Some(values.iter().sum()),
                    Aggregate::Min => values.into_iter().min(),
                    Aggregate::Max => values.into_iter().max(),
                }
            }
            Operand::MatchNumber | Operand::Classifier(_) => {
                unreachable!("only measures have it")
            }
        }
    }

    fn measured(&self, measure: &Operand, number: i64) -> Measured {
        match measure {
            Operand::MatchNumber => Measured::Number(Some(number)),
            Operand::Classifier(at) => {
                let place = self.place(at).and_then(|at| at.checked_sub(self.start));
                Measured::Name(place.map(|at| self.variables[at]))
            }
            other => Measured::Number(self.value(other)),
        }
    }
}
