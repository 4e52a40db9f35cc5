//! Which names mean which columns at a place in a query.

use compact_str::CompactString;
use sqlparser::ast::Ident;

use crate::expr::{Expr, ResolveError, Typed};
use crate::plan::nearest;
use crate::types::{Column, Schema};

/// The columns that can be named.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// In the order of the row.
    pub(super) columns: Vec<ScopeColumn>,
}

/// A column that can be named.
#[derive(Clone, Debug)]
pub(super) struct ScopeColumn {
    /// The table or alias it belongs to.
    pub(super) relation: Option<CompactString>,
    /// Its name, type and role in time.
    pub(super) column: Column,
    /// What it is of a window.
    pub(super) role: Role,
    /// Whether it cannot be named: the column is in the row, but not yet filled.
    pub(super) hidden: bool,
}

/// What a column is of the window its row belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    #[default]
    None,
    /// `window_start`.
    Start,
    /// `window_end`.
    End,
    /// `window_time`.
    Time,
}

impl Scope {
    /// The columns of a row that belongs to `relation`.
    pub(super) fn of(schema: &Schema, relation: Option<&str>) -> Self {
        let columns = schema.columns.iter().map(|column| ScopeColumn {
            relation: relation.map(CompactString::from),
            column: column.clone(),
            role: Role::None,
            hidden: false,
        });
        Self {
            columns: columns.collect(),
        }
    }

    /// The shape of the row.
    pub(super) fn schema(&self) -> Schema {
        Schema::new(self.columns.iter().map(|c| c.column.clone()).collect())
    }

    /// The position of the column with this role.
    pub(super) fn position_of(&self, role: Role) -> Option<usize> {
        self.columns.iter().position(|c| c.role == role)
    }

    /// The column at a position.
    pub(super) fn typed(&self, position: usize) -> Typed {
        let column = &self.columns[position].column;
        Typed::new(Expr::Column(position), column.ty.clone(), column.nullable)
    }

    /// Finds `name`, `relation.name`, and fields behind it. Gives the position and how many names it took.
    pub(super) fn find(&self, names: &[Ident]) -> Result<(usize, usize), ResolveError> {
        if let [relation, name, ..] = names
            && let Some(relation) = self.relation(&relation.value)
            && let Some(position) = self.find_in(Some(relation), &name.value)?
        {
            return Ok((position, 2));
        }
        let Some(first) = names.first() else {
            return Err(ResolveError::new("a name is missing"));
        };
        match self.find_in(None, &first.value)? {
            Some(position) => Ok((position, 1)),
            None => Err(self.unknown(names)),
        }
    }

    /// The relation of this name as it is written in the query.
    fn relation(&self, name: &str) -> Option<&str> {
        let known = || self.columns.iter().filter_map(|c| c.relation.as_deref());
        known()
            .find(|known| *known == name)
            .or_else(|| known().find(|known| known.eq_ignore_ascii_case(name)))
    }

    fn find_in(&self, relation: Option<&str>, name: &str) -> Result<Option<usize>, ResolveError> {
        let in_reach = |c: &ScopeColumn| {
            !c.hidden && (relation.is_none() || c.relation.as_deref() == relation)
        };
        let search = |matches: &dyn Fn(&str) -> bool| {
            let mut found = self
                .columns
                .iter()
                .enumerate()
                .filter(|(_, c)| in_reach(c) && matches(&c.column.name));
            (found.next().map(|(i, _)| i), found.next().map(|(i, _)| i))
        };
        let exact = search(&|known| known == name);
        let alike = search(&|known| known.eq_ignore_ascii_case(name));
        match if exact.0.is_some() { exact } else { alike } {
            (found, None) => Ok(found),
            (Some(first), Some(second)) => Err(ResolveError {
                message: format!("the column {name} is ambiguous"),
                hint: Some(self.ambiguous_hint(first, second)),
            }),
            (None, Some(_)) => Ok(None),
        }
    }

    fn ambiguous_hint(&self, first: usize, second: usize) -> String {
        let full = |i: usize| {
            let c = &self.columns[i];
            c.relation
                .as_ref()
                .map(|relation| format!("{relation}.{}", c.column.name))
        };
        match (full(first), full(second)) {
            (Some(a), Some(b)) if a != b => format!("write {a} or {b}"),
            // One of them, such as the window_start of a window, has no table to be named by.
            (Some(one), None) | (None, Some(one)) => {
                format!("rename {one} with AS in an inner query")
            }
            _ => "rename one of them with AS".to_owned(),
        }
    }

    fn unknown(&self, names: &[Ident]) -> ResolveError {
        let text = names
            .iter()
            .map(|n| n.value.as_str())
            .collect::<Vec<_>>()
            .join(".");
        let visible = || self.columns.iter().filter(|c| !c.hidden);
        let last = names.last().map_or("", |n| n.value.as_str());
        let names = || visible().map(|c| c.column.name.as_str());
        let hint = if let Some(near) = nearest(last, names()) {
            format!("did you mean {near}?")
        } else if names().next().is_none() {
            "there are no columns here".to_owned()
        } else {
            let known: Vec<&str> = names().take(12).collect();
            format!("the columns are {}", known.join(", "))
        };
        ResolveError {
            message: format!("there is no column {text}"),
            hint: Some(hint),
        }
    }
}
