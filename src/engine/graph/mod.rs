//! The running graph: rows go through it depth first, one at a time, watermarks behind them.
//!
//! A stateless step keeps one row buffer and computes into it, so that a row on its way allocates nothing; the
//! buffer is lent out while the row is handed on, which is safe because a graph has no cycles.
//!
//! A row travels with the watermark of its timeline as it was before the row: only where watermarks meet are they
//! kept ([`Meeting`]).

mod downstream;
mod start;

use smallvec::SmallVec;

use crate::expr::{Context, EvalError, Expr};
use crate::ops::{Discard, Emit, LookupJoin, Operator, assign_windows, unnest};
use crate::plan::{self, NodeId, Plan, SinkId, TableId, Window};
use crate::types::{EventTime, Fingerprint, Lineage, Progress, Row, Timeline, Timespan, Value};

pub(super) use self::downstream::Passing;

use self::downstream::Downstream;
use super::meeting::{Meeting, Step};
use super::predicates::PredicateIndex;

/// Where the graph puts what leaves it.
pub(super) trait Exit {
    /// A row for a sink.
    fn sink(&mut self, sink: SinkId, row: &[Value], lineage: Lineage);
    /// A row that an operator of the named query could not use.
    fn discard(&mut self, node: NodeId, discard: Discard);
    /// Something that an operator of the named query wants counted.
    fn count(&mut self, node: NodeId, what: &'static str);
}

/// The graph.
pub(super) struct Graph {
    nodes: Vec<Node>,
    /// Consumers of a row, kept to save the allocation.
    asked: Vec<u32>,
    /// What expressions may know of now.
    pub(super) context: Context,
}

struct Node {
    stage: Stage,
    /// What keeps state, if this node does; `None` also while it runs.
    operator: Option<Box<dyn Operator>>,
    /// Who takes the rows: the node, and which of its inputs this is.
    consumers: SmallVec<[(usize, usize); 2]>,
    /// Which of them to ask, where many are filters.
    index: Option<Box<PredicateIndex>>,
    /// The nearest nodes behind it that follow its time, each with the input by which it comes: those that keep state, and
    /// those where watermarks meet. In the order in which rows get there.
    followers: SmallVec<[(usize, usize); 2]>,
    /// Who takes the rows that were too late.
    late: SmallVec<[usize; 1]>,
    inputs: SmallVec<[usize; 1]>,
    /// Where watermarks meet. Elsewhere time is that of the only input.
    meeting: Option<Meeting>,
    /// How much later it is for what follows: rows may be given out so long after their time.
    delay: Timespan,
    fingerprint: Fingerprint,
}

impl Node {
    /// A watermark as it is for what follows.
    #[inline]
    fn delayed(&self, watermark: EventTime) -> EventTime {
        // At the greatest of all nothing is to come.
        if self.delay == Timespan::ZERO || watermark == EventTime::MAX {
            return watermark;
        }
        watermark.minus(self.delay)
    }
}

enum Stage {
    Pass,
    /// Rows that were too late for the operator before it, which may be so for several queries.
    Late,
    /// Rows of several inputs. One event may come in by two of them and must not give two events with one id.
    Union,
    Filter(Expr),
    Project {
        exprs: Vec<Expr>,
        buffer: Row,
    },
    Unnest {
        array: Expr,
        width: usize,
        rows: bool,
        outer: bool,
        buffer: Row,
    },
    Assign {
        window: Window,
        time: usize,
        buffer: Row,
    },
    /// `None` only while it runs.
    Lookup(Option<Box<LookupJoin>>),
    Stateful,
    Sink(SinkId),
}

impl Graph {
    pub(super) fn new(plan: &Plan, max_keys: usize) -> Self {
        let mut nodes: Vec<Node> = (0..plan.nodes.len())
            .map(|at| start::start(plan, at, max_keys))
            .collect();
        for (at, node) in plan.nodes.iter().enumerate() {
            for (input, from) in node.inputs.iter().enumerate() {
                match node.operator {
                    plan::Operator::LateRows => nodes[from.0].late.push(at),
                    _ => nodes[from.0].consumers.push((at, input)),
                }
            }
        }
        for at in 0..nodes.len() {
            let consumers = nodes[at].consumers.iter();
            let predicates = consumers.map(|(consumer, _)| match &nodes[*consumer].stage {
                Stage::Filter(predicate) => Some(predicate),
                _ => None,
            });
            nodes[at].index = PredicateIndex::new(predicates).map(Box::new);
        }
        for at in (0..nodes.len()).rev() {
            // Consumers stand behind their inputs, so theirs are known.
            let mut followers = SmallVec::new();
            for &(consumer, input) in &nodes[at].consumers {
                let found = &nodes[consumer];
                if !plan.nodes[consumer].operator.leads(input) {
                    continue;
                }
                if found.meeting.is_some() || found.operator.is_some() {
                    followers.push((consumer, input));
                } else {
                    followers.extend_from_slice(&found.followers);
                }
            }
            nodes[at].followers = followers;
        }
        Self {
            nodes,
            asked: Vec::new(),
            context: Context {
                now: EventTime::MIN,
            },
        }
    }

