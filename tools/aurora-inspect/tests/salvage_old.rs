//! Old pages and old references on the disk, which damage makes look like new ones: nothing of an
//! older state comes back under the name of its tree, and the report says what is in the new file.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use aurora::Aurora;
use aurora::anatomy::{Node, PageHeader, Reference};
use aurora::storage::MemoryStorage;
use aurora_inspect::salvage::{LOST_AND_FOUND, Losses, Salvaged, salvage};
use aurora_inspect::{Silent, commands};
use common::*;

const PAGE: usize = 4096;

/// Numbers that look like chance, the same ones for each seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        (!of.is_empty()).then(|| of[self.below(of.len())])
    }
}

/// Trees that were filled, changed and emptied in part, over several checkpoints: branches keep
/// cells of children that are gone. What lies before them in the file was freed, so that new pages go
/// there, and the old ones stay as they are.
fn workload(seed: u64, trees: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let memory = MemoryStorage::new();
    let key = |key: usize, width: usize| format!("{key:06}{}", "k".repeat(width));
    let keys = 1500 + random.below(2500);
    let bytes = 20 + random.below(180);
    let width = [0, 8, 60][random.below(3)];
    let rounds = 4 + random.below(6);
    for round in 0..rounds {
        // Opened anew each time: cells of pages that come from the disk have checksums.
        let builder = Aurora::builder().background(false).salt(0x1234_5678);
        let db = builder.open_storage(Arc::new(memory.clone())).unwrap();
        db.write(|tx| {
            match round {
                0 => drop(tx.tree("before")?.put("all", vec![7; 1 << 21])?),
                // The end of the file is not cut off.
                1 => drop(tx.tree("behind")?.put("all", vec![8; 1 << 16])?),
                2 => drop(tx.drop_tree("before")?),
                _ => {}
            }
            for number in 0..trees {
                let mut tree = tx.tree(format!("tree {number}"))?;
                // In the later rounds, most leaves stay as they are.
                let (from, span) = match round {
                    0 => (0, keys),
                    _ => (random.below(keys), 1 + random.below(keys / 8)),
                };
                for _ in 0..random.below(span) + span / 2 {
                    let value = format!("{round} of {number}: {}", "v".repeat(bytes));
                    tree.put(key(from + random.below(span), width), value)?;
                }
                for _ in 0..random.below(4) {
                    let from = random.below(keys);
                    let to = from + random.below(keys / 8);
                    tree.delete_range(key(from, width)..key(to, width))?;
                }
                // One by one, so that leaves are merged with their neighbours.
                let from = random.below(keys);
                for i in from..from + random.below(keys / 12) {
                    tree.delete(key(i, width))?;
                }
            }
            Ok(())
        })
        .unwrap();
        db.close().unwrap();
    }
    memory.to_bytes()
}

struct Out {
    salvaged: Salvaged,
    trees: Trees,
}

fn save(bytes: &[u8]) -> Out {
    let to = MemoryStorage::new();
    let salvaged = salvage(memory(bytes), Arc::new(to.clone()), &Silent).unwrap();
    let made = to.to_bytes();
    let report = check(&made);
    assert!(!report.is_damaged, "{}", report.text);
    Out {
        salvaged,
        trees: trees(&made),
    }
}

/// Under the name of a tree is only what was in it, and the report counts what is in the new file
/// and what is not.
fn is_honest(before: &Trees, out: &Out, what: &str) {
    let losses = &out.salvaged.losses;
    let told = |tree: &str| told(losses, tree);
    for (name, entries) in &out.trees {
        let count = { out.salvaged.trees.iter() }.find(|(tree, _)| tree == name);
        assert_eq!(count.unwrap().1, entries.len() as u64, "{what}: {name}");
        if name.starts_with(LOST_AND_FOUND) {
            let doubts = losses.uncertain.iter().filter(|doubt| doubt.tree == *name);
            let doubts: u64 = doubts.map(|doubt| doubt.entries).sum();
            assert_eq!(doubts, entries.len() as u64, "{what}: {name} {losses:#?}");
            continue;
        }
        let wanted = &before[name];
        let old = entries
            .iter()
            .filter(|(key, value)| wanted.get(*key) != Some(value));
        assert_eq!(
            old.count(),
            0,
            "{what}: {name} has entries of an older state"
        );
        let missing = (wanted.len() - entries.len()) as u64;
        assert_eq!(told(name), missing, "{what}: {name} {losses:#?}");
    }
    for loss in &losses.lost {
        assert!(
            loss.entries.is_none_or(|n| loss.recovered <= n),
            "{what}: {loss:?}"
        );
    }
    let is_whole = before
        .iter()
        .all(|(name, entries)| out.trees.get(name) == Some(entries));
    assert!(is_whole || losses.lost_count > 0, "{what}: {losses:#?}");
}

/// How many entries of a tree the report says are missing.
fn told(losses: &Losses, tree: &str) -> u64 {
    let of_tree = losses
        .lost
        .iter()
        .filter(|loss| loss.tree.as_deref() == Some(tree));
    of_tree
        .map(|loss| loss.entries.unwrap() - loss.recovered)
        .sum()
}

