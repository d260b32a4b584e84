//! The accepted records of the log, made again on top of the checkpoint's trees.
//!
//! They are not made one by one. What they put and remove is gathered for each tree and made in the order
//! of its keys ([`tree::change_many`]): each page on the way is read once, by a second thread if there are
//! many (`arriving`), in the order in which a tree that was loaded in order has them in the file.
//!
//! # Invariants
//!
//! 1. The outcome is that of the operations in the order of the log. Changes of different trees, and puts
//!    and removals of different keys, can change places; of those of one key the last one counts. What else
//!    changes a tree comes after all that was gathered of it before.
//! 2. What is gathered at a time is bounded ([`GATHERED`]), and borrows from the records.
//! 3. Nothing is written: the records stay in the log until the next checkpoint.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::arriving;
use super::bulk::put_in_order;
use super::engine::Engine;
use super::pages::{DIRECT_BYTES, TxnPages};
use super::state::{MAX_NAME_BYTES, MAX_TREE, State, TreeId, Trees};
use super::write::{apply, edit};
use crate::Result;
use crate::format::header::MAX_COUNT;
use crate::format::record::{Operation, Operations};
use crate::format::{Fault, RunRef, TreeRoot, Version, node};
use crate::log::Scan;
use crate::pager::{Pager, frame};
use crate::tree::pages::WritePages;
use crate::tree::{self, Change};

/// So many changes are gathered at the most: some 15 MiB beside the records.
const GATHERED: usize = 1 << 18;

/// From so many changes on a second thread reads the leaves ahead.
const MANY: usize = 1000;

/// Replays while another thread makes memory ready, if the settings allow one. (15 MiB of log on 1 GiB of
/// entries: 200 ms, and 260 without. As huge pages it took longer.)
pub(super) fn replay_helped(engine: &Arc<Engine>, scanned: &Scan) -> Result<()> {
    if !engine.settings.background || scanned.commits.is_empty() {
        return replay(engine, scanned);
    }
    let page_bytes = engine.pager.page_size() as usize;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("aurora-memory".to_string());
        // Without it everything only takes longer.
        let _ = thread.spawn_scoped(scope, || frame::supply(page_bytes, &is_over));
        let _end = Finally(|| {
            is_over.store(true, Ordering::Relaxed);
            frame::wake_suppliers(page_bytes);
        });
        replay(engine, scanned)
    })
}

/// Does something at the end of a scope, however it ends.
struct Finally<F: Fn()>(F);

impl<F: Fn()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Applies the accepted records as one transaction (invariant 3).
fn replay(engine: &Arc<Engine>, scanned: &Scan) -> Result<()> {
    let Some(last) = scanned.commits.last() else {
        return Ok(());
    };
    let (current, next) = engine.next_version();
    if last.version > MAX_COUNT {
        let what = "a version in the log is higher than any writer gets";
        return Err(engine
            .pager
            .corrupt(0, Fault::new(what, 0, MAX_COUNT, last.version)));
    }
    let version = last.version.max(next);
    let mut pages = TxnPages::new(engine.clone(), version, false).alone();
    reserve_runs(engine, scanned, &mut pages)?;
    let mut job = Job {
        engine,
        page_size: engine.pager.page_size(),
        known: current.trees.names().map(|(_, id)| id).collect(),
        trees: current.trees.clone(),
        pages,
        gathered: BTreeMap::new(),
        waiting: 0,
    };
    for_each_operation(&engine.pager, scanned, |operation| job.take(operation))?;
    job.make_all()?;
    let Job {
        mut pages, trees, ..
    } = job;
    let state = Arc::new(State { version, trees });
    let mut core = engine.core.lock();
    let outcome = pages.finish(version);
    engine.install(&mut core, &outcome, state.clone())?;
    engine.log.publish(state, scanned.end.lsn, true, None);
    Ok(())
}

