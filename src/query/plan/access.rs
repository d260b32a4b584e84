//! Accesses: ranges of an index that cover a way into the filter.

use std::collections::HashMap;
use std::sync::Arc;

use super::asked::{Answers, Asked};
use super::{ENTRY_COST, FETCH_COST, Planner, SORT_ID_COST};
use crate::Result;
use crate::collection::index::{ELEMENT, LIMIT_BYTES, WHOLE};
use crate::collection::meta::IndexMeta;
use crate::moment::Moment;
use crate::query::fields::ID;
use crate::query::ranges::{ByteRange, RangeSet, all_strings, element, may_be_part_of_string};
use crate::txn::view::{TreeView, after_prefix};

/// See [`Planner::accesses`].
const MANY_PIECES: usize = 32;

/// So many pieces of one index are kept for all ways together, or four times those that the filter itself has. (They take
/// 100 bytes or more each.)
const MOST_PIECES: usize = 1 << 18;

/// Entries of one index.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    /// Position in the collection's list.
    pub index: usize,
    /// Full keys, sorted, apart from one another. Shared by ways that ask the same.
    pub ranges: Arc<[ByteRange]>,
    pub count: u64,
    /// The entries of these ranges are those of the rows that pass the way's answers, and no others.
    pub is_exact: bool,
    /// Within one range, entries are in the order of ids.
    pub is_by_id: bool,
    /// The encodings of the leading fields of the index that have one value.
    pub(super) points: Vec<Vec<u8>>,
    /// What the entries begin with, before the fields that the order was asked for.
    pub prefix: Vec<u8>,
    pub(super) is_whole: bool,
}

/// Entries of an index within some ranges.
#[derive(Clone)]
pub(super) struct Pieces {
    ranges: Arc<[ByteRange]>,
    count: u64,
    /// No bound is as long as entries that were cut.
    is_within_limit: bool,
}

/// What was worked out last for each index: with a list of thousands of values beside hundreds of alternatives, all ways
/// have the same.
#[derive(Default)]
pub(super) struct Known {
    of_index: HashMap<usize, KnownPieces>,
    most_pieces: usize,
}

impl Known {
    pub(super) fn new(answers: &Answers<'_>) -> Self {
        Known {
            of_index: HashMap::new(),
            most_pieces: MOST_PIECES.max(answers.pieces().saturating_mul(4)),
        }
    }
}

struct KnownPieces {
    prefix: Vec<u8>,
    set: Arc<RangeSet>,
    pieces: Pieces,
    /// The pieces that there are of this index.
    held: usize,
}

