//! Random patterns with their conditions and measures, and how SQL writes them.

use std::fmt::{self, Display, Formatter};

use super::disk::Random;

/// A `MATCH_RECOGNIZE` clause.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) pattern: Node,
    /// What each variable asks for.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) measures: Vec<Operand>,
    pub(crate) skip: Skip,
    pub(crate) given: Given,
    /// Milliseconds.
    pub(crate) within: Option<i64>,
    /// Variables with a name for all of them.
    pub(crate) subset: Option<Vec<usize>>,
    pub(crate) order: Order,
}

/// What orders rows of one time: those that came first, or their values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Order {
    Arrival,
    Ascending,
    Descending,
}

/// What is given of a match, and of what is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Given {
    One,
    OneOrTimeout,
    All,
    AllOfSome,
    AllOrTimeout,
}

impl Given {
    pub(crate) fn timeouts(self) -> bool {
        matches!(self, Self::OneOrTimeout | Self::AllOrTimeout)
    }

    pub(crate) fn all_rows(self) -> bool {
        matches!(self, Self::All | Self::AllOfSome | Self::AllOrTimeout)
    }

    const fn sql(self) -> &'static str {
        match self {
            Self::One => "ONE ROW PER MATCH",
            Self::OneOrTimeout => "ONE ROW PER MATCH SHOW TIMEOUT MATCHES",
            Self::All => "ALL ROWS PER MATCH SHOW EMPTY MATCHES",
            Self::AllOfSome => "ALL ROWS PER MATCH OMIT EMPTY MATCHES",
            Self::AllOrTimeout => "ALL ROWS PER MATCH SHOW TIMEOUT MATCHES",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Variable(usize),
    /// Before the first row of a partition.
    Start,
    /// At the end: no row that meets the condition of the variable before WITHIN has passed.
    Absent(usize),
    Excluded(Box<Node>),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Permute(Vec<Node>),
    Repeat {
        node: Box<Node>,
        min: u32,
        max: Option<u32>,
        greedy: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Any,
    Compare(Operand, Comparison, Operand),
    IsNull(Operand),
    And(Vec<Condition>),
    Or(Vec<Condition>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Comparison {
    Less,
    Equal,
    AtLeast,
    Unequal,
}

impl Comparison {
    pub(crate) fn holds(self, left: i64, right: i64) -> bool {
        match self {
            Self::Less => left < right,
            Self::Equal => left == right,
            Self::AtLeast => left >= right,
            Self::Unequal => left != right,
        }
    }

    const fn sql(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::Equal => "=",
            Self::AtLeast => ">=",
            Self::Unequal => "<>",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Constant(i64),
    /// The column `v` of a row.
    Value(Navigation),
    /// The column `n` of a row, which is never NULL.
    Number(Navigation),
    /// Of `v`, over the rows of some variables; of all if there are none.
    Aggregate(Aggregate, Vec<usize>),
    Classifier(Navigation),
    MatchNumber,
    /// Over all rows of the match, and not up to the row that is given.
    Final(Box<Operand>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Aggregate {
    Count,
    CountDistinct,
    Sum,
    Min,
    Max,
}

/// A row: `on` behind or, if it is negative, before the one that is `skip` from the first or last of some variables; of all if there are none.
#[derive(Clone, Debug)]
pub(crate) struct Navigation {
    pub(crate) of: Vec<usize>,
    pub(crate) first: bool,
    pub(crate) skip: usize,
    pub(crate) on: i64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Skip {
    PastLastRow,
    ToNextRow,
    ToFirst(usize),
    ToLast(usize),
}

const NAMES: [&str; 4] = ["A", "B", "C", "D"];

pub(crate) fn name(variable: usize) -> &'static str {
    NAMES[variable]
}

impl Query {
    pub(crate) fn random(random: &mut Random) -> Self {
        let variables = 1 + random.below(4);
        let mut pattern = Node::random(random, variables, 3);
        let absent = random.once_in(8).then(|| random.below(4));
        if pattern.takes_none() && (absent.is_some() || random.once_in(2)) {
            pattern = Node::Sequence(vec![Node::Variable(random.below(variables)), pattern]);
        }
        if random.once_in(12) {
            pattern = Node::Sequence(vec![Node::Start, pattern]);
        }
        if let Some(absent) = absent {
            pattern = Node::Sequence(vec![pattern, Node::Absent(absent)]);
        }
        let within =
            (absent.is_some() || !random.once_in(3)).then(|| 1_000 * (1 + random.below(12) as i64));
        let given = match random.below(6) {
            0 if within.is_some() && absent.is_none() => Given::OneOrTimeout,
            1 if within.is_some() && absent.is_none() => Given::AllOrTimeout,
            2 => Given::All,
            3 => Given::AllOfSome,
            _ => Given::One,
        };
        let offsets = Offsets {
            ahead: absent.is_none() && !given.timeouts() && random.once_in(5),
        };
        let mut used = Vec::new();
        pattern.variables(&mut used);
        let subset = (random.once_in(3) && used.len() > 1).then(|| {
            let mut subset = used.clone();
            subset.truncate(2);
            subset
        });
        let mut conditions = vec![Condition::Any; 4];
        // What stays away has a condition and no rows that could be read.
        let stays_away = absent.filter(|absent| !used.contains(absent));
        for variable in used.iter().chain(&stays_away) {
            let scope = Scope {
                used: &used,
                subset: subset.as_ref(),
                offsets,
            };
            conditions[*variable] = Condition::random(random, scope, *variable);
        }
        let scope = Scope {
            used: &used,
            subset: subset.as_ref(),
            offsets,
        };
        let measures = 1 + random.below(4);
        Self {
            measures: (0..measures)
                .map(|_| Operand::measure(random, scope))
                .collect(),
            skip: match random.below(5) {
                0 | 1 => Skip::PastLastRow,
                2 => Skip::ToNextRow,
                3 => Skip::ToFirst(used[random.below(used.len())]),
                _ => Skip::ToLast(used[random.below(used.len())]),
            },
            given,
            within,
            order: [Order::Arrival, Order::Ascending, Order::Descending][random.below(3)],
            pattern,
            conditions,
            subset,
        }
    }

    /// How many rows behind a row are read.
    pub(crate) fn lookahead(&self) -> usize {
        let conditions = self.conditions.iter().map(Condition::lookahead);
        let measures = self.measures.iter().map(Operand::lookahead);
        conditions.chain(measures).max().unwrap_or(0)
    }

    /// Whether matches are given in the order of their first rows: each decides where others begin, or its number.
    pub(crate) fn is_ordered(&self) -> bool {
        !matches!(self.skip, Skip::ToNextRow)
            || self
                .measures
                .iter()
                .any(|m| matches!(m, Operand::MatchNumber))
    }

    /// The query over `t (k, n, ts, v)`; its columns are `k` and the measures.
    pub(crate) fn sql(&self) -> String {
        let measures = self.measures.iter().enumerate();
        let measures: Vec<String> = measures
            .map(|(at, measure)| format!("{} AS m{at}", self.operand(measure)))
            .collect();
        let order = match self.order {
            Order::Arrival => "",
            Order::Ascending => ", v",
            Order::Descending => ", v DESC",
        };
        let skip = match self.skip {
            Skip::PastLastRow => "PAST LAST ROW".to_owned(),
            Skip::ToNextRow => "TO NEXT ROW".to_owned(),
            Skip::ToFirst(variable) => format!("TO FIRST {}", name(variable)),
            Skip::ToLast(variable) => format!("TO LAST {}", name(variable)),
        };
        let within = match self.within {
            Some(within) => format!(" WITHIN INTERVAL '{}' SECOND", within / 1_000),
            None => String::new(),
        };
        let subset = match &self.subset {
            Some(of) => format!(" SUBSET S = ({})", names(of)),
            None => String::new(),
        };
        let conditions = self.conditions.iter().enumerate();
        let defined: Vec<String> = conditions
            .filter(|(_, condition)| !matches!(condition, Condition::Any))
            .map(|(at, condition)| format!("{} AS {}", name(at), self.condition(condition)))
            .collect();
        let define = if defined.is_empty() {
            String::new()
        } else {
            format!(" DEFINE {}", defined.join(", "))
        };
        format!(
            "SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY k ORDER BY ts{order} MEASURES {} {} \
             AFTER MATCH SKIP {skip} PATTERN ({}){within}{subset}{define})",
            measures.join(", "),
            self.given.sql(),
            self.pattern
        )
    }

    fn condition(&self, condition: &Condition) -> String {
        let all = |conditions: &[Condition], by: &str| {
            let texts: Vec<String> = conditions.iter().map(|c| self.condition(c)).collect();
            format!("({})", texts.join(by))
        };
        match condition {
            Condition::Any => "TRUE".to_owned(),
            Condition::Compare(left, operator, right) => format!(
                "{} {} {}",
                self.operand(left),
                operator.sql(),
                self.operand(right)
            ),
            Condition::IsNull(operand) => format!("{} IS NULL", self.operand(operand)),
            Condition::And(conditions) => all(conditions, " AND "),
            Condition::Or(conditions) => all(conditions, " OR "),
        }
    }

    fn operand(&self, operand: &Operand) -> String {
        match operand {
            Operand::Constant(value) => value.to_string(),
            Operand::Value(at) => self.navigated(at, "v"),
            Operand::Number(at) => self.navigated(at, "n"),
            Operand::Aggregate(aggregate, of) => {
                let column = self.qualified(of, "v");
                match aggregate {
                    Aggregate::Count => format!("COUNT({column})"),
                    Aggregate::CountDistinct => format!("COUNT(DISTINCT {column})"),
                    Aggregate::Sum => format!("SUM({column})"),
                    Aggregate::Min => format!("MIN({column})"),
                    Aggregate::Max => format!("MAX({column})"),
                }
            }
            Operand::Classifier(at) => {
                let of = match &at.of[..] {
                    [] => String::new(),
                    [one] => name(*one).to_owned(),
                    _ => "S".to_owned(),
                };
                navigation(at, format!("CLASSIFIER({of})"))
            }
            Operand::MatchNumber => "MATCH_NUMBER()".to_owned(),
            Operand::Final(operand) => match &**operand {
                // It stands right before LAST, and inside of PREV.
                Operand::Value(at) | Operand::Number(at) => {
                    let column = match **operand {
                        Operand::Value(_) => "v",
                        _ => "n",
                    };
                    let end = if at.first { "FIRST" } else { "LAST" };
                    let column = self.qualified(&at.of, column);
                    offset(at, format!("FINAL {end}({column}, {})", at.skip))
                }
                other => format!("FINAL {}", self.operand(other)),
            },
        }
    }

    fn navigated(&self, at: &Navigation, column: &str) -> String {
        navigation(at, self.qualified(&at.of, column))
    }

    fn qualified(&self, of: &[usize], column: &str) -> String {
        match of {
            [] => column.to_owned(),
            [one] => format!("{}.{column}", name(*one)),
            of => {
                assert_eq!(Some(of), self.subset.as_deref());
                format!("S.{column}")
            }
        }
    }
}

fn navigation(at: &Navigation, mut text: String) -> String {
    if at.first {
        text = format!("FIRST({text}, {})", at.skip);
    } else if at.skip > 0 {
        text = format!("LAST({text}, {})", at.skip);
    }
    offset(at, text)
}

fn offset(at: &Navigation, text: String) -> String {
    match at.on {
        0 => text,
        on if on < 0 => format!("PREV({text}, {})", -on),
        on => format!("NEXT({text}, {on})"),
    }
}

fn names(of: &[usize]) -> String {
    let names: Vec<&str> = of.iter().map(|at| name(*at)).collect();
    names.join(", ")
}

impl Node {
    fn random(random: &mut Random, variables: usize, depth: usize) -> Self {
        if depth == 0 || random.once_in(5) {
            return Self::Variable(random.below(variables));
        }
        match random.below(8) {
            0..=3 => {
                let count = 2 + random.below(2);
                let nodes = (0..count).map(|_| Self::random(random, variables, depth - 1));
                Self::Sequence(nodes.collect())
            }
            4 => {
                let nodes = (0..2).map(|_| Self::random(random, variables, depth - 1));
                Self::Either(nodes.collect())
            }
            5 if random.once_in(3) => {
                Self::Excluded(Box::new(Self::random(random, variables, depth - 1)))
            }
            5 if random.once_in(2) => {
                let count = 2 + random.below(2);
                let nodes = (0..count).map(|_| Self::Variable(random.below(variables)));
                Self::Permute(nodes.collect())
            }
            _ => {
                let (min, max) = [
                    (0, None),
                    (1, None),
                    (0, Some(1)),
                    (2, Some(2)),
                    (2, None),
                    (1, Some(3)),
                    (0, Some(2)),
                ][random.below(7)];
                Self::Repeat {
                    node: Box::new(Self::random(random, variables, depth - 1)),
                    min,
                    max,
                    greedy: !random.once_in(3),
                }
            }
        }
    }

    /// The pattern as it is preferred: `B?` before what must match gives way to the match without it, as in Flink.
    pub(crate) fn preferred(mut self) -> Self {
        self.give_way(false);
        self
    }

    fn give_way(&mut self, followed: bool) {
        match self {
            Self::Variable(_) | Self::Start | Self::Absent(_) => {}
            Self::Excluded(node) => node.give_way(followed),
            Self::Sequence(nodes) => {
                for at in 0..nodes.len() {
                    let behind = nodes[at + 1..].iter().any(|node| !node.takes_none());
                    nodes[at].give_way(followed || behind);
                }
            }
            Self::Either(nodes) | Self::Permute(nodes) => {
                for node in nodes {
                    node.give_way(followed);
                }
            }
            Self::Repeat {
                node,
                min: 0,
                max: Some(1),
                greedy,
            } if matches!(**node, Self::Variable(_)) => *greedy &= !followed,
            Self::Repeat { node, .. } => node.give_way(followed),
        }
    }

    /// Whether it can match without a row.
    fn takes_none(&self) -> bool {
        match self {
            Self::Variable(_) => false,
            Self::Start | Self::Absent(_) => true,
            Self::Excluded(node) => node.takes_none(),
            Self::Sequence(nodes) | Self::Permute(nodes) => nodes.iter().all(Self::takes_none),
            Self::Either(nodes) => nodes.iter().any(Self::takes_none),
            Self::Repeat { node, min, .. } => *min == 0 || node.takes_none(),
        }
    }

    /// Adds the variables that rows can have.
    fn variables(&self, used: &mut Vec<usize>) {
        match self {
            Self::Start | Self::Absent(_) => {}
            Self::Variable(variable) if used.contains(variable) => {}
            Self::Variable(variable) => used.push(*variable),
            Self::Excluded(node) => node.variables(used),
            Self::Sequence(nodes) | Self::Permute(nodes) | Self::Either(nodes) => {
                for node in nodes {
                    node.variables(used);
                }
            }
            Self::Repeat { node, .. } => node.variables(used),
        }
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let list = |nodes: &[Self], by: &str| {
            let texts: Vec<String> = nodes.iter().map(Self::to_string).collect();
            texts.join(by)
        };
        match self {
            Self::Variable(variable) => f.write_str(name(*variable)),
            Self::Start => f.write_str("^"),
            Self::Absent(variable) => write!(f, "{{- X*? -}} [^{}]", name(*variable)),
            Self::Excluded(node) => write!(f, "{{- {node} -}}"),
            Self::Sequence(nodes) => write!(f, "({})", list(nodes, " ")),
            Self::Either(nodes) => write!(f, "({})", list(nodes, " | ")),
            Self::Permute(nodes) => write!(f, "PERMUTE({})", list(nodes, ", ")),
            Self::Repeat {
                node,
                min,
                max,
                greedy,
            } => {
                match **node {
                    Self::Variable(_) => write!(f, "{node}")?,
                    _ => write!(f, "({node})")?,
                }
                match (min, max) {
                    (0, None) => f.write_str("*")?,
                    (1, None) => f.write_str("+")?,
                    (0, Some(1)) => f.write_str("?")?,
                    (min, None) => write!(f, "{{{min},}}")?,
                    (0, Some(max)) => write!(f, "{{,{max}}}")?,
                    (min, Some(max)) if min == max => write!(f, "{{{min}}}")?,
                    (min, Some(max)) => write!(f, "{{{min},{max}}}")?,
                }
                f.write_str(if *greedy { "" } else { "?" })
            }
        }
    }
}

/// What conditions and measures may name.
#[derive(Clone, Copy)]
struct Scope<'a> {
    used: &'a [usize],
    subset: Option<&'a Vec<usize>>,
    offsets: Offsets,
}

/// Whether rows behind a row are read.
#[derive(Clone, Copy)]
struct Offsets {
    ahead: bool,
}

impl Scope<'_> {
    /// All variables, one, or the subset.
    fn some(self, random: &mut Random) -> Vec<usize> {
        match (random.below(3), self.subset) {
            (0, _) => Vec::new(),
            (1, Some(subset)) => subset.clone(),
            _ => vec![self.used[random.below(self.used.len())]],
        }
    }
}

impl Condition {
    fn random(random: &mut Random, scope: Scope<'_>, own: usize) -> Self {
        match random.below(12) {
            0 => Self::Any,
            1 => Self::IsNull(Operand::any(random, scope)),
            2 => {
                let one = |random: &mut Random| Self::random(random, scope, own);
                Self::And(vec![one(random), one(random)])
            }
            3 => {
                let one = |random: &mut Random| Self::random(random, scope, own);
                Self::Or(vec![one(random), one(random)])
            }
            // Mostly the row itself, as people write it.
            4..=8 => {
                let row = Operand::Value(Navigation {
                    of: [vec![], vec![own]][random.below(2)].clone(),
                    first: false,
                    skip: 0,
                    on: 0,
                });
                let other = Operand::any(random, scope);
                Self::Compare(row, Comparison::random(random), other)
            }
            _ => {
                let (left, right) = (Operand::any(random, scope), Operand::any(random, scope));
                Self::Compare(left, Comparison::random(random), right)
            }
        }
    }

    fn lookahead(&self) -> usize {
        match self {
            Self::Any => 0,
            Self::Compare(left, _, right) => left.lookahead().max(right.lookahead()),
            Self::IsNull(operand) => operand.lookahead(),
            Self::And(conditions) | Self::Or(conditions) => {
                conditions.iter().map(Self::lookahead).max().unwrap_or(0)
            }
        }
    }
}

impl Comparison {
    fn random(random: &mut Random) -> Self {
        [Self::Less, Self::AtLeast, Self::Equal, Self::Unequal][random.below(4)]
    }
}

impl Operand {
    fn any(random: &mut Random, scope: Scope<'_>) -> Self {
        match random.below(6) {
            0 | 1 => Self::Constant(random.below(6) as i64),
            2 => Self::aggregate(random, scope),
            _ => Self::Value(Navigation::random(random, scope)),
        }
    }

    fn aggregate(random: &mut Random, scope: Scope<'_>) -> Self {
        let aggregate = [
            Aggregate::Count,
            Aggregate::CountDistinct,
            Aggregate::Sum,
            Aggregate::Min,
            Aggregate::Max,
        ][random.below(5)];
        Self::Aggregate(aggregate, scope.some(random))
    }

    fn measure(random: &mut Random, scope: Scope<'_>) -> Self {
        let measure = match random.below(7) {
            0 => return Self::MatchNumber,
            1 => {
                let mut at = Navigation::random(random, scope);
                // There is no variable behind the match.
                at.on = at.on.min(0);
                return Self::Classifier(at);
            }
            2 | 3 => Self::Number(Navigation::random(random, scope)),
            4 => Self::aggregate(random, scope),
            _ => return Self::any(random, scope),
        };
        if random.once_in(3) {
            Self::Final(Box::new(measure))
        } else {
            measure
        }
    }

    fn lookahead(&self) -> usize {
        match self {
            Self::Value(at) | Self::Number(at) | Self::Classifier(at) => at.on.max(0) as usize,
            Self::Final(operand) => operand.lookahead(),
            Self::Constant(_) | Self::Aggregate(..) | Self::MatchNumber => 0,
        }
    }
}

impl Navigation {
    fn random(random: &mut Random, scope: Scope<'_>) -> Self {
        let distance = random.below(3) as i64;
        Self {
            of: scope.some(random),
            first: random.once_in(3),
            skip: if random.once_in(3) {
                random.below(3)
            } else {
                0
            },
            on: match random.below(6) {
                0 | 1 => -distance,
                2 if scope.offsets.ahead => distance,
                _ => 0,
            },
        }
    }
}