    /// Hands a row to a node.
    fn push(&mut self, at: usize, input: usize, passing: &Passing<'_>, exit: &mut dyn Exit) {
        let met;
        let passing = match &self.nodes[at].meeting {
            Some(meeting) => {
                let progress = meeting.behind(passing.progress.line);
                met = Passing {
                    progress,
                    ..*passing
                };
                &met
            }
            None => passing,
        };
        let context = self.context;
        let Passing { row, lineage, .. } = *passing;
        match &mut self.nodes[at].stage {
            Stage::Pass => self.forward(at, passing, exit),
            Stage::Late => self.forward_as(at, 0, passing, exit),
            Stage::Union => self.forward_as(at, input as u64, passing, exit),
            Stage::Filter(predicate) => match predicate.test(row, &context) {
                Ok(true) => self.forward(at, passing, exit),
                Ok(false) => {}
                Err(error) => exit.discard(NodeId(at), Discard::expression(&error)),
            },
            Stage::Project { exprs, buffer } => {
                let mut output = std::mem::take(buffer);
                match project(exprs, row, &context, &mut output) {
                    Ok(()) => self.forward(at, &passing.with(&output), exit),
                    Err(error) => exit.discard(NodeId(at), Discard::expression(&error)),
                }
                self.give_back(at, output);
            }
            Stage::Unnest {
                array,
                width,
                rows,
                outer,
                buffer,
            } => {
                let array = match array.eval(row, &context) {
                    Ok(array) => array,
                    Err(error) => return exit.discard(NodeId(at), Discard::expression(&error)),
                };
                let (width, rows, outer) = (*width, *rows, *outer);
                let mut output = std::mem::take(buffer);
                unnest(
                    row,
                    &array,
                    width,
                    rows,
                    outer,
                    &mut output,
                    |index, row| {
                        self.forward_as(at, index, &passing.with(row), exit);
                    },
                );
                self.give_back(at, output);
            }
            Stage::Assign {
                window,
                time,
                buffer,
            } => {
                let Value::Timestamp(micros) = row[*time] else {
                    let detail =
                        "the event time is NULL, so the row belongs to no window".to_owned();
                    return exit.discard(
                        NodeId(at),
                        Discard {
                            reason: "null_time",
                            detail,
                        },
                    );
                };
                let windows: SmallVec<[_; 8]> =
                    assign_windows(window, EventTime::from_micros(micros)).collect();
                let mut output = std::mem::take(buffer);
                for (index, (start, end)) in windows.into_iter().enumerate() {
                    output.clear();
                    output.extend_from_slice(row);
                    output.push(Value::Timestamp(start.as_micros()));
                    output.push(Value::Timestamp(end.as_micros()));
                    output.push(Value::Timestamp(
                        end.minus(Timespan::MILLISECOND).as_micros(),
                    ));
                    self.forward_as(at, index as u64, &passing.with(&output), exit);
                }
                self.give_back(at, output);
            }
            Stage::Lookup(lookup) => {
                let mut running = lookup.take().expect("a graph has no cycles");
                let mut emit = Downstream {
                    graph: self,
                    at,
                    progress: passing.progress,
                    exit,
                };
                running.process(row, lineage, &context, &mut emit);
                self.nodes[at].stage = Stage::Lookup(Some(running));
            }
            Stage::Stateful => {
                let progress = passing.progress;
                let behind = Progress {
                    watermark: self.nodes[at].delayed(progress.watermark),
                    ..progress
                };
                let done = self.operate(at, behind, exit, |operator, emit| {
                    operator.process(input, row, lineage, progress, &context, emit);
                });
                done.expect("a graph has no cycles");
            }
            Stage::Sink(sink) => exit.sink(*sink, row, lineage),
        }
    }

