//! A matcher straight from the standard's definition of preferment: it tries all ways to match from a row, the preferred
//! one first, over the rows of a whole partition, and takes the first that succeeds.

use super::pattern::{Aggregate, Condition, Given, Navigation, Node, Operand, Query, Skip};

/// A row of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) number: i64,
    pub(crate) millis: i64,
    pub(crate) value: Option<i64>,
}

/// A match that is tried: its rows follow each other, each matched to a variable.
#[derive(Clone)]
pub(crate) struct Attempt<'a> {
    /// The rows of the partition.
    rows: &'a [Row],
    /// How many of them can be matched: for each, the rows behind it that are read are known.
    ready: usize,
    start: usize,
    variables: Vec<usize>,
    /// Whether each row is given.
    shown: Vec<bool>,
    /// The last row, if it is not the one behind the others.
    last: Option<usize>,
}

/// A value of a measure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Measured {
    Number(Option<i64>),
    Name(Option<usize>),
}

/// What is given of all matches of a partition whose rows are in order: for each row that is given its number, where all
/// rows are given, and the measures. `steps` bounds the work; `None` if it is too much.
pub(crate) fn matches(
    query: &Query,
    rows: &[Row],
    steps: &mut usize,
) -> Option<Vec<Vec<Measured>>> {
    let pattern = query.pattern.clone().preferred();
    let ready = rows.len().saturating_sub(query.lookahead());
    let mut given = Vec::new();
    let mut number = 0;
    let mut start = 0;
    while start < ready {
        let mut search = Search {
            query,
            ran_out: false,
            timeout: None,
            steps,
        };
        let mut attempt = Attempt {
            rows,
            ready,
            start,
            variables: Vec::new(),
            shown: Vec::new(),
            last: None,
        };
        let mut matched = search.node(&pattern, true, &mut attempt, &mut |_, _| true);
        if *search.steps == 0 {
            return None;
        }
        if search.ran_out {
            // A preferred match may still come about with rows that have not come.
            if query.is_ordered() {
                break;
            }
            start += 1;
            continue;
        }
        let timeout = search.timeout;
        let timeout = timeout.filter(|_| query.given.timeouts() && !matched);
        let timed_out = timeout.is_some();
        if let Some((variables, shown)) = timeout {
            (attempt.variables, attempt.shown) = (variables, shown);
            matched = true;
        }
        if matched {
            number += 1;
            attempt.give(query, number, &mut given);
        }
        let length = attempt.variables.len();
        if !matched || timed_out || length == 0 {
            start += 1;
            continue;
        }
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
    Some(given)
}

struct Search<'a> {
    query: &'a Query,
    /// Whether a match that was tried would have gone on with a row that has not come.
    ran_out: bool,
    /// The preferred attempt that would have gone on but for the end of WITHIN.
    timeout: Option<(Vec<usize>, Vec<bool>)>,
    steps: &'a mut usize,
}

/// What is to be matched behind a node.
type Rest<'r> = &'r mut dyn FnMut(&mut Search<'_>, &mut Attempt<'_>) -> bool;

impl Search<'_> {
    /// Tries the ways to match a node and what is behind it. The attempt is what matched, or as it was.
    fn node(
        &mut self,
        node: &Node,
        shown: bool,
        attempt: &mut Attempt<'_>,
        rest: Rest<'_>,
    ) -> bool {
        if *self.steps == 0 {
            return false;
        }
        *self.steps -= 1;
        match node {
            Node::Variable(variable) => self.variable(*variable, shown, attempt, rest),
            Node::Start => {
                attempt.start == 0 && attempt.variables.is_empty() && rest(self, attempt)
            }
            Node::Absent(variable) => self.stays_away(*variable, attempt) && rest(self, attempt),
            Node::Excluded(node) => self.node(node, false, attempt, rest),
            Node::Sequence(nodes) => self.sequence(nodes, shown, attempt, rest),
            Node::Either(nodes) => {
                let mut nodes = nodes.iter();
                nodes.any(|node| self.node(node, shown, attempt, rest))
            }
            Node::Permute(nodes) => {
                let orders = orders(nodes.len());
                orders.iter().any(|order| {
                    let nodes: Vec<Node> = order.iter().map(|at| nodes[*at].clone()).collect();
                    self.sequence(&nodes, shown, attempt, rest)
                })
            }
            Node::Repeat { .. } => self.repeat(node, shown, 0, attempt, rest),
        }
    }

    fn variable(
        &mut self,
        variable: usize,
        shown: bool,
        attempt: &mut Attempt<'_>,
        rest: Rest<'_>,
    ) -> bool {
        let at = attempt.start + attempt.variables.len();
        let first = attempt.rows[attempt.start].millis;
        let within = self.query.within;
        match attempt.rows[..attempt.ready].get(at) {
            Some(row) if within.is_none_or(|within| row.millis - first < within) => {}
            // Once time has passed WITHIN no further row can belong to it; but where rows behind a row are read, only a
            // row tells that it has passed.
            None if within.is_none() || attempt.ready < attempt.rows.len() => {
                self.ran_out = true;
                return false;
            }
            _ => {
                if !attempt.variables.is_empty() {
                    let so_far = || (attempt.variables.clone(), attempt.shown.clone());
                    self.timeout.get_or_insert_with(so_far);
                }
                return false;
            }
        }
        attempt.variables.push(variable);
        attempt.shown.push(shown);
        if attempt.meets(&self.query.conditions[variable]) && rest(self, attempt) {
            return true;
        }
        attempt.variables.pop();
        attempt.shown.pop();
        false
    }

    /// Whether no row behind the attempt meets the condition of a variable before WITHIN has passed.
    fn stays_away(&self, variable: usize, attempt: &Attempt<'_>) -> bool {
        let first = attempt.rows[attempt.start].millis;
        let behind = attempt.start + attempt.variables.len();
        let within = self.query.within.expect("absence has an end");
        let mut looked_at = attempt.clone();
        looked_at.variables.push(variable);
        let mut places = behind..attempt.rows.len();
        !places.any(|at| {
            looked_at.last = Some(at);
            attempt.rows[at].millis - first < within
                && looked_at.meets(&self.query.conditions[variable])
        })
    }

    fn sequence(
        &mut self,
        nodes: &[Node],
        shown: bool,
        attempt: &mut Attempt<'_>,
        rest: Rest<'_>,
    ) -> bool {
        match nodes {
            [] => rest(self, attempt),
            [first, others @ ..] => self.node(first, shown, attempt, &mut |search, attempt| {
                search.sequence(others, shown, attempt, rest)
            }),
        }
    }

    fn repeat(
        &mut self,
        node: &Node,
        shown: bool,
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
            search.node(body, shown, attempt, &mut |search, attempt| {
                if attempt.variables.len() == before {
                    // A round without a row is the last: the rounds that are missing are like it.
                    return rest(search, attempt);
                }
                search.repeat(node, shown, done + 1, attempt, rest)
            })
        };
        if done < *min {
            return once_more(self, attempt, rest);
        }
        if !*greedy && rest(self, attempt) {
            return true;
        }
        once_more(self, attempt, rest) || (*greedy && rest(self, attempt))
    }
}

