//! Walking what verifies, and noting the gaps where it does not.
//!
//! # Invariants
//!
//! 1. A page is entered along a reference with its checksum, or because it was shown to belong
//!    into a gap. No page is entered twice, in whatever tree. Runs that are read add up to a multiple of the file's length
//!    at the most, however many references name them.
//! 2. It ends: a step down lowers the level, and nothing is recursive.
//! 3. A key outside of what the references promise is no entry of the tree.

use aurora::anatomy::{Cell, Node, Reference, Root, Run};

use crate::Failure;
use crate::source::{PageBytes, Source};
use crate::walk::PageSet;

/// The end of a range of keys: below this, or open.
pub(crate) type High = Option<Vec<u8>>;

/// A part of a tree that could not be entered.
#[derive(Debug, Clone)]
pub(crate) struct Gap {
    /// Index of the tree.
    pub tree: usize,
    /// The page that should be there.
    pub at: Reference,
    /// Its level.
    pub level: u8,
    pub low: Vec<u8>,
    pub high: High,
    /// Entries below it, if its parent tells.
    pub count: Option<u64>,
    /// Nothing in it is newer.
    pub birth: u64,
    pub why: String,
    /// Entries that were found in it after all.
    pub found: u64,
    /// What no page was found for.
    pub free: Vec<(Vec<u8>, High)>,
    /// The page is of this place, and damaged: references in it are of the state.
    pub is_evidence: bool,
}

impl Gap {
    /// The free part that keys from `first` to `last` lie in.
    pub fn place(&self, first: &[u8], last: &[u8]) -> Option<usize> {
        self.free.iter().position(|(low, high)| {
            low.as_slice() <= first && high.as_ref().is_none_or(|high| last < high.as_slice())
        })
    }
}

/// Where a subtree begins.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub at: Reference,
    pub level: u8,
    pub low: Vec<u8>,
    pub high: High,
    pub count: Option<u64>,
    pub birth: u64,
}

impl Start {
    /// A whole tree.
    pub fn of(root: &Root, birth: u64) -> Self {
        Start {
            at: root.at,
            level: root.level,
            low: Vec::new(),
            high: None,
            count: Some(root.count),
            birth,
        }
    }
}