    /// Has the operator of a node do something, which gives rows to those behind the node as of `progress`. `None` if the
    /// node keeps no state, or if its operator runs already.
    fn operate<R>(
        &mut self,
        at: usize,
        progress: Progress,
        exit: &mut dyn Exit,
        run: impl FnOnce(&mut dyn Operator, &mut dyn Emit) -> R,
    ) -> Option<R> {
        let mut running = self.nodes[at].operator.take()?;
        let mut emit = Downstream {
            graph: self,
            at,
            progress,
            exit,
        };
        let given = run(&mut *running, &mut emit);
        self.nodes[at].operator = Some(running);
        Some(given)
    }

    fn give_back(&mut self, at: usize, row: Row) {
        if let Stage::Project { buffer, .. }
        | Stage::Unnest { buffer, .. }
        | Stage::Assign { buffer, .. } = &mut self.nodes[at].stage
        {
            *buffer = row;
        }
    }

    /// Hands a row that a node gives to those who take it, mostly one.
    #[inline]
    pub(super) fn forward(&mut self, at: usize, passing: &Passing<'_>, exit: &mut dyn Exit) {
        if let [(consumer, input)] = self.nodes[at].consumers[..] {
            return self.push(consumer, input, passing, exit);
        }
        self.forward_to_many(at, passing, exit);
    }

    /// The same where there are several, or none; where many are filters, only some of them are asked.
    fn forward_to_many(&mut self, at: usize, passing: &Passing<'_>, exit: &mut dyn Exit) {
        let Some(mut index) = self.nodes[at].index.take() else {
            for index in 0..self.nodes[at].consumers.len() {
                let (consumer, input) = self.nodes[at].consumers[index];
                self.push(consumer, input, passing, exit);
            }
            return;
        };
        let mut asked = std::mem::take(&mut self.asked);
        index.candidates(passing.row, &mut asked);
        self.nodes[at].index = Some(index);
        for consumer in &asked {
            let (consumer, input) = self.nodes[at].consumers[*consumer as usize];
            self.push(consumer, input, passing, exit);
        }
        self.asked = asked;
    }

    /// Hands on a row with a lineage of its own, as the `index`-th that a node makes of one.
    fn forward_as(&mut self, at: usize, index: u64, passing: &Passing<'_>, exit: &mut dyn Exit) {
        let lineage = passing.lineage.child(self.nodes[at].fingerprint, index);
        let passing = Passing {
            lineage,
            ..*passing
        };
        self.forward(at, &passing, exit);
    }

    /// Tells a node that the watermark of an input's line has moved.
    pub(super) fn advance(&mut self, at: usize, input: usize, step: Step, exit: &mut dyn Exit) {
        let Some(meeting) = &mut self.nodes[at].meeting else {
            return self.reach(at, step, exit);
        };
        let to = Progress {
            line: step.line,
            watermark: step.to,
        };
        if let Some(step) = meeting.advance(input, to) {
            self.reach(at, step, exit);
        }
    }

    /// Tells a node that an input's line has fallen silent, or speaks again.
    pub(super) fn set_idle(
        &mut self,
        at: usize,
        input: usize,
        line: Timeline,
        idle: bool,
        exit: &mut dyn Exit,
    ) {
        let (step, told) = match &mut self.nodes[at].meeting {
            None => (None, Some((line, idle))),
            Some(meeting) => {
                let idleness = meeting.set_idle(input, line, idle);
                (idleness.step, idleness.idle)
            }
        };
        if let Some(step) = step {
            self.reach(at, step, exit);
        }
        let Some((line, idle)) = told else { return };
        for index in 0..self.nodes[at].followers.len() {
            let (follower, input) = self.nodes[at].followers[index];
            self.set_idle(follower, input, line, idle, exit);
        }
    }

