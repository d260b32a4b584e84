//! The planner: which index, or none, answers a query with the least work.
//!
//! Counts come from the counted trees and are exact, so there are no statistics to go stale; the
//! weights below were measured.
//!
//! # Invariants
//!
//! 1. Whatever the plan, the rows and their order are the same: without `order_by` by id, with it
//!    by its fields and then by id (in the direction of the last field).
//! 2. The filter is the last word on each candidate, unless the ranges of the plan are exact.
//! 3. A plan never misses a row: each way into the filter has an access that covers it.
//! 4. Of the field `id` only the keys of the documents know: no plan asks an index for it.

mod access;
mod asked;
mod by_id;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::decision::{Decision, Question, decide};
use super::fields::{Fields, ID};
use super::filter::Test;
use super::ranges::ByteRange;
use crate::collection::index::WHOLE;
use crate::collection::meta::{IndexMeta, Meta};
use crate::moment::Moment;
use crate::{Error, Result};

pub(crate) use self::access::Access;
use self::access::{Known, are_same, merged};
use self::asked::{Answers, Asked, Condition};
use self::by_id::Ids;
pub(crate) use self::by_id::{is_backwards_by_id, is_everything};

/// Nanoseconds, about: a step through an index, a document by its id, a step through documents.
const ENTRY_COST: f64 = 70.0;
const FETCH_COST: f64 = 900.0;
const SCAN_COST: f64 = 300.0;
/// Sorting a row, or an id.
const SORT_ROW_COST: f64 = 400.0;
const SORT_ID_COST: f64 = 40.0;
/// A look at a value of a list that a filter has: a closure's may be in any order.
const LISTED_COST: f64 = 20.0;

/// What the planner needs to know of a query.
pub(crate) struct Wanted<'w> {
    pub filter: Option<&'w (dyn Fn(&Fields<'_>) -> bool + Send + Sync + 'w)>,
    pub order: &'w [(String, bool)],
    /// Rows from the start that are of use; all if not set.
    pub first_rows: Option<u64>,
    /// So many of them are only to be passed over.
    pub offset: u64,
}

/// How the candidates are found. What may be large is shared: a query that is run looks at it in each step.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// No row can pass.
    Nothing,
    /// Documents by their ids: ranges of keys, sorted, apart from one another.
    Documents {
        ranges: Arc<[ByteRange]>,
        descending: bool,
    },
    /// The entries of an index in their order: the order that was asked for.
    InOrder {
        access: Arc<Access>,
        descending: bool,
    },
    /// Ids from indexes, for each way into the filter those that are in all of its accesses.
    Ids(Vec<Vec<Access>>),
}

/// How a query is run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub source: Source,
    /// Candidates have to be looked at with the filter.
    pub checks: bool,
    /// Rows have to be sorted after they were found.
    pub sorts: bool,
    /// Candidates that the plan expects to look at.
    pub expected: u64,
    pub documents: u64,
    /// The rows that match, if the plan knows without looking.
    pub known_count: Option<u64>,
}

pub(crate) fn plan(moment: &impl Moment, meta: &Meta, wanted: &Wanted<'_>) -> Result<Plan> {
    let decision = match wanted.filter {
        None => Some(Decision {
            questions: Vec::new(),
            ways: vec![Vec::new()],
        }),
        Some(filter) => decide(filter),
    };
    let mut check_cost = 0.0;
    if let Some(decision) = &decision {
        check_patterns(&decision.questions)?;
        check_cost = cost_of_lists(&decision.questions);
    }
    let planner = Planner {
        moment,
        meta,
        wanted,
        documents: { moment.system_view(&meta.documents_tree) }.map_or(0, |view| view.len()),
        check_cost,
        known: RefCell::default(),
    };
    planner.choose(decision)
}

fn check_patterns(questions: &[Question]) -> Result<()> {
    for question in questions {
        if let Test::Matches(pattern) = &question.test
            && let Err(reason) = pattern.regex()
        {
            return Err(Error::BadQuery {
                reason: format!("{:?} is not a regular expression: {reason}", pattern.text),
            });
        }
    }
    Ok(())
}

/// What the filter's lists of values add to a look at a document.
fn cost_of_lists(questions: &[Question]) -> f64 {
    let lists = questions.iter().map(|question| match &question.test {
        Test::In(values) => values.len(),
        _ => 0,
    });
    lists.sum::<usize>() as f64 * LISTED_COST
}

struct Planner<'p, M> {
    moment: &'p M,
    meta: &'p Meta,
    wanted: &'p Wanted<'p>,
    documents: u64,
    /// Of a candidate that has to be looked at with the filter, beside what finds it.
    check_cost: f64,
    known: RefCell<Known>,
}

