//! What waits for event time to pass, although its source may fall silent: for the warnings of `check`.

use crate::plan::{Diagnostic, NodeId, Operator, Plan, SourceConnector, SourceId};

/// A warning for each source that brokers feed and whose silence leaves something open.
pub(super) fn look_over(plan: &Plan) -> Vec<Diagnostic> {
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