    /// Tells a node that all before it is silent, and that time has passed up to `to`.
    pub(super) fn pass(&mut self, at: usize, to: EventTime, exit: &mut dyn Exit) {
        if let Some(meeting) = &mut self.nodes[at].meeting {
            if let Some(step) = meeting.pass(to) {
                self.reach(at, step, exit);
            }
            return;
        }
        for index in 0..self.nodes[at].followers.len() {
            let (follower, _) = self.nodes[at].followers[index];
            self.pass(follower, to, exit);
        }
    }

    /// The least watermark of a line that makes an operator behind a node do something.
    pub(super) fn next_timer(&self, at: usize, line: Timeline) -> Option<EventTime> {
        let node = &self.nodes[at];
        let line = node.meeting.as_ref().map_or(line, |m| m.behind(line).line);
        let delay = node.delay;
        let own = node.operator.as_ref();
        let own = own.and_then(|operator| operator.next_timer(line));
        let followers = node.followers.iter();
        let behind = followers.filter_map(|(follower, _)| self.next_timer(*follower, line));
        own.into_iter()
            .chain(behind.map(|timer| timer.plus(delay)))
            .min()
    }

    fn reach(&mut self, at: usize, step: Step, exit: &mut dyn Exit) {
        let Step { line, from, to } = step;
        let behind = Step {
            line,
            from: self.nodes[at].delayed(from),
            to: self.nodes[at].delayed(to),
        };
        let at_time = |watermark| Progress { line, watermark };
        // Behind this node it is still as late as before. A node that keeps no state has nothing to do.
        let _ = self.operate(at, at_time(behind.from), exit, |operator, emit| {
            operator.advance(at_time(to), emit);
        });
        if !self.nodes[at].followers.is_empty() {
            self.lead(at, behind, exit);
        }
    }

    /// Tells the followers of a node that the watermark of a line has moved behind it.
    #[inline]
    pub(super) fn lead(&mut self, at: usize, behind: Step, exit: &mut dyn Exit) {
        match self.nodes[at].followers[..] {
            [] => {}
            [(follower, input)] => self.advance(follower, input, behind, exit),
            _ => self.lead_many(at, behind, exit),
        }
    }

    fn lead_many(&mut self, at: usize, behind: Step, exit: &mut dyn Exit) {
        for index in 0..self.nodes[at].followers.len() {
            let (follower, input) = self.nodes[at].followers[index];
            self.advance(follower, input, behind, exit);
        }
    }

