//! The ids that several accesses name, each once, and the documents that they are of.

use super::{Execution, Place, Sink, State, start};
use crate::Result;
use crate::collection::index::split;
use crate::moment::Moment;
use crate::query::ids::IdList;
use crate::query::plan::Source;

/// To look for the first entry of a range takes as long as so many steps through an index.
const STEPS_TO_RANGE: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Gathering {
    pub(super) way: usize,
    pub(super) access: usize,
    pub(super) range: usize,
    pub(super) from: Option<Place>,
    /// Ids of the present access.
    pub(super) present: IdList,
    /// Ids that the accesses of this way before had in common, in order.
    pub(super) common: Option<IdList>,
    pub(super) all: IdList,
}

impl Gathering {
    fn end_of_access(&mut self) {
        let mut present = std::mem::take(&mut self.present);
        present.sort();
        self.common = Some(match self.common.take() {
            None => present,
            Some(common) => common.in_both(&present),
        });
        self.access += 1;
        self.range = 0;
    }

    fn end_of_way(&mut self) {
        let found = self.common.take().unwrap_or_default();
        if self.all.len() == 0 {
            self.all = found;
        } else {
            self.all.append(&found);
        }
        self.way += 1;
        self.access = 0;
    }
}

impl Execution<'_> {
    pub(super) fn gather(
        &mut self,
        moment: &impl Moment,
        mut at: Gathering,
        budget: usize,
    ) -> Result<State> {
        let Source::Ids(ways) = &self.plan.source else {
            return Ok(State::Done);
        };
        // A step through an index costs a tenth of a look at a document.
        let mut left = budget.saturating_mul(10);
        while let Some(way) = ways.get(at.way) {
            let Some(access) = way.get(at.access) else {
                at.end_of_way();
                continue;
            };
            let view = self.index_view(moment, access.index);
            let (Some(bounds), Some(view)) = (access.ranges.get(at.range), view) else {
                at.end_of_access();
                continue;
            };
            if left == 0 {
                return Ok(State::Gathering(at));
            }
            left = left.saturating_sub(STEPS_TO_RANGE);
            let mut cursor = view.cursor_in::<Vec<u8>>(&bounds.low..&bounds.high);
            let mut there = start(&mut cursor, at.from.take().as_ref(), false)?;
            while there {
                let key = cursor.key();
                if left == 0 {
                    at.from = Some(Place {
                        key: key.to_vec(),
                        is_included: true,
                    });
                    return Ok(State::Gathering(at));
                }
                left -= 1;
                let (_, id) = split(key).ok_or_else(|| self.bad_entry())?;
                at.present.push(id);
                there = cursor.next()?;
            }
            at.range += 1;
        }
        let mut ids = at.all;
        ids.sort();
        let is_by_id = self.spec.order.is_empty();
        let next = match self.spec.after.as_ref().filter(|_| is_by_id) {
            Some(after) => ids.iter().take_while(|id| **id <= after.id[..]).count(),
            None => 0,
        };
        Ok(State::Fetching { ids, next })
    }

    pub(super) fn fetch_some(
        &mut self,
        moment: &impl Moment,
        ids: IdList,
        next: usize,
        budget: usize,
        sink: &mut Sink<'_>,
    ) -> Result<State> {
        let Some(documents) = moment.system_view(&self.meta.documents_tree) else {
            return Ok(State::Done);
        };
        let end = next.saturating_add(budget).min(ids.len());
        let mut next = next;
        while next < end && !self.is_enough() {
            let group = next.saturating_add(self.wanted_at_once()).min(end);
            let some = ids.slice(next..group);
            let (looked_at, wants_more) = self.consider_all(moment, &documents, some, sink)?;
            if !wants_more {
                return Ok(State::Done);
            }
            next += looked_at;
        }
        Ok(if next < ids.len() {
            State::Fetching { ids, next }
        } else {
            self.found_all()
        })
    }
}