impl<M: Moment> Planner<'_, M> {
    /// All accesses that cover a way, by the indexes that have its rows.
    pub(super) fn accesses(&self, asked: &Asked<'_>, usable: &[bool]) -> Result<Vec<Access>> {
        // Nearly everything, in hundreds of pieces, is worth counting only where there is nothing else.
        let accesses = self.accesses_up_to(MANY_PIECES, asked, usable)?;
        if accesses.is_empty() {
            return self.accesses_up_to(usize::MAX, asked, usable);
        }
        Ok(accesses)
    }

    fn accesses_up_to(
        &self,
        most_pieces: usize,
        asked: &Asked<'_>,
        usable: &[bool],
    ) -> Result<Vec<Access>> {
        let mut accesses = Vec::new();
        let indexes = self.meta.indexes.iter().zip(usable).enumerate();
        for (position, (index, usable)) in indexes {
            if !usable {
                continue;
            }
            if let Some(access) = self.whole_access(position, index, asked, most_pieces)? {
                accesses.push(access);
            }
            if index.has_elements()
                && let Some(path) = index.index.paths.first()
                && path != ID
            {
                for value in asked.elements_of(path) {
                    let access = self.element_access(position, index, value, asked.answers)?;
                    accesses.extend(access);
                }
            }
        }
        Ok(accesses)
    }

    pub(super) fn whole_access(
        &self,
        position: usize,
        index: &IndexMeta,
        asked: &Asked<'_>,
        most_pieces: usize,
    ) -> Result<Option<Access>> {
        let mut prefix = vec![WHOLE];
        let mut covered = 0;
        let mut points = Vec::new();
        let mut last = None;
        let paths = &index.index.paths;
        // What an index has of `id` is what was stored: nothing, where the document was given one.
        for (i, path) in paths.iter().enumerate().take_while(|(_, path)| *path != ID) {
            let Some(left) = asked.sets.get(path.as_str()) else {
                break;
            };
            if left.is_open && left.set.ranges.len() > most_pieces {
                return Ok(None);
            }
            let point = left.set.point.as_ref();
            if point.is_none() && self.is_too_fine(index, &prefix, &left.set)? {
                break;
            }
            // An index of an earlier state may have a path twice: it answers no more by that.
            if !paths.iter().take(i).any(|earlier| earlier == path) {
                covered += left.answers;
            }
            if let Some(point) = point {
                prefix.extend_from_slice(point);
                points.push(point.clone());
                continue;
            }
            last = Some(&left.set);
            break;
        }
        if covered == 0 {
            return Ok(None);
        }
        let found = match last {
            Some(set) => self.pieces_of(position, index, prefix, set)?,
            None => Some(self.pieces(index, vec![ByteRange::prefix(prefix)])?),
        };
        Ok(found.map(|found| Access {
            index: position,
            count: found.count,
            is_exact: covered == asked.answers && found.is_within_limit,
            is_by_id: points.len() == index.paths.len() && found.is_within_limit,
            ranges: found.ranges,
            points,
            prefix: Vec::new(),
            is_whole: true,
        }))
    }

    /// Whether the entries with some values of the fields before are so few that it takes more to look for each value of
    /// a set among them.
    fn is_too_fine(&self, index: &IndexMeta, prefix: &[u8], set: &RangeSet) -> Result<bool> {
        if set.ranges.len() <= MANY_PIECES || prefix.len() <= 1 {
            return Ok(false);
        }
        let within = merged(vec![cut_range(ByteRange::prefix(prefix.to_vec()))]);
        Ok(self.count(index, &within)? < set.ranges.len() as u64)
    }

    /// The entries that begin with a prefix and go on with a value of a set. `None`: there are too many pieces.
    fn pieces_of(
        &self,
        position: usize,
        index: &IndexMeta,
        prefix: Vec<u8>,
        set: &Arc<RangeSet>,
    ) -> Result<Option<Pieces>> {
        let mut known = self.known.borrow_mut();
        let before = known.of_index.get(&position);
        if let Some(known) = before
            && known.prefix == prefix
            && Arc::ptr_eq(&known.set, set)
        {
            return Ok(Some(known.pieces.clone()));
        }
        let before = before.map_or(0, |known| known.held);
        let held = before.saturating_add(set.ranges.len());
        if before > 0 && held > known.most_pieces {
            return Ok(None);
        }
        let within = |bytes: &[u8]| [&prefix[..], bytes].concat();
        let full = set.ranges.iter().map(|range| ByteRange {
            low: within(&range.low),
            high: within(&range.high),
        });
        let pieces = self.pieces(index, full.collect())?;
        let now = KnownPieces {
            pieces: pieces.clone(),
            set: set.clone(),
            prefix,
            held,
        };
        known.of_index.insert(position, now);
        Ok(Some(pieces))
    }

    fn pieces(&self, index: &IndexMeta, ranges: Vec<ByteRange>) -> Result<Pieces> {
        let is_short = |range: &ByteRange| range.low.len().max(range.high.len()) < LIMIT_BYTES;
        let is_within_limit = ranges.iter().all(is_short);
        let ranges = merged(ranges.into_iter().map(cut_range).collect());
        Ok(Pieces {
            count: self.count(index, &ranges)?,
            ranges: ranges.into(),
            is_within_limit,
        })
    }

    /// Documents with an array that has the element. Strings that contain it as a part are found
    /// among all strings, of which there are none where arrays are.
    pub(super) fn element_access(
        &self,
        position: usize,
        index: &IndexMeta,
        value: &crate::value::Value,
        answers: usize,
    ) -> Result<Option<Access>> {
        let Some(bytes) = element(value) else {
            return Ok(None);
        };
        let mut key = vec![ELEMENT];
        key.extend_from_slice(&bytes);
        let mut is_exact = answers == 1 && key.len() < LIMIT_BYTES;
        let mut is_by_id = key.len() < LIMIT_BYTES;
        key.truncate(LIMIT_BYTES);
        let mut ranges = vec![ByteRange::prefix(key)];
        if may_be_part_of_string(value) {
            let strings = all_strings();
            let strings = ByteRange {
                low: [&[WHOLE], &strings.low[..]].concat(),
                high: [&[WHOLE], &strings.high[..]].concat(),
            };
            if self.count(index, std::slice::from_ref(&strings))? > 0 {
                ranges.push(strings);
                is_exact = false;
                is_by_id = false;
            }
        }
        let ranges = merged(ranges);
        Ok(Some(Access {
            index: position,
            count: self.count(index, &ranges)?,
            ranges: ranges.into(),
            is_exact,
            is_by_id,
            points: Vec::new(),
            prefix: Vec::new(),
            is_whole: false,
        }))
    }

    pub(super) fn count(&self, index: &IndexMeta, ranges: &[ByteRange]) -> Result<u64> {
        let view = self.moment.system_view(&index.tree);
        view.map_or(Ok(0), |view| count_in(&view, ranges))
    }

    /// The cheapest access of a way, or two of them whose ids are intersected.
    pub(super) fn best_of(&self, accesses: &[Access]) -> Result<Option<Vec<Access>>> {
        let mut sorted: Vec<&Access> = accesses.iter().collect();
        sorted.sort_by_key(|access| (access.count, !access.is_exact));
        let Some(first) = sorted.first() else {
            return Ok(None);
        };
        let alone = first.count as f64 * (ENTRY_COST + FETCH_COST);
        // Another index narrows it down; the same one would say the same again.
        let second = { sorted.iter().skip(1) }.find(|other| other.index != first.index);
        if let Some(second) = second
            && !first.is_exact
        {
            let pair = vec![(*first).clone(), (*second).clone()];
            let both = (first.count + second.count) as f64 * (ENTRY_COST + SORT_ID_COST)
                + self.met(&pair) as f64 * FETCH_COST;
            if both < alone {
                return Ok(Some(pair));
            }
        }
        Ok(Some(vec![(*first).clone()]))
    }
}

