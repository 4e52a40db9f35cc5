//! A call of an aggregate, with its clauses, into what the plan has.

use sqlparser::ast::{
    DuplicateTreatment, Expr as Ast, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentClause, FunctionArgumentList, NullTreatment,
};

use crate::expr::{Expr, ResolveError, Typed};
use crate::plan::{Aggregate, AggregateFunction, Diagnostic};

use super::super::convert::Converter;
use super::Grouping;
use super::known::{self, Distinct, Known, Nulls};

/// Converts a call of an aggregate: notes what is aggregated and gives its column.
pub(in super::super) fn convert(
    converter: &mut Converter<'_>,
    grouping: &mut Grouping,
    name: &str,
    function: &Function,
    ast: &Ast,
) -> Result<Typed, Diagnostic> {
    let aggregate = aggregate(converter, name, function, ast)?;
    let (ty, nullable) = (aggregate.ty.clone(), aggregate.nullable());
    let index = grouping
        .aggregates
        .iter()
        .position(|known| *known == aggregate)
        .unwrap_or_else(|| {
            grouping.aggregates.push(aggregate);
            grouping.aggregates.len() - 1
        });
    let column = Expr::Column(grouping.keys.len() + index);
    Ok(Typed::new(column, ty, nullable))
}

/// The aggregate that a call means. Columns of the input can be named in it, and other aggregates cannot.
pub(in super::super) fn aggregate(
    converter: &mut Converter<'_>,
    name: &str,
    function: &Function,
    ast: &Ast,
) -> Result<Aggregate, Diagnostic> {
    let upper = name.to_ascii_uppercase();
    let Some(known) = known::find(name) else {
        let instead = known::instead_of(name).unwrap_or("see the list of aggregates");
        let message = format!("{upper} is not supported as an aggregate");
        return Err(converter.blame(ast, ResolveError::hinted(message, instead)));
    };
    let list = converter.arguments(function, ast)?;
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let clauses = clauses(known, function, list, distinct);
    let respects_nulls = clauses.map_err(|e| converter.blame(ast, e))?;
    let mut arguments = Vec::new();
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)]
            if known.function == AggregateFunction::Count && !distinct => {}
        given => {
            for argument in given {
                let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument else {
                    return Err(converter.blame(ast, wrong_arguments(known)));
                };
                arguments.push(converter.convert(argument)?);
            }
            let several = known.function == AggregateFunction::Count && !distinct;
            let most = if several { 1 } else { *known.arguments.end() };
            let least = (*known.arguments.start()).max(1);
            if !(least..=most).contains(&arguments.len()) {
                return Err(converter.blame(ast, wrong_arguments(known)));
            }
        }
    }
    let filter = match &function.filter {
        Some(filter) => {
            let predicate = converter.convert(filter)?;
            predicate
                .want_bool("FILTER")
                .map_err(|e| converter.blame(filter, e))?;
            Some(predicate.expr)
        }
        None => None,
    };
    let aggregate = known.of(arguments).map_err(|e| converter.blame(ast, e))?;
    Ok(Aggregate {
        distinct: distinct && known.distinct == Distinct::Counts,
        respects_nulls,
        filter,
        ..aggregate
    })
}

fn wrong_arguments(known: &Known) -> ResolveError {
    let (name, form) = (known.name, known.form);
    if form.starts_with('(') {
        ResolveError::new(format!("{name} is written {name}{form}"))
    } else {
        ResolveError::new(format!("{name} takes {form}"))
    }
}

/// Checks the clauses of a call; whether NULLs are taken.
fn clauses(
    known: &Known,
    function: &Function,
    list: &FunctionArgumentList,
    distinct: bool,
) -> Result<bool, ResolveError> {
    let name = known.name;
    if distinct && known.distinct == Distinct::Refused {
        return Err(ResolveError::hinted(
            format!("{name}(DISTINCT …) has no meaning of its own"),
            "remove DISTINCT",
        ));
    }
    let mut treatment = function.null_treatment;
    let mut ordered = !function.within_group.is_empty();
    for clause in &list.clauses {
        match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(said) => treatment = Some(*said),
            FunctionArgumentClause::OrderBy(_) => ordered = true,
            FunctionArgumentClause::Where(_) => {
                return Err(ResolveError::hinted(
                    format!("{name} takes no WHERE among its arguments"),
                    format!("write it behind: {name}(…) FILTER (WHERE …)"),
                ));
            }
            FunctionArgumentClause::OnOverflow(_) => {
                return Err(ResolveError::hinted(
                    "ON OVERFLOW is not supported",
                    "remove it: a list that grows too long is a dead letter, never cut",
                ));
            }
            _ => {
                return Err(ResolveError::hinted(
                    format!("{name} takes values and FILTER"),
                    "remove the other clauses",
                ));
            }
        }
    }
    if ordered {
        return Err(ResolveError::hinted(
            format!("{name} with ORDER BY is not supported"),
            "remove it: values stand in the order of their arrival; FIRST and LAST by a column are MIN_BY and MAX_BY",
        ));
    }
    match (known.nulls, treatment) {
        (Nulls::Ignored, Some(NullTreatment::RespectNulls)) => Err(ResolveError::hinted(
            format!("{name} always leaves NULLs out"),
            "remove RESPECT NULLS, or write COALESCE(x, …)",
        )),
        (Nulls::IgnoredUnlessSaid, said) => Ok(said == Some(NullTreatment::RespectNulls)),
        (Nulls::RespectedUnlessSaid, said) => Ok(said != Some(NullTreatment::IgnoreNulls)),
        (Nulls::Ignored, _) => Ok(false),
    }
}