impl<M: Moment> Planner<'_, M> {
    fn choose(&self, decision: Option<Decision>) -> Result<Plan> {
        let Some(decision) = decision else {
            return self.without_ranges();
        };
        let answers = Answers::new(&decision.questions);
        *self.known.borrow_mut() = Known::new(&answers);
        let stores_ids = self.meta.schema.stores_ids();
        let conditions = self.meta.indexes.iter().map(|index| {
            Condition::new(index.index.only.as_ref(), &decision.questions, stores_ids)
        });
        let conditions: Vec<Condition> = conditions.collect();
        let mut usable = vec![true; conditions.len()];
        let mut ids = Ids::default();
        let mut ways = Vec::new();
        let mut is_free = false;
        // One by one: each may have the ranges of long lists.
        for way in &decision.ways {
            let asked = Asked::new(&answers, way);
            if asked.is_contradiction() {
                continue;
            }
            // One that asks nothing: every document passes.
            is_free |= asked.answers == 0;
            ids.add(&asked);
            let of_way = self.usable(&asked, &conditions);
            ways.push(self.accesses(&asked, &of_way)?);
            { usable.iter_mut().zip(of_way) }.for_each(|(all, own)| *all &= own);
        }
        if ways.is_empty() {
            return Ok(self.nothing());
        }
        let mut best: Vec<Option<Vec<Access>>> = Vec::new();
        for accesses in &ways {
            let own = self.best_of(accesses)?;
            // Entries that several ways look at are looked at once.
            let is_there =
                |own: &Vec<Access>| best.iter().flatten().any(|best| are_same(best, own));
            if !own.as_ref().is_some_and(is_there) {
                best.push(own);
            }
        }
        let matches = self.expected_matches(&best);
        let mut plans = vec![self.scan(ids, matches)?];
        if let Some(found) = best.into_iter().collect::<Option<Vec<_>>>() {
            plans.push(self.by_ids(found));
        }
        plans.extend(self.in_order(&usable, &ways, is_free, matches)?);
        Ok(cheapest(plans))
    }

    /// For each index whether it is complete, and has all rows of a way.
    fn usable(&self, asked: &Asked<'_>, conditions: &[Condition]) -> Vec<bool> {
        let indexes = self.meta.indexes.iter().zip(conditions);
        let usable =
            indexes.map(|(index, condition)| index.is_ready() && condition.is_met_by(asked));
        usable.collect()
    }

    /// When nothing is known of the filter.
    fn without_ranges(&self) -> Result<Plan> {
        let matches = self.documents / 3 + 1;
        let mut plans = vec![self.scan(Ids::unknown(), matches)?];
        // A partial index may lack rows.
        let usable = { self.meta.indexes.iter() }
            .map(|index| index.is_ready() && index.index.only.is_none());
        let usable: Vec<bool> = usable.collect();
        plans.extend(self.in_order(&usable, &[], false, matches)?);
        Ok(cheapest(plans))
    }

    fn nothing(&self) -> Plan {
        Plan {
            source: Source::Nothing,
            checks: false,
            sorts: false,
            expected: 0,
            documents: self.documents,
            known_count: Some(0),
        }
    }

    /// Rows of which the first are wanted, out of `candidates` of which `matches` pass.
    fn looked_at(&self, candidates: u64, matches: u64) -> u64 {
        match self.wanted.first_rows {
            Some(rows) if matches > 0 => {
                let share = candidates as f64 / matches.min(candidates).max(1) as f64;
                candidates.min((rows as f64 * share).ceil() as u64)
            }
            _ => candidates,
        }
    }

    /// The same for a plan that can count its way to the offset.
    fn counted_to(&self, candidates: u64) -> u64 {
        let all = self.looked_at(candidates, candidates);
        if self.meta.expires.is_some() {
            return all;
        }
        all.saturating_sub(self.wanted.offset)
    }

    /// What it costs to look at candidates with the filter, unless the plan knows that they pass.
    fn checking(&self, candidates: u64, is_exact: bool) -> f64 {
        if is_exact {
            0.0
        } else {
            candidates as f64 * self.check_cost
        }
    }

    fn by_ids(&self, ways: Vec<Vec<Access>>) -> (f64, Plan) {
        let entries: u64 = ways.iter().flatten().map(|access| access.count).sum();
        let candidates: u64 = ways.iter().map(|way| self.met(way)).sum();
        let descending = is_backwards_by_id(self.wanted.order);
        let sorts = !self.wanted.order.is_empty();
        let is_exact = ways
            .iter()
            .all(|way| matches!(&way[..], [one] if one.is_exact));
        let mut fetched = candidates;
        if !sorts {
            fetched = self.looked_at(candidates, candidates);
        }
        // One range in the order of ids needs no gathering.
        if let [way] = &ways[..]
            && let [access] = &way[..]
            && access.is_by_id
            && (!sorts || descending)
        {
            fetched = self.looked_at(candidates, candidates);
            let cost =
                fetched as f64 * (ENTRY_COST + FETCH_COST) + self.checking(fetched, is_exact);
            let access = Arc::new(access.clone());
            let known = (is_exact && self.meta.expires.is_none()).then_some(access.count);
            let source = Source::InOrder { access, descending };
            return (cost, self.planned(source, !is_exact, false, fetched, known));
        }
        let sort_cost = if sorts {
            candidates as f64 * SORT_ROW_COST
        } else {
            0.0
        };
        let cost = entries as f64 * (ENTRY_COST + SORT_ID_COST)
            + fetched as f64 * FETCH_COST
            + self.checking(fetched, is_exact)
            + sort_cost;
        let known = (is_exact && self.meta.expires.is_none()).then_some(candidates);
        let source = Source::Ids(ways);
        (cost, self.planned(source, !is_exact, sorts, fetched, known))
    }

    fn planned(
        &self,
        source: Source,
        checks: bool,
        sorts: bool,
        expected: u64,
        known_count: Option<u64>,
    ) -> Plan {
        Plan {
            source,
            checks: checks && self.wanted.filter.is_some(),
            sorts,
            expected,
            documents: self.documents,
            known_count,
        }
    }

    /// Rows that a way with these accesses is expected to find; of one access, exactly: it may be
    /// the answer of a count.
    fn met(&self, way: &[Access]) -> u64 {
        let Some((first, others)) = way.split_first() else {
            return self.documents;
        };
        if others.is_empty() {
            return first.count;
        }
        let documents = self.documents.max(1) as f64;
        let shares = { others.iter() }.map(|access| access.count as f64 / documents);
        (first.count as f64 * shares.product::<f64>()).ceil() as u64
    }

    fn expected_matches(&self, best: &[Option<Vec<Access>>]) -> u64 {
        let ways = best.iter();
        let sum = ways
            .map(|way| way.as_ref().map_or(self.documents, |way| self.met(way)))
            .fold(0, u64::saturating_add);
        sum.min(self.documents)
    }

    /// Plans that walk an index in the order that was asked for: one of those that have all rows.
    fn in_order(
        &self,
        usable: &[bool],
        ways: &[Vec<Access>],
        is_free: bool,
        matches: u64,
    ) -> Result<Vec<(f64, Plan)>> {
        let Some((_, ascending)) = self.wanted.order.first() else {
            return Ok(Vec::new());
        };
        let mut order = self.wanted.order.iter();
        if order.any(|(_, other)| other != ascending) {
            return Ok(Vec::new());
        }
        let mut plans = Vec::new();
        let indexes = self.meta.indexes.iter().zip(usable).enumerate();
        for (position, (index, usable)) in indexes {
            // What an index has of `id` is what was stored.
            let is_of_id = index.index.paths.iter().any(|path| path == ID);
            if !usable || is_of_id {
                continue;
            }
            let Some(access) = self.ordered_access(position, index, ways, is_free)? else {
                continue;
            };
            let expected = match access.is_exact {
                true => self.counted_to(access.count),
                false => self.looked_at(access.count, matches),
            };
            let is_exact = access.is_exact;
            let cost =
                expected as f64 * (ENTRY_COST + FETCH_COST) + self.checking(expected, is_exact);
            let known = (is_exact && self.meta.expires.is_none()).then_some(access.count);
            let source = Source::InOrder {
                access: Arc::new(access),
                descending: !ascending,
            };
            plans.push((
                cost,
                self.planned(source, !is_exact, false, expected, known),
            ));
        }
        Ok(plans)
    }

    /// The entries of an index that cover all ways, if their order is the one asked for.
    fn ordered_access(
        &self,
        position: usize,
        index: &IndexMeta,
        ways: &[Vec<Access>],
        is_free: bool,
    ) -> Result<Option<Access>> {
        let order = self.wanted.order.iter().map(|(field, _)| field);
        let covers = |fixed: usize| {
            // Fields with one value do not disturb the order; the rest must be the one asked for.
            { index.index.paths.iter().skip(fixed) }.eq(order.clone())
        };
        let mut ranges = Vec::new();
        let mut is_exact = !ways.is_empty();
        let mut points = None;
        let mut last = None;
        for accesses in ways {
            let own =
                { accesses.iter() }.find(|access| access.index == position && access.is_whole);
            match own {
                Some(access) => {
                    let is_there = last.is_some_and(|last| Arc::ptr_eq(last, &access.ranges));
                    if !is_there {
                        ranges.extend(access.ranges.iter().cloned());
                    }
                    last = Some(&access.ranges);
                    is_exact &= access.is_exact;
                    points = Some(&access.points);
                }
                None => {
                    ranges = vec![whole_part()];
                    is_exact = is_free;
                    points = None;
                    break;
                }
            }
        }
        if ways.is_empty() {
            ranges = vec![whole_part()];
        }
        // Several ways may fix a field to several values, which then are in order only one by one.
        let points = points.filter(|_| ways.len() == 1);
        let points = points.map_or(&[][..], |points| points);
        let Some(fixed) = (0..=points.len()).find(|fixed| covers(*fixed)) else {
            return Ok(None);
        };
        let fixed = points.iter().take(fixed).flatten();
        let prefix = std::iter::once(&WHOLE).chain(fixed).copied().collect();
        let ranges = merged(ranges);
        let count = self.count(index, &ranges)?;
        Ok(Some(Access {
            index: position,
            ranges: ranges.into(),
            count,
            is_exact,
            is_by_id: false,
            points: Vec::new(),
            prefix,
            is_whole: true,
        }))
    }
}