/// Old leaves that an old cell of the branch still leads to.
fn old_leaves(bytes: &[u8], branch: u32) -> usize {
    let source = source(bytes);
    let raw = source.raw(branch).unwrap();
    let node = Node::read(&raw, branch).unwrap();
    let current: Vec<Reference> = (0..node.count()).map(|i| node.child(i).at).collect();
    let leads_to_one = |window: &[u8]| {
        let number = |at: usize| u32::from_le_bytes(window[at..at + 4].try_into().unwrap());
        let (page, checksum) = (number(0), number(4));
        (2..source.file_pages()).contains(&page)
            && !current.contains(&Reference { page, checksum })
            && source.page(Reference { page, checksum }).is_ok()
    };
    raw.windows(8).filter(|window| leads_to_one(window)).count()
}

/// The file of the fixed tests: a branch of it has old cells, and their leaves are still there.
fn with_old_leaves() -> (Vec<u8>, u32) {
    let found = (1..200).find_map(|seed| {
        let bytes = workload(seed, 1);
        let branches = pages_of(&bytes, "tree 0", "branch");
        let branch = branches.into_iter().find(|branch| {
            let raw = source(&bytes).raw(*branch).unwrap();
            PageHeader::decode(&raw).level == 1 && old_leaves(&bytes, *branch) > 1
        })?;
        Some((bytes, branch))
    });
    found.expect("no seed makes a branch with old cells")
}

fn flip(bytes: &mut [u8], page: u32, at: usize) {
    bytes[page as usize * PAGE + at] ^= 1;
}

#[test]
fn old_cells_of_a_branch_are_no_evidence() {
    let (bytes, branch) = with_old_leaves();
    let before = trees(&bytes);
    let mut damaged = bytes.clone();
    flip(&mut damaged, branch, 33);
    for bitmap in pages_of(&bytes, "", "bitmap") {
        flip(&mut damaged, bitmap, 3000);
    }
    // All that the branch names is there: it costs nothing.
    let out = save(&damaged);
    is_honest(&before, &out, "branch");
    assert!(out.trees["tree 0"] == before["tree 0"]);
    let losses = &out.salvaged.losses;
    assert!(losses.uncertain.is_empty(), "{losses:#?}");
    // With a leaf: that there is room for old entries does not let them in.
    let node = source(&bytes).raw(branch).unwrap();
    let node = Node::read(&node, branch).unwrap();
    for i in 0..node.count() {
        let (leaf, entries) = (node.child(i).at.page, node.child(i).count);
        let mut damaged = damaged.clone();
        flip(&mut damaged, leaf, 1611);
        let out = save(&damaged);
        is_honest(&before, &out, &format!("leaf {leaf}"));
        let losses = &out.salvaged.losses;
        assert_eq!(told(losses, "tree 0"), entries);
        let lost = losses.lost.iter().find(|loss| loss.page == Some(branch));
        let what = &lost.unwrap().what;
        assert!(what.contains(&format!("page {leaf}")), "{what}");
    }
}

#[test]
fn a_report_with_uncertain_entries_does_not_say_that_nothing_was_lost() {
    let (bytes, branch) = with_old_leaves();
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a.db"), directory.path().join("b.db"));
    let mut damaged = bytes.clone();
    let at = branch as usize * PAGE;
    damaged[at..at + PAGE].fill(0);
    for bitmap in pages_of(&bytes, "", "bitmap") {
        flip(&mut damaged, bitmap, 3000);
    }
    std::fs::write(&from, &damaged).unwrap();
    let report = commands::salvage(&from, &to, &Silent).unwrap();
    let text = &report.text;
    assert!(!text.contains("no entry was lost"), "{text}");
    assert!(text.contains("nobody can vouch for"), "{text}");
    is_honest(&trees(&bytes), &save(&damaged), "an empty branch");
}

/// Two trees with the same keys. The old pages of the one are newer than those of the other, and hid them.
#[test]
fn pages_of_another_tree_hide_nothing() {
    let memory = MemoryStorage::new();
    let builder = Aurora::builder().background(false).salt(0x1234_5678);
    let db = builder.open_storage(Arc::new(memory.clone())).unwrap();
    fill(&db, "b", 2000, 0);
    (1..6).for_each(|round| fill(&db, "a", 2000, round));
    db.tree("behind").unwrap().put("all", [8; 1 << 16]).unwrap();
    db.close().unwrap();
    let bytes = memory.to_bytes();
    let before = trees(&bytes);
    let mut damaged = bytes.clone();
    let branch = pages_of(&bytes, "b", "branch")[0] as usize * PAGE;
    damaged[branch..branch + PAGE].fill(0);
    for bitmap in pages_of(&bytes, "", "bitmap") {
        flip(&mut damaged, bitmap, 3000);
    }
    let out = save(&damaged);
    is_honest(&before, &out, "two trees with one key");
    let found = |key: &[u8], value: &[u8]| {
        let uncertain = out
            .trees
            .iter()
            .filter(|(name, _)| name.starts_with(LOST_AND_FOUND));
        { uncertain }.any(|(_, entries)| entries.get(key).is_some_and(|there| there == value))
    };
    let missing = before["b"].iter().filter(|(key, value)| !found(key, value));
    assert_eq!(missing.count(), 0, "of {}", before["b"].len());
}

