//! Documents by their ids: their keys are the ids in order, so the tree of the documents is the index of the field `id`,
//! which every document has.

use std::sync::Arc;

use super::access::{count_in, merged};
use super::asked::Asked;
use super::{FETCH_COST, Plan, Planner, SCAN_COST, SORT_ROW_COST, Source};
use crate::Result;
use crate::collection::index::MAX_ID_BYTES;
use crate::moment::Moment;
use crate::query::fields::ID;
use crate::query::ranges::{ByteRange, RangeSet};

/// The ids that all ways into a filter leave.
#[derive(Debug)]
pub(super) struct Ids {
    ranges: Vec<ByteRange>,
    /// What was added last.
    last: Option<Arc<RangeSet>>,
    /// The documents with these ids are the rows, no others.
    is_exact: bool,
}

impl Default for Ids {
    /// Those of a filter without a way.
    fn default() -> Self {
        Ids {
            ranges: Vec::new(),
            last: None,
            is_exact: true,
        }
    }
}

impl Ids {
    /// Those of a filter of which nothing is known.
    pub(super) fn unknown() -> Self {
        Ids {
            ranges: RangeSet::everything().ranges,
            last: None,
            is_exact: false,
        }
    }

    /// Adds what a way leaves.
    pub(super) fn add(&mut self, asked: &Asked<'_>) {
        let left = asked.sets.get(ID);
        let answers = left.map_or(0, |left| left.answers);
        self.is_exact &= answers == asked.answers;
        let set = left.map_or_else(|| Arc::new(RangeSet::everything()), |left| left.set.clone());
        // Most ways say the same of the ids.
        let is_known =
            { self.last.as_ref() }.is_some_and(|last| Arc::ptr_eq(last, &set) || *last == set);
        if is_known {
            return;
        }
        let cut = |range: &ByteRange| {
            // No id is longer, so none is between a bound and what is left of it.
            let cut = |bound: &Vec<u8>| bound.iter().take(MAX_ID_BYTES + 1).copied().collect();
            ByteRange {
                low: cut(&range.low),
                high: cut(&range.high),
            }
        };
        self.ranges.extend(set.ranges.iter().map(cut));
        self.last = Some(set);
    }

    pub(super) fn ranges(self) -> Vec<ByteRange> {
        merged(self.ranges)
    }
}

/// Whether rows are wanted from the greatest id to the least.
pub(crate) fn is_backwards_by_id(order: &[(String, bool)]) -> bool {
    matches!(order, [(field, false)] if field == ID)
}

/// Whether these are the ranges of a scan of all documents.
pub(crate) fn is_everything(ranges: &[ByteRange]) -> bool {
    ranges == RangeSet::everything().ranges
}

impl<M: Moment> Planner<'_, M> {
    /// Looks at documents in the order of their ids.
    pub(super) fn scan(&self, ids: Ids, matches: u64) -> Result<(f64, Plan)> {
        let is_exact = ids.is_exact;
        let ranges = ids.ranges();
        let candidates = self.documents_in(&ranges)?;
        let matches = matches.min(candidates);
        let descending = is_backwards_by_id(self.wanted.order);
        let sorts = !self.wanted.order.is_empty() && !descending;
        let (expected, sort_cost) = match (sorts, is_exact) {
            (true, _) => (candidates, matches as f64 * SORT_ROW_COST),
            (false, true) => (self.counted_to(candidates), 0.0),
            (false, false) => (self.looked_at(candidates, matches), 0.0),
        };
        let seeks = (ranges.len() as u64).min(expected).saturating_sub(1);
        let cost = expected as f64 * SCAN_COST
            + seeks as f64 * FETCH_COST
            + self.checking(expected, is_exact)
            + sort_cost;
        let known = (is_exact && self.meta.expires.is_none()).then_some(candidates);
        let source = Source::Documents {
            ranges: ranges.into(),
            descending,
        };
        Ok((
            cost,
            self.planned(source, !is_exact, sorts, expected, known),
        ))
    }

    fn documents_in(&self, ranges: &[ByteRange]) -> Result<u64> {
        let view = self.moment.system_view(&self.meta.documents_tree);
        match view {
            Some(view) if !is_everything(ranges) => count_in(&view, ranges),
            _ => Ok(self.documents),
        }
    }
}
