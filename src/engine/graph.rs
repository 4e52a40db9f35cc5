//! The running graph: rows go through it depth first, one at a time, watermarks behind them.
//!
//! A stateless step keeps one row buffer and computes into it, so that a row on its way allocates nothing; the
//! buffer is lent out while the row is handed on, which is safe because a graph has no cycles.
//!
//! A row travels with the watermark of its timeline as it was before the row: only where watermarks meet are they
//! kept ([`Meeting`]).

use smallvec::SmallVec;

use crate::expr::{Context, EvalError, Expr};
use crate::ops::{
    Aggregation, Deduplicate, Discard, Emit, IntervalJoin, LookupJoin, Match, Operator, Over,
    TemporalJoin, WindowTop, assign_windows, unnest, window_aggregate,
};
use crate::plan::{self, NodeId, Plan, SinkId, TableId, Window};
use crate::types::{EventTime, Fingerprint, Lineage, Progress, Row, Timeline, Timespan, Value};

use super::meeting::{Meeting, Step};

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
    /// What expressions may know of now.
    pub(super) context: Context,
}

struct Node {
    stage: Stage,
    consumers: SmallVec<[(usize, usize); 2]>,
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
    fn delayed(&self, watermark: EventTime) -> EventTime {
        match watermark {
            // Nothing is to come at all.
            EventTime::MAX => EventTime::MAX,
            watermark => watermark.minus(self.delay),
        }
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
    /// `None` only while the operator runs.
    Stateful(Option<Box<dyn Operator>>),
    Sink(SinkId),
}

impl Graph {
    pub(super) fn new(plan: &Plan, max_keys: usize) -> Self {
        let mut nodes: Vec<Node> = plan
            .nodes
            .iter()
            .map(|node| start(node, max_keys))
            .collect();
        for (at, node) in plan.nodes.iter().enumerate() {
            for (input, from) in node.inputs.iter().enumerate() {
                match node.operator {
                    plan::Operator::LateRows => nodes[from.0].late.push(at),
                    _ => nodes[from.0].consumers.push((at, input)),
                }
            }
        }
        Self {
            nodes,
            context: Context {
                now: EventTime::MIN,
            },
        }
    }