/// Before replay allocates anything (`recovery`, invariant 3).
fn reserve_runs(engine: &Engine, scanned: &Scan, pages: &mut TxnPages) -> Result<()> {
    // They share no page, so together they are no longer than the file. Many times that, in a file that was made to
    // do harm, would take for ever.
    let file_pages = u64::from(engine.pager.file_pages());
    let mut room = file_pages.saturating_mul(4);
    let last = scanned.commits.last().map_or(0, |commit| commit.version);
    for_each_operation(&engine.pager, scanned, |operation| {
        let Operation::PutRun { run, .. } = operation else {
            return Ok(());
        };
        let count = run.pages(engine.pager.page_size());
        room = room.checked_sub(u64::from(count)).ok_or_else(|| {
            let what = "the long values of the log are longer than the file";
            let fault = Fault::new(what, 0, file_pages, u64::from(count));
            engine.pager.corrupt(run.first, fault)
        })?;
        check_run(&engine.pager, &run, last)?;
        let mut space = engine.space.lock();
        space.reserve(&engine.pager, run.first, count)?;
        pages.adopt_run(&run);
        Ok(())
    })
}

/// What no writer puts into the log is damage, before anything relies on it.
fn check_run(pager: &Pager, run: &RunRef, last: Version) -> Result<()> {
    let fault = |what, expected, found: u64| {
        let fault = Fault::new(what, 0, expected, found);
        Err(pager.corrupt(run.first, fault))
    };
    // That its place is kept until the next checkpoint goes by its length.
    if !TxnPages::is_direct(run) {
        let what = "a value whose place the log names is too short to have one there";
        return fault(what, DIRECT_BYTES as u64, run.length_bytes.into());
    }
    // Reserving a run outside of the file would take memory for all pages up to it.
    pager.check_place(run.first, u64::from(run.pages(pager.page_size())))?;
    if run.birth > last {
        let what = "a long value in the log is younger than the commit that names it";
        return fault(what, last, run.birth);
    }
    Ok(())
}

/// A replay under way.
struct Job<'s> {
    engine: &'s Engine,
    page_size: u32,
    pages: TxnPages,
    trees: Trees,
    known: HashSet<TreeId>,
    /// What waits to be made in order, by tree, as it came.
    gathered: BTreeMap<TreeId, Vec<Change<'s>>>,
    /// How much that is.
    waiting: usize,
}

impl<'s> Job<'s> {
    fn take(&mut self, operation: Operation<'s>) -> Result<()> {
        check_operation(self.engine, &self.trees, &mut self.known, &operation)?;
        let (tree, change) = match operation {
            Operation::Put { tree, key, value } => {
                let value = Some(value);
                (tree, Change { key, value })
            }
            Operation::Delete { tree, key } => (tree, Change { key, value: None }),
            Operation::PutRun { tree, .. }
            | Operation::DeleteRange { tree, .. }
            | Operation::DropTree { tree } => return self.take_other(tree, &operation),
            // These change no entry.
            Operation::CreateTree { .. } | Operation::RenameTree { .. } => {
                return self.apply(&operation);
            }
        };
        let value_bytes = change.value.map_or(0, <[u8]>::len);
        if !node::is_inline(self.page_size, change.key.len(), value_bytes) {
            return self.take_other(tree, &operation);
        }
        self.gathered.entry(tree).or_default().push(change);
        self.waiting += 1;
        if self.waiting < GATHERED {
            return Ok(());
        }
        self.make_all()
    }

    /// Makes a change that waits for those before it (invariant 1).
    fn take_other(&mut self, tree: TreeId, operation: &Operation<'_>) -> Result<()> {
        if let Some(changes) = self.gathered.remove(&tree) {
            self.waiting -= changes.len();
            self.make(tree, changes)?;
        }
        self.apply(operation)
    }

    fn apply(&mut self, operation: &Operation<'_>) -> Result<()> {
        apply(&mut self.pages, &mut self.trees, operation).map(|_| ())
    }

    fn make_all(&mut self) -> Result<()> {
        self.waiting = 0;
        for (tree, changes) in std::mem::take(&mut self.gathered) {
            self.make(tree, changes)?;
        }
        Ok(())
    }

