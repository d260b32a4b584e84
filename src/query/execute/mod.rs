//! Running a plan, a bounded number of candidates at a time.
//!
//! # Invariants
//!
//! 1. Between two steps only keys are kept, no places in pages: a step can look at the same moment
//!    from wherever it is called.
//! 2. Rows come in the order of their keys ([`row_key`]), whatever the plan.
//! 3. A step does no more than its [`Slice`] says, about, in whatever it looks: at documents, at entries of an index, at
//!    ranges without any. (Ids of candidates are put in order in one step.)

mod gather;
mod rows;
mod sorter;
mod walk;

use std::sync::Arc;

use super::decision::decide;
use super::fields::{Fields, ID, RowReader};
use super::ids::IdList;
use super::page::Cursor;
use super::plan::{Plan, Source, Wanted, plan};
use super::ranges::ByteRange;
use crate::collection::documents::is_expired;
use crate::collection::index::{cut, entry, is_cut, split, unreadable};
use crate::collection::meta::Meta;
use crate::moment::Moment;
use crate::txn::cursor::TreeCursor;
use crate::txn::view::{TreeView, after_prefix};
use crate::{Error, Result};

use self::gather::Gathering;
use self::rows::put_row_key;
use self::sorter::{RowRef, Sorted, Sorter};
use self::walk::Walk;

/// Documents that are looked up at once.
const GROUP: usize = 32;

/// How much is done in a step, about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    /// Candidates that are looked at, and rows that come out of a sort.
    pub candidates: usize,
    /// Bytes of these: it ends with the one that reaches it.
    pub bytes: usize,
}

/// A filter, in whichever form it was given.
pub(crate) type Predicate<'q> = Arc<dyn Fn(&Fields<'_>) -> bool + Send + Sync + 'q>;

/// Which rows are wanted, in which order.
#[derive(Clone)]
pub(crate) struct Spec<'q> {
    pub filters: Vec<Predicate<'q>>,
    pub order: Vec<(String, bool)>,
    pub after: Option<Cursor>,
    pub offset: u64,
    pub limit: Option<u64>,
}

impl Spec<'_> {
    fn passes(&self, fields: &Fields<'_>) -> bool {
        self.filters.iter().all(|filter| filter(fields))
    }

    pub(crate) fn plan(&self, moment: &impl Moment, meta: &Meta) -> Result<Plan> {
        let all = |fields: &Fields<'_>| self.passes(fields);
        let wanted = Wanted {
            filter: (!self.filters.is_empty()).then_some(&all as _),
            order: &self.order,
            first_rows: self.limit.map(|limit| limit.saturating_add(self.offset)),
            offset: self.offset,
        };
        plan(moment, meta, &wanted)
    }
}

/// Where the next candidate is: after a key, or at it.
#[derive(Debug, Clone)]
struct Place {
    key: Vec<u8>,
    is_included: bool,
}

#[derive(Debug)]
enum State {
    Documents { range: usize, from: Option<Place> },
    InOrder(Walk),
    Gathering(Gathering),
    Fetching { ids: IdList, next: usize },
    Sorted(Sorted),
    Done,
}

/// A query that is being run.
pub(crate) struct Execution<'q> {
    pub meta: Arc<Meta>,
    pub plan: Plan,
    /// Candidates that were looked at.
    pub examined: u64,
    spec: Spec<'q>,
    reader: RowReader,
    state: State,
    /// Rows that are put in order: all of a plan that sorts, or those whose order the index does not know (of values that
    /// were cut to the same).
    sorter: Sorter,
    /// What the present row is ordered by. Kept, as most rows need none of their own.
    row_key: Vec<u8>,
    offset_left: u64,
    limit_left: Option<u64>,
    /// What is left of the present step's bytes.
    bytes_left: usize,
}

/// Takes the id and the bytes of a row.
pub(crate) type Sink<'s> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 's;

impl<'q> Execution<'q> {
    pub(crate) fn new(moment: &impl Moment, meta: Arc<Meta>, mut spec: Spec<'q>) -> Result<Self> {
        cut_order(&mut spec.order);
        if let Some(after) = &spec.after {
            after.check(&spec.order)?;
        }
        let plan = spec.plan(moment, &meta)?;
        let state = match &plan.source {
            Source::Nothing => State::Done,
            Source::Documents { .. } => State::Documents {
                range: 0,
                from: None,
            },
            Source::InOrder { .. } => State::InOrder(Walk::default()),
            Source::Ids(_) => State::Gathering(Gathering::default()),
        };
        let mut execution = Execution {
            reader: RowReader::new(meta.names.clone()),
            examined: 0,
            state,
            sorter: Sorter::default(),
            row_key: Vec::new(),
            offset_left: spec.offset,
            limit_left: spec.limit,
            bytes_left: 0,
            meta,
            plan,
            spec,
        };
        execution.skip_offset(moment)?;
        execution.skip_to_cursor();
        Ok(execution)
    }