    /// Hands a row to a node.
    pub(super) fn push(
        &mut self,
        at: usize,
        input: usize,
        row: &[Value],
        lineage: Lineage,
        progress: Progress,
        exit: &mut dyn Exit,
    ) {
        let context = self.context;
        let progress = match &self.nodes[at].meeting {
            Some(meeting) => meeting.behind(progress.line),
            None => progress,
        };
        match &mut self.nodes[at].stage {
            Stage::Pass => self.forward(at, row, lineage, progress, exit),
            Stage::Late => {
                let lineage = lineage.child(self.nodes[at].fingerprint, 0);
                self.forward(at, row, lineage, progress, exit);
            }
            Stage::Union => {
                let lineage = lineage.child(self.nodes[at].fingerprint, input as u64);
                self.forward(at, row, lineage, progress, exit);
            }
            Stage::Filter(predicate) => match predicate.test(row, &context) {
                Ok(true) => self.forward(at, row, lineage, progress, exit),
                Ok(false) => {}
                Err(error) => exit.discard(NodeId(at), expression_error(&error)),
            },
            Stage::Project { exprs, buffer } => {
                let mut output = std::mem::take(buffer);
                output.clear();
                for expr in exprs.iter() {
                    match expr.eval(row, &context) {
                        Ok(value) => output.push(value),
                        Err(error) => {
                            exit.discard(NodeId(at), expression_error(&error));
                            *buffer = output;
                            return;
                        }
                    }
                }
                self.forward(at, &output, lineage, progress, exit);
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
                    Err(error) => return exit.discard(NodeId(at), expression_error(&error)),
                };
                let (width, rows, outer) = (*width, *rows, *outer);
                let mut output = std::mem::take(buffer);
                let by = self.nodes[at].fingerprint;
                unnest(
                    row,
                    &array,
                    width,
                    rows,
                    outer,
                    &mut output,
                    |index, row| {
                        self.forward(at, row, lineage.child(by, index), progress, exit);
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
                let by = self.nodes[at].fingerprint;
                for (index, (start, end)) in windows.into_iter().enumerate() {
                    output.clear();
                    output.extend_from_slice(row);
                    output.push(Value::Timestamp(start.as_micros()));
                    output.push(Value::Timestamp(end.as_micros()));
                    output.push(Value::Timestamp(
                        end.minus(Timespan::MILLISECOND).as_micros(),
                    ));
                    self.forward(at, &output, lineage.child(by, index as u64), progress, exit);
                }
                self.give_back(at, output);
            }
            Stage::Lookup(lookup) => {
                let mut running = lookup.take().expect("a graph has no cycles");
                let mut emit = Downstream {
                    graph: self,
                    at,
                    progress,
                    exit,
                };
                running.process(row, lineage, &context, &mut emit);
                self.nodes[at].stage = Stage::Lookup(Some(running));
            }
            Stage::Stateful(operator) => {
                let mut running = operator.take().expect("a graph has no cycles");
                let behind = Progress {
                    watermark: self.nodes[at].delayed(progress.watermark),
                    ..progress
                };
                let mut emit = Downstream {
                    graph: self,
                    at,
                    progress: behind,
                    exit,
                };
                running.process(input, row, lineage, progress, &context, &mut emit);
                self.nodes[at].stage = Stage::Stateful(Some(running));
            }
            Stage::Sink(sink) => exit.sink(*sink, row, lineage),
        }
    }

    fn give_back(&mut self, at: usize, row: Row) {
        if let Stage::Project { buffer, .. }
        | Stage::Unnest { buffer, .. }
        | Stage::Assign { buffer, .. } = &mut self.nodes[at].stage
        {
            *buffer = row;
        }
    }

    fn forward(
        &mut self,
        at: usize,
        row: &[Value],
        lineage: Lineage,
        progress: Progress,
        exit: &mut dyn Exit,
    ) {
        for index in 0..self.nodes[at].consumers.len() {
            let (consumer, input) = self.nodes[at].consumers[index];
            self.push(consumer, input, row, lineage, progress, exit);
        }
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
        for index in 0..self.nodes[at].consumers.len() {
            let (consumer, input) = self.nodes[at].consumers[index];
            self.set_idle(consumer, input, line, idle, exit);
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
        for index in 0..self.nodes[at].consumers.len() {
            let (consumer, _) = self.nodes[at].consumers[index];
            self.pass(consumer, to, exit);
        }
    }

    /// The least watermark of a line that makes an operator behind a node do something.
    pub(super) fn next_timer(&self, at: usize, line: Timeline) -> Option<EventTime> {
        let node = &self.nodes[at];
        let line = node.meeting.as_ref().map_or(line, |m| m.behind(line).line);
        let delay = node.delay;
        let own = match &node.stage {
            Stage::Stateful(Some(operator)) => operator.next_timer(line),
            _ => None,
        };
        let consumers = node.consumers.iter();
        let behind = consumers.filter_map(|(consumer, _)| self.next_timer(*consumer, line));
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
        if let Stage::Stateful(operator) = &mut self.nodes[at].stage {
            let mut running = operator.take().expect("a graph has no cycles");
            let mut emit = Downstream {
                graph: self,
                at,
                // Behind this node it is still as late as before.
                progress: Progress {
                    line,
                    watermark: behind.from,
                },
                exit,
            };
            let to = Progress {
                line,
                watermark: to,
            };
            running.advance(to, &mut emit);
            self.nodes[at].stage = Stage::Stateful(Some(running));
        }
        for index in 0..self.nodes[at].consumers.len() {
            let (consumer, input) = self.nodes[at].consumers[index];
            self.advance(consumer, input, behind, exit);
        }
    }

    /// Hands the rows of a table to all that look rows up in it.
    pub(super) fn load(&mut self, plan: &Plan, id: TableId, rows: &[Row]) -> Result<(), EvalError> {
        let context = self.context;
        for (at, node) in plan.nodes.iter().enumerate() {
            if let (plan::Operator::LookupJoin(join), Stage::Lookup(Some(lookup))) =
                (&node.operator, &mut self.nodes[at].stage)
                && join.table == id
            {
                lookup.load(rows, &context)?;
            }
        }
        Ok(())
    }

    /// The stateful operators with the fingerprints their state is stored under.
    pub(super) fn operators(
        &mut self,
    ) -> impl Iterator<Item = (Fingerprint, &mut (dyn Operator + 'static))> {
        self.nodes
            .iter_mut()
            .filter_map(|node| match &mut node.stage {
                Stage::Stateful(Some(operator)) => Some((node.fingerprint, &mut **operator)),
                _ => None,
            })
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
                let known: SmallVec<[SmallVec<[EventTime; 1]>; 2]> = inputs
                    .iter()
                    .map(|input| {
                        every()
                            .map(|line| self.watermark_behind(*input, line, source))
                            .collect()
                    })
                    .collect();
                if let Some(meeting) = &mut self.nodes[at].meeting {
                    meeting.resume(&known);
                }
            }
            if let Stage::Stateful(operator) = &mut self.nodes[at].stage
                && let Some(mut running) = operator.take()
            {
                running.resume(&|line| self.watermark(at, line, source));
                self.nodes[at].stage = Stage::Stateful(Some(running));
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

/// A step that keeps state.
fn stateful(operator: impl Operator + 'static) -> Stage {
    Stage::Stateful(Some(Box::new(operator)))
}

fn start(node: &plan::Node, max_keys: usize) -> Node {
    let stage = match &node.operator {
        plan::Operator::Source(_) | plan::Operator::SharedTime => Stage::Pass,
        plan::Operator::Union => Stage::Union,
        plan::Operator::LateRows => Stage::Late,
        plan::Operator::Filter { predicate } => Stage::Filter(predicate.clone()),
        plan::Operator::Project { exprs } => Stage::Project {
            exprs: exprs.clone(),
            buffer: Row::new(),
        },
        plan::Operator::Unnest {
            array,
            width,
            rows,
            outer,
        } => Stage::Unnest {
            array: array.clone(),
            width: *width,
            rows: *rows,
            outer: *outer,
            buffer: Row::new(),
        },
        plan::Operator::WindowAssign { window, time } => Stage::Assign {
            window: window.clone(),
            time: *time,
            buffer: Row::new(),
        },
        plan::Operator::WindowAggregate {
            window,
            time,
            keys,
            aggregates,
            late,
        } => {
            let aggregation = Aggregation {
                time: *time,
                keys: keys.clone(),
                aggregates: aggregates.clone(),
                late: *late,
                fingerprint: node.fingerprint,
            };
            Stage::Stateful(Some(window_aggregate(window, aggregation, max_keys)))
        }
        plan::Operator::Over {
            time,
            keys,
            functions,
            ttl,
        } => stateful(Over::new(
            *time,
            keys.clone(),
            functions.clone(),
            *ttl,
            max_keys,
        )),
        plan::Operator::Deduplicate { time, keys, within } => {
            stateful(Deduplicate::new(*time, keys.clone(), *within, max_keys))
        }
        plan::Operator::WindowTop {
            start,
            end,
            keys,
            order,
            limit,
        } => stateful(WindowTop::new(
            (*start, *end),
            keys.clone(),
            order.clone(),
            limit.unwrap_or_default(),
            max_keys,
        )),
        plan::Operator::TemporalJoin(join) => {
            stateful(TemporalJoin::new(join, node.fingerprint, max_keys))
        }
        plan::Operator::LookupJoin(join) => {
            Stage::Lookup(Some(Box::new(LookupJoin::new(join, node.fingerprint))))
        }
        plan::Operator::IntervalJoin(join) => {
            stateful(IntervalJoin::new(join, node.fingerprint, max_keys))
        }
        plan::Operator::Match(pattern) => stateful(Match::new(pattern, node.fingerprint, max_keys)),
        plan::Operator::Sink(sink) => Stage::Sink(*sink),
    };
    let meeting = match node.operator {
        plan::Operator::SharedTime => Some(Meeting::of_lines()),
        _ if node.inputs.len() > 1 => Some(Meeting::of_inputs(node.inputs.len())),
        _ => None,
    };
    Node {
        stage,
        consumers: SmallVec::new(),
        late: SmallVec::new(),
        inputs: node.inputs.iter().map(|input| input.0).collect(),
        meeting,
        delay: node.operator.delay(),
        fingerprint: node.fingerprint,
    }
}

fn expression_error(error: &crate::expr::EvalError) -> Discard {
    Discard {
        reason: "expression_error",
        detail: error.to_string(),
    }
}

/// What follows a stateful operator.
struct Downstream<'a> {
    graph: &'a mut Graph,
    at: usize,
    /// The line and the watermark of the rows.
    progress: Progress,
    exit: &'a mut dyn Exit,
}

impl Emit for Downstream<'_> {
    fn row(&mut self, row: &[Value], lineage: Lineage) {
        self.graph
            .forward(self.at, row, lineage, self.progress, self.exit);
    }

    fn discard(&mut self, discard: Discard) {
        self.exit.discard(NodeId(self.at), discard);
    }

    fn late(&mut self, row: &[Value], lineage: Lineage) {
        for index in 0..self.graph.nodes[self.at].late.len() {
            let to = self.graph.nodes[self.at].late[index];
            self.graph
                .push(to, 0, row, lineage, self.progress, self.exit);
        }
    }

    fn count(&mut self, what: &'static str) {
        self.exit.count(NodeId(self.at), what);
    }
}