    fn make(&mut self, tree: TreeId, mut changes: Vec<Change<'_>>) -> Result<()> {
        put_in_order(&mut changes);
        let many = |pages: &mut _, root: &mut _| tree::change_many(pages, root, &changes);
        let root = self.trees.root(tree);
        if !self.is_read_ahead(&root, &changes) {
            return edit(&mut self.pages, &mut self.trees, tree, many).map(|_| ());
        }
        let (pager, version) = (&self.engine.pager, self.pages.version());
        std::thread::scope(|scope| {
            let (sender, arriving) = arriving::channel();
            let thread = std::thread::Builder::new().name("aurora-replay".to_string());
            // Without it everything only takes longer.
            let _ = thread.spawn_scoped(scope, || {
                arriving::read_ahead(pager, &root, &changes, version, sender);
            });
            let pages = self.pages.expect(arriving);
            edit(pages.0, &mut self.trees, tree, many).map(|_| ())
        })
    }

    /// Whether a second thread reads the leaves: there are many, and all of them are in the file.
    fn is_read_ahead(&self, root: &TreeRoot, changes: &[Change<'_>]) -> bool {
        let is_much = self.engine.settings.background && changes.len() >= MANY;
        is_much && root.level > 0 && !self.pages.is_private(root.root.page)
    }
}

/// Operations that no writer makes are damage: they would make trees of any number, which take memory,
/// and change trees without a name, which nobody ever sees again.
fn check_operation(
    engine: &Engine,
    trees: &Trees,
    known: &mut HashSet<TreeId>,
    operation: &Operation<'_>,
) -> Result<()> {
    let pager = &engine.pager;
    let longest = node::max_key_bytes(pager.page_size());
    let fault = |what, expected, found| Err(pager.corrupt(0, Fault::new(what, 0, expected, found)));
    let (tree, key) = match *operation {
        Operation::Put { tree, key, .. }
        | Operation::PutRun { tree, key, .. }
        | Operation::Delete { tree, key } => (tree, key),
        Operation::DeleteRange { tree, .. } => (tree, &[][..]),
        Operation::DropTree { tree } => {
            if !known.remove(&tree) {
                return fault("the log drops a tree that is not there", 0, u64::from(tree));
            }
            return Ok(());
        }
        Operation::CreateTree { tree, name } => {
            if tree > MAX_TREE || !known.insert(tree) || !is_free(trees, name) {
                let what = "the log makes a tree whose name or number is taken or impossible";
                return fault(what, u64::from(MAX_TREE), u64::from(tree));
            }
            return Ok(());
        }
        Operation::RenameTree { tree, name } => {
            if !is_free(trees, name) {
                let what = "the log gives a tree a name that is taken or impossible";
                return fault(what, 0, u64::from(tree));
            }
            (tree, &[][..])
        }
    };
    if key.len() > longest {
        let what = "a key in the log is longer than keys can be";
        return fault(what, longest as u64, key.len() as u64);
    }
    match known.contains(&tree) {
        true => Ok(()),
        false => fault(
            "the log changes a tree that is not there",
            0,
            u64::from(tree),
        ),
    }
}

fn is_free(trees: &Trees, name: &[u8]) -> bool {
    let name = std::str::from_utf8(name).ok();
    let name = name.filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len()));
    name.is_some_and(|name| trees.id(name).is_none())
}

/// Hands out what the accepted records say, in their order.
pub(super) fn for_each_operation<'s>(
    pager: &Pager,
    scanned: &'s Scan,
    mut then: impl FnMut(Operation<'s>) -> Result<()>,
) -> Result<()> {
    for commit in &scanned.commits {
        for operation in Operations::new(scanned.payload(commit)) {
            let Some(operation) = operation else {
                let fault = Fault::new("a record of the log does not parse", 0, commit.lsn, 0);
                return Err(pager.corrupt(0, fault));
            };
            then(operation)?;
        }
    }
    Ok(())
}