/// Whether two ways look at the same entries.
pub(super) fn are_same(a: &[Access], b: &[Access]) -> bool {
    let is_same = |a: &Access, b: &Access| a.index == b.index && Arc::ptr_eq(&a.ranges, &b.ranges);
    a.len() == b.len() && { a.iter().zip(b) }.all(|(a, b)| is_same(a, b))
}

pub(super) fn count_in(view: &TreeView<'_>, ranges: &[ByteRange]) -> Result<u64> {
    let counts = ranges.iter();
    let counts = counts.map(|range| view.count::<Vec<u8>>(&range.low..&range.high));
    counts.sum()
}

pub(super) fn merged(mut ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    ranges.retain(|range| range.low < range.high);
    ranges.sort();
    let mut merged: Vec<ByteRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.high >= range.low => {
                if range.high > last.high {
                    last.high = range.high;
                }
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Bounds longer than entries can be are widened to what the entries were cut to.
pub(super) fn cut_range(mut range: ByteRange) -> ByteRange {
    range.low.truncate(LIMIT_BYTES);
    if range.high.len() > LIMIT_BYTES {
        range.high.truncate(LIMIT_BYTES);
        range.high = after_prefix(&range.high).unwrap_or_else(|| vec![WHOLE + 1]);
    }
    range
}
