//! Walking an index in the order that was asked for.

use super::{Execution, Place, Sink, Sorted, State, ranged, start, step};
use crate::Result;
use crate::collection::index::{is_cut, split};
use crate::moment::Moment;
use crate::query::ids::IdList;
use crate::query::plan::Source;
use crate::txn::cursor::TreeCursor;
use crate::txn::view::TreeView;

/// How far a walk is. What was found comes before what is at its place.
#[derive(Debug, Default)]
pub(super) struct Walk {
    range: usize,
    from: Option<Place>,
    /// Documents to look at, from `next` on.
    ids: IdList,
    next: usize,
    /// At the place are entries that were cut to these values, of which the order is known only from the documents. Their
    /// rows gather in the sorter.
    cut: Option<Vec<u8>>,
    /// Rows of such entries.
    sorted: Sorted,
}

impl Walk {
    /// One that begins at a place in a range.
    pub(super) fn from(range: usize, place: Place) -> Self {
        Walk {
            range,
            from: Some(place),
            ..Walk::default()
        }
    }

    fn has_found(&self) -> bool {
        self.next < self.ids.len() || !self.sorted.is_empty()
    }
}

impl Execution<'_> {
    pub(super) fn walk(
        &mut self,
        moment: &impl Moment,
        mut at: Walk,
        budget: usize,
        sink: &mut Sink<'_>,
    ) -> Result<State> {
        let Source::InOrder { access, descending } = self.plan.source.clone() else {
            return Ok(State::Done);
        };
        let (Some(index), Some(documents)) = (
            self.index_view(moment, access.index),
            moment.system_view(&self.meta.documents_tree),
        ) else {
            return Ok(State::Done);
        };
        let mut left = budget;
        if at.ids.len() == 0 {
            at.ids = IdList::with_room(self.wanted_at_once());
        }
        if !self.give_found(moment, &mut at, &documents, &mut left, sink)? {
            return Ok(State::Done);
        }
        while let Some(bounds) = ranged(&access.ranges, at.range, descending) {
            if left == 0 || self.is_enough() {
                return Ok(State::InOrder(at));
            }
            left -= 1; // to look where there is nothing takes time, too
            let mut cursor = index.cursor_in::<Vec<u8>>(&bounds.low..&bounds.high);
            let mut there = start(&mut cursor, at.from.take().as_ref(), descending)?;
            while there {
                if left == 0 || self.is_enough() {
                    let (key, is_included) = (cursor.key().to_vec(), true);
                    at.from = Some(Place { key, is_included });
                    return Ok(State::InOrder(at));
                }
                there = match at.cut.is_some() {
                    true => self.sort_some(moment, &mut cursor, &mut at, &documents, &mut left)?,
                    false => self.take_ids(&mut cursor, &mut at, descending, &mut left)?,
                };
                if !self.give_found(moment, &mut at, &documents, &mut left, sink)? {
                    return Ok(State::Done);
                }
            }
            at.range += 1;
        }
        Ok(match at.has_found() {
            true => State::InOrder(at),
            false => State::Done,
        })
    }

    /// Takes the ids of some entries, as many as are sure to be wanted, up to one that was cut. Says whether there are
    /// other entries behind them.
    fn take_ids(
        &self,
        cursor: &mut TreeCursor<'_>,
        at: &mut Walk,
        descending: bool,
        left: &mut usize,
    ) -> Result<bool> {
        let group = self.wanted_at_once().min(*left);
        at.ids.clear();
        at.next = 0;
        let mut there = true;
        while there && at.ids.len() < group {
            let (values, id) = split(cursor.key()).ok_or_else(|| self.bad_entry())?;
            if is_cut(values) && !self.spec.order.is_empty() {
                at.cut = Some(values.to_vec());
                break;
            }
            at.ids.push(id);
            there = step(cursor, descending)?;
        }
        *left -= at.ids.len();
        Ok(there)
    }

    /// Looks at entries that were cut to the same values. Of their rows the sorter keeps what is wanted: there may be as
    /// many as the collection has. Says whether there are other entries behind those that it looked at.
    fn sort_some(
        &mut self,
        moment: &impl Moment,
        cursor: &mut TreeCursor<'_>,
        at: &mut Walk,
        documents: &TreeView<'_>,
        left: &mut usize,
    ) -> Result<bool> {
        let Source::InOrder { descending, .. } = self.plan.source else {
            return Ok(false);
        };
        let mut there = true;
        let mut is_whole = false;
        while there && !is_whole && *left > 0 && !self.is_enough() {
            let (own, id) = split(cursor.key()).ok_or_else(|| self.bad_entry())?;
            is_whole = at.cut.as_deref() != Some(own);
            if is_whole {
                break;
            }
            *left -= 1;
            let document = self.document(documents, id)?;
            if self.is_row(moment, id, &document)? && self.is_behind_cursor(id, &document)? {
                self.sort_in(id, &document);
            }
            there = step(cursor, descending)?;
        }
        if is_whole || !there {
            at.cut = None;
            at.sorted = self.sorter.finish();
        }
        Ok(there)
    }

    /// Looks at the documents and gives the rows that the walk has found. Says whether more are wanted.
    fn give_found(
        &mut self,
        moment: &impl Moment,
        at: &mut Walk,
        documents: &TreeView<'_>,
        left: &mut usize,
        sink: &mut Sink<'_>,
    ) -> Result<bool> {
        if at.next < at.ids.len() {
            let ids = at.ids.slice(at.next..at.ids.len());
            let (looked_at, wants_more) = self.consider_all(moment, documents, ids, sink)?;
            at.next += looked_at;
            if !wants_more {
                return Ok(false);
            }
        }
        self.emit_some(&mut at.sorted, left, sink)
    }
}
