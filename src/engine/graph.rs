//! The running graph: rows go through it depth first, one at a time, watermarks behind them.
//!
//! A stateless step keeps one row buffer and computes into it, so that a row on its way allocates nothing; the
//! buffer is lent out while the row is handed on, which is safe because a graph has no cycles.

use smallvec::SmallVec;

use crate::expr::{Context, Expr};
use crate::ops::{Discard, Emit, Operator, WindowAggregate, assign_windows, unnest};
use crate::plan::{self, NodeId, Plan, SinkId, Window};
use crate::types::{EventTime, Fingerprint, Lineage, Row, Timespan, Value};

/// Where the graph puts what leaves it.
pub(super) trait Exit {
    /// A row for a sink.
    fn sink(&mut self, sink: SinkId, row: &[Value], lineage: Lineage);
    /// A row that an operator of the named query could not use.
    fn discard(&mut self, node: NodeId, discard: Discard);
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
    /// What is known of each input's time.
    inputs: SmallVec<[Input; 1]>,
    watermark: EventTime,
    fingerprint: Fingerprint,
}

/// The time of one input.
#[derive(Clone, Copy)]
struct Input {
    watermark: EventTime,
    /// Silent for longer than its source's idle timeout: it does not hold the others back.
    idle: bool,
}

/// The watermark that inputs give together: the least of those that are active; if none is, the greatest of all, as
/// Flink has it.
fn together(inputs: &[Input]) -> Option<EventTime> {
    let active = inputs
        .iter()
        .filter(|input| !input.idle)
        .map(|input| input.watermark)
        .min();
    active.or_else(|| inputs.iter().map(|input| input.watermark).max())
}

enum Stage {
    Pass,
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
                nodes[from.0].consumers.push((at, input));
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
        exit: &mut dyn Exit,
    ) {
        let context = self.context;
        match &mut self.nodes[at].stage {
            Stage::Pass => self.forward(at, row, lineage, exit),
            Stage::Union => {
                let lineage = lineage.child(self.nodes[at].fingerprint, input as u64);
                self.forward(at, row, lineage, exit);
            }
            Stage::Filter(predicate) => match predicate.test(row, &context) {
                Ok(true) => self.forward(at, row, lineage, exit),
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
                self.forward(at, &output, lineage, exit);
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
                        self.forward(at, row, lineage.child(by, index), exit);
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
                    self.forward(at, &output, lineage.child(by, index as u64), exit);
                }
                self.give_back(at, output);
            }
            Stage::Stateful(operator) => {
                let mut running = operator.take().expect("a graph has no cycles");
                let mut emit = Downstream {
                    graph: self,
                    at,
                    exit,
                };
                running.process(input, row, lineage, &context, &mut emit);
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

    fn forward(&mut self, at: usize, row: &[Value], lineage: Lineage, exit: &mut dyn Exit) {
        for index in 0..self.nodes[at].consumers.len() {
            let (consumer, input) = self.nodes[at].consumers[index];
            self.push(consumer, input, row, lineage, exit);
        }
    }

    /// Tells a node that an input's watermark has moved.
    pub(super) fn advance(
        &mut self,
        at: usize,
        input: usize,
        watermark: EventTime,
        exit: &mut dyn Exit,
    ) {
        if let Some(known) = self.nodes[at].inputs.get_mut(input) {
            known.watermark = watermark.max(known.watermark);
        }
        let reached = together(&self.nodes[at].inputs).unwrap_or(watermark);
        self.reach(at, reached, exit);
    }

    /// Tells a node that an input has fallen silent, or speaks again.
    pub(super) fn set_idle(&mut self, at: usize, input: usize, idle: bool, exit: &mut dyn Exit) {
        let node = &mut self.nodes[at];
        let before = !node.inputs.is_empty() && node.inputs.iter().all(|input| input.idle);
        if let Some(known) = node.inputs.get_mut(input) {
            known.idle = idle;
        }
        // A source has no inputs: what is said of it is said of its rows.
        let now = if node.inputs.is_empty() {
            idle
        } else {
            node.inputs.iter().all(|i| i.idle)
        };
        if let Some(reached) = together(&node.inputs) {
            self.reach(at, reached, exit);
        }
        if now != before || self.nodes[at].inputs.is_empty() {
            for index in 0..self.nodes[at].consumers.len() {
                let (consumer, input) = self.nodes[at].consumers[index];
                self.set_idle(consumer, input, now, exit);
            }
        }
    }

    fn reach(&mut self, at: usize, reached: EventTime, exit: &mut dyn Exit) {
        let node = &mut self.nodes[at];
        if reached <= node.watermark {
            return;
        }
        node.watermark = reached;
        if let Stage::Stateful(operator) = &mut node.stage {
            let mut running = operator.take().expect("a graph has no cycles");
            running.advance(
                reached,
                &mut Downstream {
                    graph: self,
                    at,
                    exit,
                },
            );
            self.nodes[at].stage = Stage::Stateful(Some(running));
        }
        for index in 0..self.nodes[at].consumers.len() {
            let (consumer, input) = self.nodes[at].consumers[index];
            self.advance(consumer, input, reached, exit);
        }
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

    /// Sets the watermarks of all nodes after a restart, from those of the sources.
    pub(super) fn resume(&mut self, plan: &Plan, sources: &[EventTime]) {
        for (at, node) in plan.nodes.iter().enumerate() {
            let watermark = if let plan::Operator::Source(source) = node.operator {
                sources[source.0]
            } else {
                let inputs = node.inputs.iter().map(|from| Input {
                    watermark: self.nodes[from.0].watermark,
                    idle: false,
                });
                self.nodes[at].inputs = inputs.collect();
                together(&self.nodes[at].inputs).unwrap_or(EventTime::MIN)
            };
            let running = &mut self.nodes[at];
            running.watermark = watermark;
            if let Stage::Stateful(Some(operator)) = &mut running.stage {
                operator.resume(watermark);
            }
        }
    }
}

fn start(node: &plan::Node, max_keys: usize) -> Node {
    let stage = match &node.operator {
        plan::Operator::Source(_) => Stage::Pass,
        plan::Operator::Union => Stage::Union,
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
        } => Stage::Stateful(Some(Box::new(WindowAggregate::new(
            window,
            *time,
            keys.clone(),
            aggregates.clone(),
            node.fingerprint,
            max_keys,
        )))),
        plan::Operator::Sink(sink) => Stage::Sink(*sink),
    };
    Node {
        stage,
        consumers: SmallVec::new(),
        inputs: SmallVec::from_elem(
            Input {
                watermark: EventTime::MIN,
                idle: false,
            },
            node.inputs.len(),
        ),
        watermark: EventTime::MIN,
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
    exit: &'a mut dyn Exit,
}

impl Emit for Downstream<'_> {
    fn row(&mut self, row: &[Value], lineage: Lineage) {
        self.graph.forward(self.at, row, lineage, self.exit);
    }

    fn discard(&mut self, discard: Discard) {
        self.exit.discard(NodeId(self.at), discard);
    }
}