/// The plan with the least work; it knows the count if one of the others does, which counts the same rows.
fn cheapest(plans: Vec<(f64, Plan)>) -> Plan {
    let known_count = plans.iter().find_map(|(_, plan)| plan.known_count);
    let mut plans = plans.into_iter();
    let first = plans.next();
    let best = plans.fold(first, |best, next| match best {
        Some(best) if best.0 <= next.0 => Some(best),
        _ => Some(next),
    });
    best.map_or_else(
        || Plan {
            source: Source::Documents {
                ranges: Ids::unknown().ranges().into(),
                descending: false,
            },
            checks: true,
            sorts: true,
            expected: 0,
            documents: 0,
            known_count: None,
        },
        |(_, plan)| Plan {
            known_count,
            ..plan
        },
    )
}

/// The first part of an index: one entry for each document.
pub(crate) fn whole_part() -> ByteRange {
    ByteRange {
        low: vec![WHOLE],
        high: vec![WHOLE + 1],
    }
}

fn number_of(ranges: &[ByteRange]) -> String {
    counted(ranges.len() as u64, "range", "ranges")
}

fn entries(count: u64) -> String {
    counted(count, "entry", "entries")
}

fn counted(count: u64, one: &str, several: &str) -> String {
    let word = if count == 1 { one } else { several };
    format!("{count} {word}")
}