    /// The fields that the filter and the order ask for, as far as that can be known.
    pub(crate) fn asked_fields(&self) -> Vec<String> {
        let questions = decide(&|fields| self.spec.passes(fields)).map(|known| known.questions);
        let asked = questions
            .into_iter()
            .flatten()
            .map(|question| question.field);
        let order = self.spec.order.iter().map(|(field, _)| field.clone());
        asked.chain(order).collect()
    }

    /// Goes straight to the first row behind the offset, where positions can be counted.
    fn skip_offset(&mut self, moment: &impl Moment) -> Result<()> {
        let is_counted = !self.plan.checks
            && !self.plan.sorts
            && self.meta.expires.is_none()
            && self.spec.after.is_none();
        if self.offset_left == 0 || !is_counted {
            return Ok(());
        }
        match &self.plan.source {
            Source::Documents { ranges, descending } => {
                let view = moment.system_view(&self.meta.documents_tree);
                let Some(view) = view else {
                    return Ok(());
                };
                let found = entry_at(&view, ranges, *descending, self.offset_left)?;
                self.offset_left = 0;
                self.state = found.map_or(State::Done, |(range, place)| State::Documents {
                    range,
                    from: Some(place),
                });
            }
            Source::InOrder { access, descending } => {
                let Some(view) = self.index_view(moment, access.index) else {
                    return Ok(());
                };
                let found = entry_at(&view, &access.ranges, *descending, self.offset_left)?;
                if let Some((_, place)) = &found
                    && split(&place.key).is_none_or(|(values, _)| is_cut(values))
                {
                    return Ok(()); // the order among such entries is known only from the documents
                }
                self.offset_left = 0;
                self.state = found.map_or(State::Done, |(range, place)| {
                    State::InOrder(Walk::from(range, place))
                });
            }
            Source::Nothing | Source::Ids(_) => {}
        }
        Ok(())
    }

    /// Goes straight behind the last row of the page before.
    fn skip_to_cursor(&mut self) {
        let Some(after) = &self.spec.after else {
            return;
        };
        match (&self.plan.source, &self.state) {
            (Source::Documents { ranges, descending }, State::Documents { .. })
                if !self.plan.sorts =>
            {
                let range = range_from(ranges, &after.id, *descending);
                self.state = range.map_or(State::Done, |range| State::Documents {
                    range,
                    from: Some(Place {
                        key: after.id.clone(),
                        is_included: false,
                    }),
                });
            }
            // One range, in the order of ids.
            (Source::InOrder { access, .. }, State::InOrder(_)) if access.is_by_id => {
                let low = access.ranges.first().map(|range| range.low.as_slice());
                let place = Place {
                    key: entry(low.unwrap_or_default().to_vec(), &after.id),
                    is_included: false,
                };
                self.state = State::InOrder(Walk::from(0, place));
            }
            (Source::InOrder { access, descending }, State::InOrder(_))
                if !self.spec.order.is_empty() =>
            {
                let mut values = [&access.prefix[..], &after.values].concat();
                cut(&mut values);
                let key = match (is_cut(&values), descending) {
                    (false, _) => entry(values, &after.id),
                    // From the first of the entries that were cut to the same.
                    (true, false) => values,
                    (true, true) => after_prefix(&values).unwrap_or_default(),
                };
                let range = range_from(&access.ranges, &key, *descending);
                self.state = range.map_or(State::Done, |range| {
                    let is_included = false;
                    State::InOrder(Walk::from(range, Place { key, is_included }))
                });
            }
            _ => {} // rows before it are passed over one by one
        }
    }