/// The same keys each time, with values of that round, in a checkpoint of their own.
fn fill(db: &Aurora, tree: &str, entries: u32, round: u32) {
    db.write(|tx| {
        let mut tree = tx.tree(tree)?;
        for i in 0..entries {
            tree.put(i.to_be_bytes(), format!("{round} {}", "v".repeat(40)))?;
        }
        Ok(())
    })
    .unwrap();
    db.checkpoint().unwrap();
}

/// Eight values of a key are kept, of which nobody knows which one counts. Those beyond were left out in silence.
#[test]
fn a_value_that_is_one_too_many_is_told() {
    let memory = MemoryStorage::new();
    let builder = Aurora::builder().background(false).salt(0x1234_5678);
    let db = builder.open_storage(Arc::new(memory.clone())).unwrap();
    let mut held = Vec::new();
    for round in 0..14 {
        fill(&db, if round == 0 { "b" } else { "a" }, 300, round);
        held.push(db.begin_read().unwrap()); // so that all of them stay in the file
    }
    db.close().unwrap();
    drop(held);
    let bytes = memory.to_bytes();
    let mut damaged = bytes.clone();
    let branch = pages_of(&bytes, "b", "branch")[0] as usize * PAGE;
    damaged[branch..branch + PAGE].fill(0);
    for bitmap in pages_of(&bytes, "", "bitmap") {
        flip(&mut damaged, bitmap, 3000);
    }
    let out = save(&damaged);
    is_honest(&trees(&bytes), &out, "many values of one key");
    let losses = &out.salvaged.losses;
    let left_out: Vec<_> = { losses.lost.iter() }
        .filter(|loss| loss.what.contains("other values of this key"))
        .collect();
    assert!(!left_out.is_empty(), "{losses:#?}");
    assert!(
        left_out
            .iter()
            .all(|loss| loss.key.is_some() && loss.entries == Some(1))
    );
}

/// What is done to a page.
fn damage(random: &mut Random, bytes: &mut [u8], page: u32) -> String {
    let at = page as usize * PAGE;
    match random.below(6) {
        0 => {
            bytes[at..at + PAGE].fill(0);
            format!("page {page} zeroed")
        }
        1 => {
            let sector = random.below(PAGE / 512) * 512;
            bytes[at + sector..at + sector + 512].fill(0);
            format!("page {page} zeroed from {sector}")
        }
        _ => {
            let (byte, bit) = (random.below(PAGE), random.below(8));
            bytes[at + byte] ^= 1 << bit;
            format!("page {page} flipped at {byte}, bit {bit}")
        }
    }
}

/// Pages by what they are, so that few tries meet those that matter together.
fn kinds(bytes: &[u8]) -> BTreeMap<&'static str, Vec<u32>> {
    let mut kinds = BTreeMap::new();
    for kind in ["branch", "leaf", "bitmap", "index"] {
        kinds.insert(kind, pages_of(bytes, "", kind));
    }
    kinds.insert("catalog", pages_of(bytes, "aurora/(catalog)", "leaf"));
    let all = 2..(bytes.len() / PAGE) as u32;
    kinds.insert("any", all.collect());
    kinds
}

#[test]
fn whatever_is_damaged_nothing_old_comes_back_and_the_report_is_right() {
    let budget = std::env::var("AURORA_TEST_BUDGET").ok();
    let budget: u64 = budget.and_then(|n| n.parse().ok()).unwrap_or(1);
    for seed in 0..6 * budget {
        let mut random = Random::new(seed ^ 0x5eed);
        let bytes = workload(seed, 1 + random.below(3));
        let before = trees(&bytes);
        let kinds = kinds(&bytes);
        for _ in 0..12 {
            let mut damaged = bytes.clone();
            let mut what = format!("seed {seed}");
            let recipes: [&[&str]; 7] = [
                &["branch", "bitmap"],
                &["branch", "bitmap", "leaf"],
                &["branch", "leaf", "leaf"],
                &["branch", "branch", "bitmap"],
                &["catalog", "bitmap"],
                &["catalog", "branch", "leaf"],
                &["any", "any", "any"],
            ];
            for kind in recipes[random.below(recipes.len())] {
                if let Some(page) = random.one(&kinds[kind]) {
                    what += "; ";
                    what += &damage(&mut random, &mut damaged, page);
                }
            }
            let out = save(&damaged);
            // What it says is then of an older one.
            let losses = &out.salvaged.losses;
            if losses.lost.iter().all(|loss| loss.kind != "commits") {
                is_honest(&before, &out, &what);
            }
        }
    }
}