    /// Hands the rows of a table to all that look rows up in it.
    pub(super) fn load(
        &mut self,
        plan: &Plan,
        id: TableId,
        rows: &[Row],
        exit: &mut dyn Exit,
    ) -> Result<(), EvalError> {
        let context = self.context;
        for (at, node) in plan.nodes.iter().enumerate() {
            match (&node.operator, &mut self.nodes[at].stage) {
                (plan::Operator::LookupJoin(join), Stage::Lookup(Some(lookup)))
                    if join.table == id =>
                {
                    lookup.load(rows, &context)?;
                }
                (plan::Operator::Alarms(alarms), Stage::Stateful)
                    if alarms.expected.as_ref().is_some_and(|e| e.table == id) =>
                {
                    let loaded = self.operate(at, NOWHERE, exit, |operator, emit| {
                        operator.load(rows, &context, emit)
                    });
                    loaded.expect("a graph has no cycles")?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells all operators when the gateway was started.
    pub(super) fn started(&mut self, start: EventTime, now: EventTime) {
        for (_, operator) in self.operators() {
            operator.started(start, now);
        }
    }

    /// Tells the operator of a node what time it is by now on the lines that are silent.
    pub(super) fn silent(&mut self, at: usize, present: &[EventTime], exit: &mut dyn Exit) {
        let _ = self.operate(at, NOWHERE, exit, |operator, emit| {
            operator.silent(present, emit);
        });
    }

    /// The stateful operators with the fingerprints their state is stored under.
    pub(super) fn operators(
        &mut self,
    ) -> impl Iterator<Item = (Fingerprint, &mut (dyn Operator + 'static))> {
        self.nodes
            .iter_mut()
            .filter_map(|node| Some((node.fingerprint, node.operator.as_deref_mut()?)))
    }

    /// The nodes where watermarks meet, with their fingerprints.
    pub(super) fn meetings(&mut self) -> impl Iterator<Item = (Fingerprint, &mut Meeting)> {
        self.nodes.iter_mut().filter_map(|node| {
            let fingerprint = node.fingerprint;
            node.meeting.as_mut().map(|meeting| (fingerprint, meeting))
        })
    }

    /// Sets the watermarks of all nodes after a restart, from those of the sources' nodes, on `lines` lines.
    pub(super) fn resume(&mut self, lines: usize, source: &dyn Fn(usize, Timeline) -> EventTime) {
        for at in 0..self.nodes.len() {
            let every = || (0..lines).map(|line| Timeline(line as u32));
            if self.nodes[at].meeting.is_some() {
                let inputs = self.nodes[at].inputs.clone();
                let known: SmallVec<[SmallVec<[Option<EventTime>; 1]>; 2]> = inputs
                    .iter()
                    .map(|input| {
                        every()
                            .map(|line| {
                                let spoken = self.has_spoken(*input, line, source);
                                spoken.then(|| self.watermark_behind(*input, line, source))
                            })
                            .collect()
                    })
                    .collect();
                if let Some(meeting) = &mut self.nodes[at].meeting {
                    meeting.resume(&known);
                }
            }
            if let Some(mut running) = self.nodes[at].operator.take() {
                running.resume(&|line| self.watermark(at, line, source));
                self.nodes[at].operator = Some(running);
            }
        }
    }

    /// Whether something has come on a line before or at a node, also where it waits for another input and has reached
    /// nothing yet.
    fn has_spoken(
        &self,
        at: usize,
        line: Timeline,
        source: &dyn Fn(usize, Timeline) -> EventTime,
    ) -> bool {
        if line == Timeline::SHARED {
            return true;
        }
        let node = &self.nodes[at];
        match node.inputs[..] {
            [] => source(at, line) > EventTime::MIN,
            _ if node.meeting.as_ref().is_some_and(Meeting::is_of_lines) => false,
            [..] => {
                let mut inputs = node.inputs.iter();
                inputs.any(|input| self.has_spoken(*input, line, source))
            }
        }
    }

    /// What a line has reached at a node.
    fn watermark(
        &self,
        at: usize,
        line: Timeline,
        source: &dyn Fn(usize, Timeline) -> EventTime,
    ) -> EventTime {
        let node = &self.nodes[at];
        match (&node.meeting, node.inputs.first()) {
            (Some(meeting), _) => meeting.reached(line),
            (None, Some(input)) => self.watermark_behind(*input, line, source),
            (None, None) => source(at, line),
        }
    }

    /// What a line has reached for what follows a node.
    fn watermark_behind(
        &self,
        at: usize,
        line: Timeline,
        source: &dyn Fn(usize, Timeline) -> EventTime,
    ) -> EventTime {
        self.nodes[at].delayed(self.watermark(at, line, source))
    }
}

/// Where rows are that an operator makes of a table, until it says more.
const NOWHERE: Progress = Progress {
    line: Timeline::SHARED,
    watermark: EventTime::MIN,
};

/// Computes the values of a row over those of the one before it.
#[inline]
fn project(
    exprs: &[Expr],
    row: &[Value],
    context: &Context,
    output: &mut Row,
) -> Result<(), EvalError> {
    output.resize(exprs.len(), Value::Null);
    for (place, expr) in output.iter_mut().zip(exprs) {
        match expr.held(row) {
            Some(value) if place.set_plain(value) => {}
            Some(value) => *place = value.clone(),
            None => *place = expr.eval(row, context)?,
        }
    }
    Ok(())
}