/// The orders of so many things, as the standard lists them.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..count {
        let longer = orders.iter().flat_map(|order| {
            let left = (0..count).filter(|at| !order.contains(at));
            left.map(|at| [order.as_slice(), &[at]].concat())
        });
        orders = longer.collect();
    }
    orders
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

    /// The place of a row of the match among those of the partition.
    fn place(&self, position: usize) -> usize {
        match self.last {
            Some(last) if position + 1 == self.variables.len() => last,
            _ => self.start + position,
        }
    }

    /// The position in the match that a navigation begins at.
    fn position(&self, at: &Navigation) -> Option<usize> {
        let positions = self.variables.iter().enumerate();
        let mut positions: Vec<usize> = positions
            .filter(|(_, variable)| at.of.is_empty() || at.of.contains(variable))
            .map(|(position, _)| position)
            .collect();
        if !at.first {
            positions.reverse();
        }
        positions.get(at.skip).copied()
    }

    fn row(&self, at: &Navigation) -> Option<&Row> {
        let place = self.place(self.position(at)?);
        self.rows.get(place.checked_add_signed(at.on as isize)?)
    }

    fn value(&self, operand: &Operand) -> Option<i64> {
        match operand {
            Operand::Constant(value) => Some(*value),
            Operand::Value(at) => self.row(at)?.value,
            Operand::Number(at) => Some(self.row(at)?.number),
            Operand::Aggregate(aggregate, of) => {
                let rows = self.variables.iter().enumerate();
                let rows = rows.filter(|(_, v)| of.is_empty() || of.contains(v));
                let values = rows.filter_map(|(at, _)| self.rows[self.place(at)].value);
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
            Operand::MatchNumber | Operand::Classifier(_) | Operand::Final(_) => {
                unreachable!("only measures have it")
            }
        }
    }

    /// Adds what is given of a match.
    fn give(&self, query: &Query, number: i64, given: &mut Vec<Vec<Measured>>) {
        let measures = |attempt: &Self| {
            let measures = query.measures.iter();
            let measures = measures.map(|measure| attempt.measured(measure, number, self));
            measures.collect::<Vec<_>>()
        };
        if !query.given.all_rows() {
            return given.push(measures(self));
        }
        let mut give = |place: usize, attempt: &Self| {
            let mut row = vec![Measured::Number(Some(self.rows[place].number))];
            row.extend(measures(attempt));
            given.push(row);
        };
        if self.variables.is_empty() && query.given != Given::AllOfSome {
            give(self.start, self);
        }
        for length in 1..=self.variables.len() {
            if self.shown[length - 1] {
                let mut so_far = self.clone();
                so_far.variables.truncate(length);
                give(self.place(length - 1), &so_far);
            }
        }
    }

    fn measured(&self, measure: &Operand, number: i64, whole: &Self) -> Measured {
        match measure {
            Operand::MatchNumber => Measured::Number(Some(number)),
            Operand::Classifier(at) => {
                let position = self.position(at);
                let position = position.and_then(|p| p.checked_add_signed(at.on as isize));
                Measured::Name(position.map(|at| self.variables[at]))
            }
            Operand::Final(operand) => whole.measured(operand, number, whole),
            other => Measured::Number(self.value(other)),
        }
    }
}