/// What a value is.
pub(crate) enum Value<'v> {
    Whole(&'v [u8]),
    /// Its run is damaged.
    Lost(Run, String),
    /// The key is not where the references say.
    OutOfPlace(&'v [u8]),
}

/// Takes entries.
pub(crate) trait Sink {
    fn entry(&mut self, tree: usize, key: &[u8], value: Value<'_>) -> Result<(), Failure>;
}

struct Frame {
    page: u32,
    level: u8,
    bytes: PageBytes,
    next: usize,
    low: Vec<u8>,
    high: High,
    birth: u64,
}

/// What was entered so far, and what could not be.
pub(crate) struct Gather<'s> {
    pub source: &'s Source,
    pub reached: PageSet,
    pub gaps: Vec<Gap>,
    /// Counts that are not those of what is below.
    pub miscounts: u64,
    /// Bytes of runs that may still be read (invariant 1).
    budget: u64,
}

/// How often the file's length may be read in runs.
const BUDGET: u64 = 16;

impl<'s> Gather<'s> {
    pub fn new(source: &'s Source) -> Self {
        Gather {
            source,
            reached: PageSet::new(source.file_pages()),
            gaps: Vec::new(),
            miscounts: 0,
            budget: source.length().saturating_mul(BUDGET),
        }
    }

    /// Hands all entries below to the sink. Says how many of them are out of place.
    pub fn walk(&mut self, tree: usize, start: Start, sink: &mut dyn Sink) -> Result<u64, Failure> {
        let mut stack = Vec::new();
        let mut astray = self.enter(tree, start, &mut stack, sink)?;
        while let Some(frame) = stack.last_mut() {
            let node = Node::read(&frame.bytes, frame.page).ok();
            let Some(node) = node.filter(|node| frame.next < node.count()) else {
                stack.pop();
                continue;
            };
            let i = frame.next;
            frame.next += 1;
            let child = node.child(i);
            let start = Start {
                at: child.at,
                level: frame.level.saturating_sub(1),
                low: match i {
                    0 => frame.low.clone(),
                    _ => node.key(i).max(frame.low.clone()),
                },
                high: match i + 1 < node.count() {
                    true => Some(least(node.key(i + 1), &frame.high)),
                    false => frame.high.clone(),
                },
                count: Some(child.count),
                birth: frame.birth,
            };
            astray += self.enter(tree, start, &mut stack, sink)?;
        }
        Ok(astray)
    }

    fn enter(
        &mut self,
        tree: usize,
        start: Start,
        stack: &mut Vec<Frame>,
        sink: &mut dyn Sink,
    ) -> Result<u64, Failure> {
        if start.at.page == 0 {
            return Ok(0);
        }
        let bytes = match self.page(&start) {
            Ok(bytes) => bytes,
            Err((why, is_evidence)) => {
                self.gap(tree, start, why, is_evidence);
                return Ok(0);
            }
        };
        let Ok(node) = Node::read(&bytes, start.at.page) else {
            return Ok(0);
        };
        if start.level > 0 {
            let header = aurora::anatomy::PageHeader::decode(&bytes);
            let below = (0..node.count()).fold(0_u64, |n, i| n.saturating_add(node.child(i).count));
            self.miscounts += u64::from(start.count.is_some_and(|count| count != below));
            stack.push(Frame {
                page: start.at.page,
                level: start.level,
                next: 0,
                low: start.low,
                high: start.high,
                birth: header.birth.min(start.birth),
                bytes,
            });
            return Ok(0);
        }
        let count = node.count() as u64;
        self.miscounts += u64::from(start.count.is_some_and(|expected| expected != count));
        let mut before: Option<Vec<u8>> = None;
        let mut astray = 0;
        for slot in 0..node.count() {
            let key = node.key(slot);
            let is_in_place = key >= start.low
                && start.high.as_ref().is_none_or(|high| key < *high)
                && before.as_ref().is_none_or(|before| *before < key);
            self.entry(tree, &key, node.value(slot), is_in_place, sink)?;
            match is_in_place {
                true => before = Some(key),
                false => astray += 1,
            }
        }
        Ok(astray)
    }

    fn entry(
        &mut self,
        tree: usize,
        key: &[u8],
        cell: Cell<'_>,
        is_in_place: bool,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let whole = |bytes| match is_in_place {
            true => Value::Whole(bytes),
            false => Value::OutOfPlace(bytes),
        };
        match cell {
            Cell::Inline(bytes) => sink.entry(tree, key, whole(bytes)),
            Cell::Run(run) => match self.run(&run) {
                Ok(bytes) => sink.entry(tree, key, whole(&bytes)),
                Err(why) => sink.entry(tree, key, Value::Lost(run, why)),
            },
        }
    }

    /// The page that a reference leads to. `Err`: why not, and whether what is there is a damaged
    /// page of this place.
    fn page(&mut self, start: &Start) -> Result<PageBytes, (String, bool)> {
        let at = start.at;
        let bytes = self.source.page(at).map_err(|fault| {
            let is_of_here = || {
                let bytes = self.source.raw(at.page).ok()?;
                let own = aurora::anatomy::PageHeader::decode(&bytes);
                let sound = aurora::anatomy::checksum(&bytes, at.page, self.source.salt());
                // An intact page with another checksum is of another time.
                Some(own.checksum != sound)
            };
            (fault.what, is_of_here().unwrap_or(false))
        })?;
        if !self.reached.add(at.page) {
            return Err(("the page is used twice".to_string(), false));
        }
        let node = Node::read(&bytes, at.page).map_err(|flaw| (flaw.what.to_string(), false))?;
        let found = node.level();
        if found != start.level {
            let expected = start.level;
            let what = format!("the page has level {found}, and its parent implies {expected}");
            return Err((what, false));
        }
        Ok(bytes)
    }

    /// A value in a run, if all of it is as its reference says.
    pub fn run(&mut self, run: &Run) -> Result<Vec<u8>, String> {
        const TWICE: &str = "its pages are used twice";
        let pages = run.pages(self.source.page_size());
        let pages = run.first..run.first.saturating_add(pages);
        // Old copies of a leaf name the same values again and again.
        let mut ends = pages.clone().take(1).chain(pages.clone().last());
        if ends.any(|page| self.reached.has(page)) {
            return Err(TWICE.to_string());
        }
        let left = self.budget.checked_sub(u64::from(run.length_bytes));
        self.budget = left.ok_or("too many references name the same long values")?;
        let bytes = self.source.run(run).map_err(|fault| fault.what)?;
        for page in pages {
            if !self.reached.add(page) {
                return Err(TWICE.to_string());
            }
        }
        Ok(bytes)
    }

    /// What was looked at in vain so far is no reason to leave out what is read from here on.
    pub fn renew_budget(&mut self) {
        self.budget = self.source.length().saturating_mul(BUDGET);
    }

    fn gap(&mut self, tree: usize, start: Start, why: String, is_evidence: bool) {
        self.gaps.push(Gap {
            tree,
            at: start.at,
            level: start.level,
            free: vec![(start.low.clone(), start.high.clone())],
            low: start.low,
            high: start.high,
            count: start.count,
            birth: start.birth,
            why,
            found: 0,
            is_evidence,
        });
    }
}

fn least(key: Vec<u8>, high: &High) -> Vec<u8> {
    match high {
        Some(high) if *high < key => high.clone(),
        _ => key,
    }
}