impl Plan {
    /// One line for each step, as `explain()` shows it.
    pub(crate) fn describe(&self, meta: &Meta, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |access: &Access| { meta.indexes.get(access.index) }.map_or("?", |i| &i.name);
        match &self.source {
            Source::Nothing => writeln!(f, "nothing can match")?,
            Source::Documents { ranges, descending } => {
                let back = if *descending { ", backwards" } else { "" };
                let documents = counted(self.documents, "document", "documents");
                match is_everything(ranges) {
                    true => writeln!(f, "scan {documents}{back}")?,
                    false => writeln!(f, "documents by id, in {}{back}", number_of(ranges))?,
                }
            }
            Source::InOrder { access, descending } => {
                let back = if *descending { ", backwards" } else { "" };
                let (name, count) = (name(access), access.count);
                let (entries, ranges) = (entries(count), number_of(&access.ranges));
                writeln!(f, "walk index {name}: {entries} in {ranges}{back}")?;
            }
            Source::Ids(ways) => {
                for (i, way) in ways.iter().enumerate() {
                    let or = if i > 0 { "or " } else { "" };
                    let accesses = way.iter().map(|access| {
                        let (name, entries) = (name(access), entries(access.count));
                        format!("index {name}: {entries} in {}", number_of(&access.ranges))
                    });
                    writeln!(f, "{or}{}", accesses.collect::<Vec<_>>().join(" and "))?;
                }
            }
        }
        if self.checks {
            writeln!(f, "check the filter")?;
        }
        if self.sorts {
            writeln!(f, "sort")?;
        }
        let rows = counted(self.expected, "row", "rows");
        write!(f, "expected to look at {rows}")
    }
}