    fn index_view<'m>(&self, moment: &'m impl Moment, index: usize) -> Option<TreeView<'m>> {
        moment.system_view(&self.meta.indexes.get(index)?.tree)
    }

    /// How many rows there may still be, as far as that is known: room for them is made at once.
    pub(crate) fn rows_ahead(&self) -> usize {
        /// No more than that is believed before it is there.
        const MOST: u64 = 4096;
        let found = match &self.state {
            State::Fetching { ids, next } => Some(ids.len().saturating_sub(*next) as u64),
            State::Sorted(rows) => Some(rows.len() as u64),
            _ => None,
        };
        let rows = { found.into_iter() }.chain(self.limit_left).min();
        rows.unwrap_or(0).min(MOST) as usize
    }

    /// Looks at some more candidates. Says whether that was all.
    pub(crate) fn step(
        &mut self,
        moment: &impl Moment,
        slice: Slice,
        sink: &mut Sink<'_>,
    ) -> Result<bool> {
        let budget = slice.candidates;
        self.bytes_left = slice.bytes;
        let state = std::mem::replace(&mut self.state, State::Done);
        self.state = match state {
            _ if self.limit_left == Some(0) => State::Done,
            State::Documents { range, from } => self.scan(moment, range, from, budget, sink)?,
            State::InOrder(walk) => self.walk(moment, walk, budget, sink)?,
            State::Gathering(gathering) => self.gather(moment, gathering, budget)?,
            State::Fetching { ids, next } => self.fetch_some(moment, ids, next, budget, sink)?,
            State::Sorted(rows) => self.emit_sorted(rows, budget, sink)?,
            State::Done => State::Done,
        };
        Ok(matches!(self.state, State::Done))
    }

    fn scan(
        &mut self,
        moment: &impl Moment,
        mut range: usize,
        mut from: Option<Place>,
        budget: usize,
        sink: &mut Sink<'_>,
    ) -> Result<State> {
        let Source::Documents { ranges, descending } = &self.plan.source else {
            return Ok(State::Done);
        };
        let (ranges, descending) = (ranges.clone(), *descending);
        let Some(view) = moment.system_view(&self.meta.documents_tree) else {
            return Ok(self.found_all());
        };
        let mut left = budget;
        let mut id = Vec::new();
        while let Some(bounds) = ranged(&ranges, range, descending) {
            if left == 0 || self.is_enough() {
                return Ok(State::Documents { range, from });
            }
            left -= 1; // to look where there is nothing takes time, too
            let mut cursor = view.cursor_in::<Vec<u8>>(&bounds.low..&bounds.high);
            let mut there = start(&mut cursor, from.take().as_ref(), descending)?;
            while there {
                id.clear();
                id.extend_from_slice(cursor.key());
                if left == 0 || self.is_enough() {
                    let from = Some(Place {
                        key: id,
                        is_included: true,
                    });
                    return Ok(State::Documents { range, from });
                }
                left -= 1;
                if !self.consider(moment, &id, cursor.value()?, sink)? {
                    return Ok(State::Done);
                }
                there = step(&mut cursor, descending)?;
            }
            range += 1;
        }
        Ok(self.found_all())
    }

    /// All candidates were looked at.
    fn found_all(&mut self) -> State {
        if !self.plan.sorts {
            return State::Done;
        }
        State::Sorted(self.sorter.finish())
    }

    /// Whether the step has looked at as many bytes as it may.
    fn is_enough(&self) -> bool {
        self.bytes_left == 0
    }

    /// How many documents to look up at once: no more than rows that are still wanted.
    fn wanted_at_once(&self) -> usize {
        let wanted = self
            .limit_left
            .map_or(u64::MAX, |left| left.saturating_add(self.offset_left));
        usize::try_from(wanted)
            .unwrap_or(usize::MAX)
            .clamp(1, GROUP)
    }

    /// Looks at some candidates, until the step has had enough. Says how many it were, and whether more are wanted.
    fn consider_all<'i>(
        &mut self,
        moment: &impl Moment,
        documents: &TreeView<'_>,
        ids: impl Iterator<Item = &'i [u8]>,
        sink: &mut Sink<'_>,
    ) -> Result<(usize, bool)> {
        let (mut looked_at, mut wants_more) = (0, true);
        documents.get_group(ids, |id, document| {
            let document = document.ok_or_else(|| self.missing_document())?;
            looked_at += 1;
            wants_more = self.consider(moment, id, document, sink)?;
            Ok(wants_more && !self.is_enough())
        })?;
        Ok((looked_at, wants_more))
    }

    fn document<'m>(&self, documents: &TreeView<'m>, id: &[u8]) -> Result<crate::ValueRef<'m>> {
        documents.get(id)?.ok_or_else(|| self.missing_document())
    }

    fn missing_document(&self) -> Error {
        Error::Unreadable {
            what: format!("an index of the collection {:?}", self.meta.name),
            reason: "it names a document that is not there",
        }
    }

    fn bad_entry(&self) -> Error {
        Error::Unreadable {
            what: format!("an index of the collection {:?}", self.meta.name),
            reason: "an entry is too short for its id",
        }
    }

    /// Looks at a candidate. Says whether more are wanted.
    fn consider(
        &mut self,
        moment: &impl Moment,
        id: &[u8],
        document: &[u8],
        sink: &mut Sink<'_>,
    ) -> Result<bool> {
        if !self.is_row(moment, id, document)? {
            return Ok(true);
        }
        if !self.plan.sorts && self.spec.after.is_none() {
            return self.emit(id, document, sink);
        }
        if !self.is_behind_cursor(id, document)? {
            return Ok(true);
        }
        if !self.plan.sorts {
            return self.emit(id, document, sink);
        }
        self.sort_in(id, document);
        Ok(true)
    }

    /// Whether a candidate is alive and passes the filter.
    fn is_row(&mut self, moment: &impl Moment, id: &[u8], document: &[u8]) -> Result<bool> {
        self.examined += 1;
        self.bytes_left = self.bytes_left.saturating_sub(document.len());
        if is_expired(&self.meta, document, moment.now_ms())? {
            return Ok(false);
        }
        if !self.plan.checks {
            return Ok(true);
        }
        let passes = |fields: &Fields<'_>| self.spec.passes(fields);
        let passes = self.reader.matches(Some(id), document, passes);
        passes.map_err(|fault| unreadable(&self.meta, fault.0))
    }

    /// Finds out what a row is ordered by, and whether the pages before do not have it.
    fn is_behind_cursor(&mut self, id: &[u8], document: &[u8]) -> Result<bool> {
        let (order, key) = (&self.spec.order, &mut self.row_key);
        key.clear();
        put_row_key(&self.reader, order, id, document, key)
            .map_err(|fault| unreadable(&self.meta, fault.0))?;
        let after = self.spec.after.as_ref();
        Ok(after.is_none_or(|after| self.row_key > *after.row_key()))
    }

    fn emit(&mut self, id: &[u8], document: &[u8], sink: &mut Sink<'_>) -> Result<bool> {
        if self.offset_left > 0 {
            self.offset_left -= 1;
            return Ok(true);
        }
        if let Some(left) = &mut self.limit_left {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => return Ok(false),
            }
        }
        sink(id, document)?;
        Ok(self.limit_left != Some(0))
    }
}

