//! What waits for event time to pass, although its source may fall silent, and what goes by the clock then: for the
//! warnings of `check`.

use crate::plan::{Diagnostic, Node, NodeId, Operator, Plan, SourceConnector, SourceId};
use crate::types::Type;

/// What to know of silence before it comes.
pub(super) fn look_over(plan: &Plan) -> Vec<Diagnostic> {
    let mut warnings = left_open(plan);
    warnings.extend(plan.nodes.iter().filter_map(|node| zoneless(plan, node)));
    warnings
}

/// A warning of alarms that the clock of the gateway raises, while devices may write local time.
fn zoneless(plan: &Plan, node: &Node) -> Option<Diagnostic> {
    let Operator::Alarms(alarms) = &node.operator else {
        return None;
    };
    let told_again = alarms.rules.iter().any(|rule| rule.re_alarm.is_some());
    let time = &plan.nodes[node.inputs.first()?.0].schema.columns[alarms.time];
    let by_clock = alarms.silence().is_some() || told_again;
    (by_clock && matches!(time.ty, Type::Timestamp { .. })).then(|| Diagnostic {
        place: node.place.clone(),
        message: format!(
            "{} is a TIMESTAMP, which has no zone: behind a start of the gateway silence and re-alarms go by its clock in UTC, \
             and are hours off if devices write local time",
            time.name
        ),
        hint: Some(
            "declare the times as TIMESTAMP_LTZ(3) if they are UTC; if not, make them so: CONVERT_TZ(time, 'Europe/Berlin', 'UTC')"
                .to_owned(),
        ),
    })
}

/// A warning for each source that brokers feed and whose silence leaves something open.
fn left_open(plan: &Plan) -> Vec<Diagnostic> {
    let sources = plan.sources.iter().enumerate();
    let silent = sources.filter(|(id, source)| {
        let fed = matches!(source.connector, SourceConnector::Mqtt { .. });
        let node = plan
            .nodes
            .iter()
            .position(|node| node.operator == Operator::Source(SourceId(*id)));
        fed && source.watermark.is_some()
            && source.idle_timeout.is_none()
            && node.is_some_and(|at| is_waited_for(plan, at))
    });
    let warnings = silent.map(|(_, source)| Diagnostic {
        place: source.place.clone(),
        message: format!(
            "while {} is silent its time stands still: the last windows, joins, patterns and alarms over it stay as they are \
             until its next message",
            source.name
        ),
        hint: Some("add 'scan.watermark.idle-timeout' = '1 min'".to_owned()),
    });
    warnings.collect()
}

/// Whether something behind a node does its work when time passes.
fn is_waited_for(plan: &Plan, at: usize) -> bool {
    let users = plan.nodes.iter().enumerate();
    let mut users = users.filter(|(_, node)| {
        let mut inputs = node.inputs.iter().enumerate();
        inputs.any(|(input, from)| *from == NodeId(at) && node.operator.leads(input))
    });
    users.any(|(user, node)| {
        matches!(
            node.operator,
            Operator::WindowAggregate { .. }
                | Operator::WindowTop { .. }
                | Operator::Over { .. }
                | Operator::Match(_)
                | Operator::Alarms(_)
                | Operator::IntervalJoin(_)
                | Operator::TemporalJoin(_)
        ) || is_waited_for(plan, user)
    })
}
