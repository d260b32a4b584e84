//! How a query is answered, for people.

use std::fmt;
use std::sync::Arc;

use super::execute::Execution;
use super::plan::{Plan, Source, is_everything};
use crate::collection::meta::Meta;

/// How a query was answered. Prints as a few lines.
#[derive(Clone)]
pub struct Explanation {
    meta: Arc<Meta>,
    plan: Plan,
    /// Rows that the plan expected to look at.
    pub expected: u64,
    /// Documents that were looked at.
    pub examined: u64,
    /// Rows that were found.
    pub rows: u64,
    unknown: Vec<(String, String)>,
}

impl Explanation {
    /// Of a query that also has these fields of the rows.
    pub(super) fn new(execution: &Execution<'_>, selected: Vec<String>, rows: u64) -> Self {
        let mut asked = execution.asked_fields();
        asked.extend(selected);
        asked.sort_unstable();
        asked.dedup();
        let unknown = asked.into_iter().filter_map(|field| {
            let fault = execution.meta.schema.fault_of_question(&field)?;
            Some((field, fault))
        });
        Explanation {
            unknown: unknown.collect(),
            meta: execution.meta.clone(),
            plan: execution.plan.clone(),
            expected: execution.plan.expected,
            examined: execution.examined,
            rows,
        }
    }

    /// The names of the indexes that were used.
    pub fn indexes(&self) -> Vec<&str> {
        let positions = match &self.plan.source {
            Source::Nothing | Source::Documents { .. } => Vec::new(),
            Source::InOrder { access, .. } => vec![access.index],
            Source::Ids(ways) => { ways.iter().flatten() }
                .map(|access| access.index)
                .collect(),
        };
        let mut names: Vec<&str> = { positions.iter() }
            .filter_map(|position| self.meta.indexes.get(*position))
            .map(|index| index.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The fields that were asked for and that no document can have, because the schema is strict and does not declare
    /// them: slips of the pen, most likely. (Of a filter only that is known which can be planned.)
    pub fn unknown_fields(&self) -> impl Iterator<Item = &str> {
        self.unknown.iter().map(|(field, _)| field.as_str())
    }

    /// Whether every document was a candidate.
    pub fn is_scan(&self) -> bool {
        matches!(&self.plan.source, Source::Documents { ranges, .. } if is_everything(ranges))
    }

    /// Whether the rows were sorted after they were found.
    pub fn sorts(&self) -> bool {
        self.plan.sorts
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.describe(&self.meta, f)?;
        write!(f, ", looked at {}, found {}", self.examined, self.rows)?;
        { self.unknown.iter() }.try_for_each(|(_, fault)| write!(f, "\n{fault}"))
    }
}

impl fmt::Debug for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Explanation({:?})", self.to_string())
    }
}