/// Cuts an order at the field `id`, behind which nothing is equal; and before it, if rows come in that order of their
/// ids anyway.
fn cut_order(order: &mut Vec<(String, bool)>) {
    let Some(at) = order.iter().position(|(field, _)| field == ID) else {
        return;
    };
    let direction = order.get(at).map(|(_, ascending)| *ascending);
    let before = at.checked_sub(1).and_then(|before| order.get(before));
    let of_ids = before.is_none_or(|(_, ascending)| *ascending);
    let is_said = direction == Some(of_ids);
    order.truncate(if is_said { at } else { at + 1 });
}

/// The range with this position in the direction of the walk.
fn ranged(ranges: &[ByteRange], position: usize, descending: bool) -> Option<&ByteRange> {
    if descending {
        ranges.iter().rev().nth(position)
    } else {
        ranges.get(position)
    }
}

/// The first range that a walk in this direction has not left when it is at a key.
fn range_from(ranges: &[ByteRange], key: &[u8], descending: bool) -> Option<usize> {
    let is_ahead = |bounds: &ByteRange| match descending {
        true => bounds.low[..] <= *key,
        false => bounds.high[..] > *key,
    };
    (0..ranges.len()).find(|range| ranged(ranges, *range, descending).is_some_and(is_ahead))
}

/// The entry with a position among those of the ranges, and the range that it is in.
fn entry_at(
    view: &TreeView<'_>,
    ranges: &[ByteRange],
    descending: bool,
    position: u64,
) -> Result<Option<(usize, Place)>> {
    let mut left = position;
    for range in 0..ranges.len() {
        let Some(bounds) = ranged(ranges, range, descending) else {
            break;
        };
        let count = view.count::<Vec<u8>>(&bounds.low..&bounds.high)?;
        if left >= count {
            left -= count;
            continue;
        }
        let within = if descending { count - 1 - left } else { left };
        let found = view.nth(view.rank(&bounds.low)? + within)?;
        return Ok(found.map(|(key, _)| {
            let is_included = true;
            (range, Place { key, is_included })
        }));
    }
    Ok(None)
}

/// Puts a cursor on the first candidate.
fn start(cursor: &mut TreeCursor<'_>, from: Option<&Place>, descending: bool) -> Result<bool> {
    let Some(place) = from else {
        return if descending {
            cursor.last()
        } else {
            cursor.first()
        };
    };
    let there = if descending {
        cursor.seek_back(&place.key)?
    } else {
        cursor.seek(&place.key)?
    };
    if there && !place.is_included && cursor.key() == &place.key[..] {
        return step(cursor, descending);
    }
    Ok(there)
}

fn step(cursor: &mut TreeCursor<'_>, descending: bool) -> Result<bool> {
    if descending {
        cursor.prev()
    } else {
        cursor.next()
    }
}
