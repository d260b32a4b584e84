//! Files that were damaged in named ways, and what `salvage` gets back of them, counted.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use aurora::Aurora;
use aurora::anatomy::{self, Cell};
use aurora::storage::MemoryStorage;
use aurora_inspect::salvage::{LOST_AND_FOUND, Salvaged, salvage};
use aurora_inspect::walk::for_each_entry;
use aurora_inspect::{Failure, Options, Silent, Source, Survey};
use common::*;

const PAGE: usize = 4096;

/// A file with trees of three levels, long values, keys, blobs, and documents.
fn sample() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let memory = MemoryStorage::new();
        let db = builder().open_storage(Arc::new(memory.clone())).unwrap();
        fill(&db, 8);
        db.write(|tx| {
            let mut tree = tx.tree("deep")?;
            for i in 0..6000 {
                tree.put(deep_key(i), format!("value {i}"))?;
            }
            Ok(())
        })
        .unwrap();
        for i in 0..3_u32 {
            let content: Vec<u8> = (0..600_000 + i).map(|n| (n * (i + 3)) as u8).collect();
            db.put_blob_from(format!("blob {i}"), &content[..]).unwrap();
        }
        // Old copies of pages lie around, with values that were replaced and keys that are gone.
        for round in 0..4 {
            db.write(|tx| {
                let mut tree = tx.tree("deep")?;
                for i in (round..6000).step_by(7) {
                    tree.put(deep_key(i), format!("round {round} value {i}"))?;
                }
                for i in (round..6000).step_by(50) {
                    tree.delete(deep_key(i))?;
                }
                Ok(())
            })
            .unwrap();
            db.checkpoint().unwrap();
        }
        db.close().unwrap();
        memory.to_bytes()
    })
}

fn deep_key(i: u32) -> String {
    format!(
        "a key that is long enough for many pages/{i:08}/{}",
        "x".repeat(120)
    )
}

fn builder() -> aurora::Builder {
    Aurora::builder()
        .background(false)
        .salt(0x1234_5678_9abc_def0)
}

struct Out {
    salvaged: Salvaged,
    trees: Trees,
}

impl Out {
    /// Trees that are not under `lost+found`.
    fn real(&self) -> Trees {
        let mut trees = self.trees.clone();
        trees.retain(|name, _| !name.starts_with(LOST_AND_FOUND));
        trees
    }

    fn says(&self, what: &str) -> bool {
        serde_json::to_string(&self.salvaged.losses)
            .unwrap()
            .contains(what)
    }

    fn loss(&self, page: u32) -> &aurora_inspect::salvage::Loss {
        let mut losses = self.salvaged.losses.lost.iter();
        let found = losses.find(|loss| loss.page == Some(page));
        found.unwrap_or_else(|| panic!("page {page} is not in {:#?}", self.salvaged.losses))
    }
}

fn try_salvage(bytes: &[u8]) -> Result<Out, Failure> {
    let to = MemoryStorage::new();
    let salvaged = salvage(memory(bytes), Arc::new(to.clone()), &Silent)?;
    let made = to.to_bytes();
    let report = check(&made);
    assert!(
        !report.is_damaged,
        "{}\n{:#?}",
        report.text, salvaged.losses
    );
    let db = Aurora::builder().open_storage(Arc::new(to)).unwrap();
    db.check().unwrap();
    drop(db);
    Ok(Out {
        salvaged,
        trees: trees(&made),
    })
}

fn save(bytes: &[u8]) -> Out {
    try_salvage(bytes).unwrap()
}

/// All entries with the pages that each lies on.
type Places = BTreeMap<(String, Vec<u8>), (BTreeSet<u32>, Vec<u8>)>;

fn places(bytes: &[u8]) -> Places {
    let source = source(bytes);
    let survey = Survey::take(&source, Options { read_runs: false }, &Silent).unwrap();
    let mut places = Places::new();
    for tree in &survey.trees[1..] {
        for_each_entry(&source, &tree.name, &tree.root, |entry| {
            let mut pages = BTreeSet::from([entry.page]);
            if let Cell::Run(run) = entry.cell {
                pages.extend(run.first..run.first + run.pages(PAGE as u32));
            }
            let value = aurora_inspect::walk::value_of(&source, entry.cell).unwrap();
            places.insert((tree.name.clone(), entry.key.to_vec()), (pages, value));
            true
        });
    }
    places
}

/// What is made anew if need be.
fn is_derived(tree: &str) -> bool {
    tree.starts_with("aurora/index/") || tree == "aurora/expiry" || tree == "aurora/meta"
}

/// Exactly the entries on undamaged pages are in trees under their own names, but for what cannot
/// stand alone; says how many are not there.
fn is_exact(before: &[u8], out: &Out, damaged: &[u32]) -> usize {
    let damaged: BTreeSet<u32> = damaged.iter().copied().collect();
    let places = places(before);
    let real = out.real();
    let mut missing = 0;
    for ((tree, key), (pages, value)) in &places {
        let found = real.get(tree).and_then(|entries| entries.get(key));
        if is_derived(tree) {
            continue;
        }
        match pages.is_disjoint(&damaged) {
            true => {
                let aside = out.trees.get(&format!("{LOST_AND_FOUND}{tree}"));
                let aside = aside.and_then(|entries| entries.get(key));
                let found = match tree.starts_with("aurora/") {
                    // A blob or a collection that is not whole is put aside as it is.
                    true => found.or(aside),
                    false => found,
                };
                assert_eq!(found, Some(value), "{tree} {key:?}");
            }
            false => {
                assert_eq!(found, None, "{tree} {key:?}");
                missing += 1;
            }
        }
    }
    nothing_is_made_up(&places, out);
    missing
}

fn nothing_is_made_up(places: &Places, out: &Out) {
    for (tree, entries) in out.real() {
        for (key, value) in entries.iter().filter(|_| !is_derived(&tree)) {
            let original = places.get(&(tree.clone(), key.clone()));
            assert_eq!(
                original.map(|(_, value)| value),
                Some(value),
                "{tree} {key:?}"
            );
        }
    }
}

fn nothing_is_missing(before: &[u8], out: &Out) {
    let wanted = trees(before);
    let real = out.real();
    assert_eq!(
        wanted.keys().collect::<Vec<_>>(),
        real.keys().collect::<Vec<_>>()
    );
    for (name, entries) in wanted {
        assert!(real[&name] == entries, "{name} differs");
    }
    assert_eq!(
        out.salvaged.losses.lost_count, 0,
        "{:#?}",
        out.salvaged.losses
    );
    let uncertain = out
        .trees
        .keys()
        .filter(|name| name.starts_with(LOST_AND_FOUND));
    assert_eq!(uncertain.count(), 0);
}

fn flip(bytes: &mut [u8], page: u32) {
    bytes[page as usize * PAGE + 2000] ^= 0x10;
}

fn zero(bytes: &mut [u8], page: u32) {
    let at = page as usize * PAGE;
    bytes[at..at + PAGE].fill(0);
}

/// Each way to destroy a page.
const WAYS: [fn(&mut [u8], u32); 3] = [flip, zero, |bytes, page| {
    // Its last sector.
    let at = (page as usize + 1) * PAGE - 512;
    bytes[at..at + 512].fill(0);
}];

#[test]
fn a_healthy_file_comes_back_whole() {
    let out = save(sample());
    nothing_is_missing(sample(), &out);
    assert!(out.salvaged.losses.is_empty(), "{:#?}", out.salvaged.losses);
}

#[test]
fn what_waits_in_the_log_comes_back() {
    let bytes = in_use(4096);
    let out = save(&bytes);
    assert!(out.salvaged.losses.is_empty(), "{:#?}", out.salvaged.losses);
    assert_eq!(out.salvaged.log.commits, 5);
    assert_eq!(out.trees["numbers"].len(), 205);
    assert_eq!(out.trees["numbers"][&b"late 4"[..]], b"x");
}

#[test]
fn header_slots_are_not_needed() {
    let newest = Surgeon::new(sample().to_vec()).newest();
    // The older one, damaged and wiped out.
    for destroy in [flip_slot as fn(&mut [u8], u32), zero] {
        let mut bytes = sample().to_vec();
        destroy(&mut bytes, 1 - newest);
        let out = save(&bytes);
        nothing_is_missing(sample(), &out);
        assert!(out.says("header"));
        // The newer one: the log tells that there was one.
        let mut bytes = sample().to_vec();
        destroy(&mut bytes, newest);
        let out = save(&bytes);
        nothing_is_missing(sample(), &out);
        assert!(out.salvaged.state.contains("the newest header is lost"));
        // Both: not even the salt is known.
        destroy(&mut bytes, 1 - newest);
        let out = save(&bytes);
        nothing_is_missing(sample(), &out);
        assert!(out.salvaged.geometry.contains("which agree"));
    }
}

fn flip_slot(bytes: &mut [u8], page: u32) {
    bytes[page as usize * PAGE + 100] ^= 1;
}

#[test]
fn without_slots_the_log_is_applied_too() {
    let before = in_use(4096);
    for size in [4096, 16384, 65536] {
        let mut bytes = in_use(size);
        bytes[..256].fill(0);
        bytes[size as usize..size as usize + 256].fill(0);
        let out = save(&bytes);
        assert_eq!(out.salvaged.page_size, size);
        assert_eq!(out.salvaged.log.commits, 5);
        assert_eq!(
            out.salvaged.losses.lost_count, 0,
            "{:#?}",
            out.salvaged.losses
        );
        let expected = save(&before);
        for tree in ["numbers", "long", "empty"] {
            assert!(out.real()[tree] == expected.trees[tree], "{tree}");
        }
    }
}

#[test]
fn a_leaf_costs_its_own_entries_and_no_others() {
    let leaves = pages_of(sample(), "deep", "leaf");
    for (way, leaf) in WAYS.iter().zip([0, leaves.len() / 2, leaves.len() - 1]) {
        let leaf = leaves[leaf];
        let mut bytes = sample().to_vec();
        way(&mut bytes, leaf);
        let out = save(&bytes);
        let missing = is_exact(sample(), &out, &[leaf]);
        assert!(missing > 5);
        let loss = out.loss(leaf);
        assert_eq!(loss.entries, Some(missing as u64));
        assert_eq!(loss.recovered, 0);
        assert_eq!(loss.tree.as_deref(), Some("deep"));
        assert_eq!(out.salvaged.losses.lost_count, 1);
    }
}

#[test]
fn the_keys_around_a_loss_are_named() {
    let leaves = pages_of(sample(), "numbers", "leaf");
    let source = source(sample());
    let mut bytes = sample().to_vec();
    let (mut before, mut behind) = (None, None);
    let survey = Survey::take(&source, Options { read_runs: false }, &Silent).unwrap();
    let root = survey.tree_named("numbers").unwrap().root;
    let mut lost = None;
    for_each_entry(&source, "numbers", &root, |entry| {
        if lost.is_none() && before.is_some() && entry.page == leaves[2] {
            lost = Some(entry.page);
        }
        match lost {
            None => before = Some(entry.key.to_vec()),
            Some(page) if page != entry.page && behind.is_none() => {
                behind = Some(entry.key.to_vec())
            }
            _ => {}
        }
        true
    });
    flip(&mut bytes, leaves[2]);
    let out = save(&bytes);
    let loss = out.loss(leaves[2]);
    let shown =
        |key: Option<Vec<u8>>| key.map(|key| format!("{:?}", String::from_utf8(key).unwrap()));
    assert_eq!(loss.after, shown(before));
    assert_eq!(loss.before, shown(behind));
}

#[test]
fn a_branch_costs_nothing() {
    let branches = pages_of(sample(), "deep", "branch");
    assert!(branches.len() > 2, "not deep");
    for (i, &branch) in branches.iter().enumerate().take(6) {
        let mut bytes = sample().to_vec();
        WAYS[i % 3](&mut bytes, branch);
        let out = save(&bytes);
        nothing_is_missing(sample(), &out);
        assert!(
            out.says(&format!("page {branch}, a branch")),
            "{:#?}",
            out.salvaged.losses
        );
    }
}

#[test]
fn all_branches_of_a_tree_at_once_cost_nothing() {
    // The branches of one tree at once.
    let branches = pages_of(sample(), "deep", "branch");
    let mut bytes = sample().to_vec();
    for &branch in &branches {
        zero(&mut bytes, branch);
    }
    let out = save(&bytes);
    nothing_is_missing(sample(), &out);
}

#[test]
fn two_trees_with_the_same_keys_are_told_apart_or_put_aside() {
    let memory = MemoryStorage::new();
    let db = builder().open_storage(Arc::new(memory.clone())).unwrap();
    db.write(|tx| {
        for (name, entries) in [("one", 900), ("two", 700)] {
            let mut tree = tx.tree(name)?;
            for i in 0..entries {
                tree.put(format!("{i:06}"), format!("{name} {i}"))?;
            }
        }
        Ok(())
    })
    .unwrap();
    db.close().unwrap();
    let before = memory.to_bytes();
    let roots = ["one", "two"].map(|tree| pages_of(&before, tree, "branch"));
    assert!(roots.iter().all(|branches| branches.len() == 1));
    // What is left of the roots tells which leaf is whose.
    let mut bytes = before.clone();
    for root in &roots {
        let at = root[0] as usize * PAGE + 40;
        bytes[at] ^= 1;
    }
    nothing_is_missing(&before, &save(&bytes));
    // Nothing is left of them.
    for root in &roots {
        zero(&mut bytes, root[0]);
    }
    let out = save(&bytes);
    let places = places(&before);
    nothing_is_made_up(&places, &out);
    assert!(out.real()["one"].is_empty() && out.real()["two"].is_empty());
    let found: BTreeSet<_> = out.trees.values().flatten().collect();
    assert!(
        places
            .iter()
            .all(|((_, key), (_, value))| found.contains(&(key, value)))
    );
    let told = [&roots[0], &roots[1]].map(|root| out.loss(root[0]).entries);
    assert_eq!(told, [Some(900), Some(700)]);
}

#[test]
fn branches_and_leaves_at_once() {
    let branches = pages_of(sample(), "deep", "branch");
    let leaves = pages_of(sample(), "deep", "leaf");
    let damaged = [branches[0], branches[1], leaves[3], leaves[40], leaves[41]];
    let mut bytes = sample().to_vec();
    for page in damaged {
        zero(&mut bytes, page);
    }
    let out = save(&bytes);
    let missing = is_exact(sample(), &out, &damaged);
    let told: u64 = out
        .salvaged
        .losses
        .lost
        .iter()
        .map(|l| l.entries.unwrap() - l.recovered)
        .sum();
    assert_eq!(told, missing as u64, "{:#?}", out.salvaged.losses);
}

#[test]
fn an_old_copy_of_a_leaf_is_not_taken_for_it() {
    // In place of the leaf is what an earlier checkpoint had there, sound in itself: a write that
    // never reached the disk.
    let leaves = pages_of(sample(), "deep", "leaf");
    let leaf = leaves[leaves.len() / 3];
    let mut surgeon = Surgeon::new(sample().to_vec());
    let mut stale = surgeon.page(leaf).to_vec();
    let at = stale
        .windows(5)
        .position(|window| window == b"value")
        .unwrap();
    stale[at] = b'V';
    let checksum = anatomy::checksum(&stale, leaf, 0x1234_5678_9abc_def0);
    stale[..4].copy_from_slice(&checksum.to_le_bytes());
    surgeon.page(leaf).copy_from_slice(&stale);
    let out = save(&surgeon.bytes);
    is_exact(sample(), &out, &[leaf]);
    assert!(out.loss(leaf).entries.unwrap() > 0);
}

#[test]
fn a_lost_space_map_costs_nothing() {
    for kind in ["bitmap", "index"] {
        let pages = pages_of(sample(), "", kind);
        for page in pages {
            let mut bytes = sample().to_vec();
            zero(&mut bytes, page);
            let out = save(&bytes);
            nothing_is_missing(sample(), &out);
            assert!(
                out.says(&format!("page {page}")),
                "{:#?}",
                out.salvaged.losses
            );
        }
    }
}

#[test]
fn a_branch_without_a_space_map_is_filled_from_what_it_still_refers_to() {
    let branches = pages_of(sample(), "deep", "branch");
    let mut bytes = sample().to_vec();
    for page in pages_of(sample(), "", "bitmap") {
        zero(&mut bytes, page);
    }
    let at = branches[1] as usize * PAGE + 40;
    bytes[at] ^= 1;
    let out = save(&bytes);
    nothing_is_missing(sample(), &out);
    // If nothing is left of it, its leaves are not vouched for, but there.
    zero(&mut bytes, branches[1]);
    let out = save(&bytes);
    nothing_is_made_up(&places(sample()), &out);
    let loss = out.loss(branches[1]);
    assert_eq!(loss.recovered, 0);
    let aside = &out.trees["lost+found/deep"];
    let real = &out.trees["deep"];
    let all = &trees(sample())["deep"];
    for (key, value) in all {
        assert!(real.get(key).or(aside.get(key)) == Some(value), "{key:?}");
    }
    assert_eq!(loss.entries, Some((all.len() - real.len()) as u64));
}

#[test]
fn the_catalog_is_lost() {
    let catalog = pages_of(sample(), "aurora/(catalog)", "leaf");
    assert_eq!(catalog.len(), 1);
    let before = trees(sample());
    for way in WAYS {
        let mut bytes = sample().to_vec();
        way(&mut bytes, catalog[0]);
        let out = save(&bytes);
        nothing_is_made_up(&places(sample()), &out);
        let all: Vec<_> = out.trees.values().collect();
        for (name, entries) in before.iter().filter(|(_, entries)| !entries.is_empty()) {
            let found = all.iter().any(|tree| {
                entries
                    .iter()
                    .all(|(key, value)| tree.get(key) == Some(value))
            });
            let moved = name.starts_with("aurora/");
            assert!(found || moved, "{name}: {:#?}", out.salvaged);
        }
        let loss = out.loss(catalog[0]);
        assert_eq!(loss.entries, Some(before.len() as u64));
    }
    // A flipped bit elsewhere in the page leaves all names readable, and older pages agree.
    let mut bytes = sample().to_vec();
    bytes[catalog[0] as usize * PAGE + 26] ^= 1;
    let out = save(&bytes);
    for (name, entries) in before.iter().filter(|(_, entries)| !entries.is_empty()) {
        assert!(
            out.real().get(name) == Some(entries),
            "{name} {:#?}",
            out.salvaged
        );
    }
}

#[test]
fn a_damaged_run_costs_its_value() {
    let runs = pages_of(sample(), "long", "run");
    let mut bytes = sample().to_vec();
    let lost = [runs[0], runs[runs.len() - 1]];
    for page in lost {
        flip(&mut bytes, page);
    }
    let out = save(&bytes);
    let missing = is_exact(sample(), &out, &lost);
    let values = out
        .salvaged
        .losses
        .lost
        .iter()
        .filter(|loss| loss.kind == "value");
    assert_eq!(values.count(), missing);
    assert!(missing > 0);
}

#[test]
fn a_blob_without_a_chunk_is_put_aside() {
    let runs = pages_of(sample(), "aurora/chunks", "run");
    let mut bytes = sample().to_vec();
    flip(&mut bytes, runs[0]);
    let out = save(&bytes);
    is_exact(sample(), &out, &[runs[0]]);
    let losses = &out.salvaged.losses.lost;
    let blob = losses.iter().find(|loss| loss.kind == "blob").unwrap();
    assert!(blob.what.contains("is missing"), "{blob:?}");
    assert_eq!(out.trees["lost+found/aurora/keys"].len(), 1);
    assert_eq!(out.trees["lost+found/aurora/chunks"].len(), 2);
    assert_eq!(losses.iter().filter(|loss| loss.kind == "value").count(), 1);
}

#[test]
fn an_index_is_made_anew() {
    let index = trees(sample())
        .keys()
        .find(|name| name.starts_with("aurora/index/"))
        .unwrap()
        .clone();
    for tree in [index.as_str(), "aurora/expiry"] {
        let leaf = pages_of(sample(), tree, "leaf")[0];
        let mut bytes = sample().to_vec();
        flip(&mut bytes, leaf);
        let out = save(&bytes);
        is_exact(sample(), &out, &[leaf]);
        assert!(out.real()[tree] == trees(sample())[tree], "{tree}");
        assert!(out.says("made anew"), "{:#?}", out.salvaged.losses);
        assert!(out.loss(leaf).entries.unwrap() > 0);
    }
}

#[test]
fn a_leaf_of_documents_costs_its_documents_everywhere() {
    let all = trees(sample());
    let documents = all
        .keys()
        .find(|name| name.starts_with("aurora/documents/"))
        .unwrap();
    let leaf = pages_of(sample(), documents, "leaf")[2];
    let mut bytes = sample().to_vec();
    flip(&mut bytes, leaf);
    let out = save(&bytes);
    let missing = is_exact(sample(), &out, &[leaf]);
    assert_eq!(out.real()[documents].len(), all[documents].len() - missing);
    assert_eq!(out.loss(leaf).entries, Some(missing as u64));
}

#[test]
fn the_record_of_a_collection_takes_its_documents_along() {
    let leaf = pages_of(sample(), "aurora/collections", "leaf")[0];
    let mut bytes = sample().to_vec();
    flip(&mut bytes, leaf);
    let out = save(&bytes);
    is_exact(sample(), &out, &[leaf]);
    assert!(out.says("documents of a collection whose record is lost"));
    assert!(
        !out.real()
            .keys()
            .any(|name| name.starts_with("aurora/index"))
    );
}

#[test]
fn records_of_the_log() {
    let bytes = in_use(4096);
    let wal = aurora_inspect::wal::Wal::read(&source(&bytes), false).unwrap();
    let commits: Vec<_> = wal.records.iter().filter(|r| r.kind == "commit").collect();
    assert_eq!(commits.len(), 5);
    for lost in 0..5 {
        let mut damaged = bytes.clone();
        damaged[commits[lost].offset as usize + 60] ^= 1;
        let out = save(&damaged);
        let numbers = &out.real()["numbers"];
        for i in 0..5 {
            let key = format!("late {i}").into_bytes();
            assert_eq!(numbers.contains_key(&key), i < lost, "{i} of {lost}");
        }
        assert_eq!(out.salvaged.log.commits, lost as u64);
        assert!(out.says("durable up to"), "{:#?}", out.salvaged.losses);
        // Intact commits behind it are there, but not in the tree.
        let aside: usize = { out.trees.iter() }
            .filter(|(name, _)| name.starts_with("lost+found/log/"))
            .map(|(_, entries)| entries.len())
            .sum();
        assert_eq!(aside, 4 - lost, "{:?}", out.trees.keys());
    }
}

#[test]
fn a_truncated_file() {
    let pages = sample().len() / PAGE;
    for cut in [1, pages / 10, pages / 2] {
        let kept = pages - cut;
        let bytes = &sample()[..kept * PAGE + 100];
        let out = save(bytes);
        let places = places(sample());
        nothing_is_made_up(&places, &out);
        let is_kept = |pages: &BTreeSet<u32>| pages.iter().all(|page| (*page as usize) < kept);
        let all: Vec<_> = out.trees.values().collect();
        for ((tree, key), (pages, value)) in &places {
            if is_kept(pages) && !is_derived(tree) {
                let found = all.iter().any(|tree| tree.get(key) == Some(value));
                assert!(found || tree == "aurora/chunks", "{tree} {key:?}");
            }
        }
        assert!(out.says("should have"), "{:#?}", out.salvaged.losses);
    }
}

#[test]
fn swapped_pages() {
    let leaves = pages_of(sample(), "deep", "leaf");
    let (a, b) = (leaves[7], leaves[90]);
    let mut bytes = sample().to_vec();
    let (from, to) = (a as usize * PAGE, b as usize * PAGE);
    for i in 0..PAGE {
        bytes.swap(from + i, to + i);
    }
    let out = save(&bytes);
    is_exact(sample(), &out, &[a, b]);
    assert!(out.loss(a).entries.is_some() && out.loss(b).entries.is_some());
}

#[test]
fn nothing_of_an_older_state_comes_back() {
    // Every branch and the catalog, with and without the map: what is deleted stays so.
    let deleted: Vec<Vec<u8>> = { 0..6000_u32 }
        .map(|i| deep_key(i).into_bytes())
        .filter(|key| !trees(sample())["deep"].contains_key(key))
        .take(20)
        .collect();
    assert_eq!(deleted.len(), 20);
    for map in [false, true] {
        let mut bytes = sample().to_vec();
        for page in pages_of(sample(), "deep", "branch") {
            zero(&mut bytes, page);
        }
        for page in pages_of(sample(), "aurora/(catalog)", "leaf") {
            zero(&mut bytes, page);
        }
        for page in pages_of(sample(), "", "bitmap") {
            if map {
                zero(&mut bytes, page);
            }
        }
        let out = save(&bytes);
        nothing_is_made_up(&places(sample()), &out);
        for (name, entries) in out.real() {
            assert!(
                deleted.iter().all(|key| !entries.contains_key(key)),
                "{name}"
            );
        }
    }
}

#[test]
fn what_is_no_aurora_file_is_refused() {
    assert!(try_salvage(&[]).is_err());
    assert!(try_salvage(&[7; 100_000]).is_err());
    assert!(try_salvage(&vec![0; 100_000]).is_err());
}

#[test]
fn the_command_makes_a_file_and_replaces_none() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a.db"), directory.path().join("b.db"));
    let mut bytes = sample().to_vec();
    flip(&mut bytes, pages_of(sample(), "deep", "leaf")[0]);
    std::fs::write(&from, &bytes).unwrap();
    let run = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_aurora-inspect"));
        command
            .args(["--json", "salvage"])
            .arg(&from)
            .arg(&to)
            .output()
            .unwrap()
    };
    let output = run();
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["losses"]["lost_count"], 1);
    assert_eq!(json["losses"]["lost"][0]["tree"], "deep");
    assert_eq!(std::fs::read(&from).unwrap(), bytes);
    let made = std::fs::read(&to).unwrap();
    assert!(!check(&made).is_damaged);
    assert_eq!(run().status.code(), Some(2));
    assert_eq!(std::fs::read(&to).unwrap(), made);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    let _ = Source::open(&to, None).unwrap();
}

/// A power cut that took the long value and left its record: the commit never was. With the mark behind
/// it, it was acknowledged, and the value is lost.
#[test]
fn a_commit_without_its_long_value_counts_if_it_was_acknowledged() {
    let memory = MemoryStorage::new();
    let db = builder().open_storage(Arc::new(memory.clone())).unwrap();
    db.tree("a").unwrap().put("before", "1").unwrap();
    db.tree("a").unwrap().put("long", [7; 50_000]).unwrap();
    let mut bytes = memory.to_bytes();
    drop(db);
    let wal = |bytes: &[u8]| aurora_inspect::wal::Wal::read(&source(bytes), false).unwrap();
    let whole = wal(&bytes);
    let [.., commit, mark] = &whole.records[..] else {
        panic!("{whole:#?}");
    };
    let run = bytes.windows(50_000).position(|w| w == [7; 50_000]);
    bytes[run.unwrap() + 30_000] ^= 1;
    assert_eq!(wal(&bytes).end, whole.end);
    assert!(check(&bytes).is_damaged);
    let out = save(&bytes);
    assert!(out.says("checksum"), "{:#?}", out.salvaged.losses);
    assert_eq!(out.salvaged.log.commits, whole.commits);

    bytes[mark.offset as usize..][..mark.bytes as usize].fill(0);
    let cut = wal(&bytes);
    assert_eq!((cut.end, cut.commits), (commit.lsn, whole.commits - 1));
    assert!(cut.stop.contains("without its long values"), "{}", cut.stop);
    let report = check(&bytes);
    assert!(!report.is_damaged, "{}", report.text);
    let db = builder().open_storage(crate::memory(&bytes)).unwrap();
    assert_eq!(db.tree("a").unwrap().len().unwrap(), 1);
    drop(db);
    let out = save(&bytes);
    assert!(out.salvaged.losses.lost.is_empty());
    assert_eq!(out.salvaged.log.commits, cut.commits);
    assert_eq!(out.real()["a"].len(), 1);
}

/// Headers of records that are none, in a value: where they are, and nearly as long as the ring.
fn forge_headers(value: &mut [u8], offset: usize, count: usize) {
    const RING: usize = 32 << 10;
    let from = offset.next_multiple_of(8);
    for at in (from..).step_by(56).take(count) {
        let header = &mut value[at - offset..][..56];
        header.fill(0);
        header[..4].copy_from_slice(b"ALOG");
        header[4..8].copy_from_slice(&(RING as u32 - 64).to_le_bytes());
        let lsn = (RING << 20) + at - 2 * PAGE;
        header[8..16].copy_from_slice(&(lsn as u64).to_le_bytes());
        header[40] = 1;
    }
}

/// Whoever chooses values can put into them what looks like records. The search for records gave up after some, and all
/// commits behind them were lost, of a file that an open reads without a word.
#[test]
fn values_full_of_headers_of_records_cost_no_commit() {
    let with_value = |value: &[u8]| {
        let memory = MemoryStorage::new();
        let db = builder().open_storage(Arc::new(memory.clone())).unwrap();
        let tree = db.tree("a").unwrap();
        tree.put("before", "1").unwrap();
        tree.put("forged", value).unwrap();
        for i in 0..20 {
            tree.put(format!("after {i}"), "2").unwrap();
        }
        memory.to_bytes()
    };
    let mut value = vec![0xab; 3000];
    let bytes = with_value(&value);
    let windows = bytes.windows(value.len());
    let offset = { windows.into_iter() }.position(|bytes| bytes == value);
    forge_headers(&mut value, offset.unwrap(), 50);
    let out = save(&with_value(&value));
    assert_eq!(out.real()["a"].len(), 22, "{:#?}", out.salvaged.losses);
    assert_eq!(out.real()["a"][&b"forged"[..]], value);
    assert_eq!(out.salvaged.losses.lost_count, 0);
}

/// Each reference was followed, and took as long as the value is long.
#[test]
fn a_long_value_with_many_names_is_not_read_for_each() {
    let memory = MemoryStorage::new();
    let db = builder().open_storage(Arc::new(memory.clone())).unwrap();
    db.write(|tx| {
        let mut tree = tx.tree("a")?;
        tree.put("long", vec![7; 4 << 20])?;
        (0..60).try_for_each(|i| tree.put(format!("{i}"), [1; 3000]).map(drop))
    })
    .unwrap();
    db.close().unwrap();
    let bytes = memory.to_bytes();
    let (source, mut runs) = (source(&bytes), Vec::new());
    let survey = Survey::take(&source, Options { read_runs: false }, &Silent).unwrap();
    for tree in &survey.trees[1..] {
        for_each_entry(&source, &tree.name, &tree.root, |entry| {
            if let Cell::Run(run) = entry.cell {
                runs.push((entry.page, run));
            }
            true
        });
    }
    let long = runs.iter().map(|(_, run)| *run);
    let long = long.max_by_key(|run| run.length_bytes).unwrap();
    let mut surgeon = Surgeon::new(bytes);
    for (page, run) in runs.iter().filter(|(_, run)| run.first != long.first) {
        let reference = [run.first, run.length_bytes, run.checksum].map(u32::to_le_bytes);
        let other = [long.first, long.length_bytes, !long.checksum].map(u32::to_le_bytes);
        let (reference, other) = (reference.concat(), other.concat());
        surgeon.operate(*page, |page| {
            let at = { page.windows(12) }.position(|bytes| bytes == reference);
            page[at.unwrap()..][..12].copy_from_slice(&other);
        });
    }
    let out = save(&surgeon.bytes);
    // Those, and perhaps the one that the value is of: which one is right is not known before it is read.
    assert!((60..=61).contains(&out.salvaged.losses.lost_count));
    assert!(out.says("too many references name the same long values"));
}

/// A file that was salvaged once has such trees, and may be damaged again: what is uncertain of a tree went into the one that
/// had its name under `lost+found/`.
#[test]
fn what_is_uncertain_goes_into_no_tree_that_was_there() {
    let memory = MemoryStorage::new();
    let db = builder().open_storage(Arc::new(memory.clone())).unwrap();
    let there = format!("{LOST_AND_FOUND}a");
    for (tree, key) in [("a", "k1"), ("a", "k2"), ("a", "k3"), (&*there, "own")] {
        db.tree(tree).unwrap().put(key, "value").unwrap();
    }
    db.close().unwrap();
    let bytes = memory.to_bytes();
    let leaf = pages_of(&bytes, "a", "leaf")[0];
    let mut surgeon = Surgeon::new(bytes);
    // Two slots change places, so that a key is out of its place.
    surgeon.operate(leaf, |page| (32..40).for_each(|i| page.swap(i, i + 8)));
    let to = MemoryStorage::new();
    let from = common::memory(&surgeon.bytes);
    let salvaged = salvage(from, Arc::new(to.clone()), &Silent).unwrap();
    let found = trees(&to.to_bytes());
    let keys = |tree: &str| -> Vec<&[u8]> { found[tree].keys().map(|key| &key[..]).collect() };
    assert_eq!(keys(&there), [b"own"]);
    assert_eq!(keys("a"), [b"k2", b"k3"]);
    assert_eq!(keys(&format!("{there}~")), [b"k1"]);
    let uncertain = &salvaged.losses.uncertain;
    assert_eq!(uncertain.len(), 1, "{uncertain:?}");
    assert_eq!(uncertain[0].tree, format!("{there}~"));
}

/// Which of two states is the newer one only the header and the mark in the log tell. Without both the older came back, and the
/// report did not say that it may be one.
#[test]
fn a_state_that_may_be_an_older_one_is_told_as_such() {
    let bytes = closed(4096, 1);
    let newest = Surgeon::new(bytes.clone()).newest() as usize * PAGE;
    let mut damaged = bytes.clone();
    damaged[newest..newest + 256].fill(0);
    let ring = *source(&bytes).header().unwrap();
    let ring = ring.log.first as usize * PAGE..(ring.log.first + ring.log.pages) as usize * PAGE;
    damaged[ring].fill(0);
    let may_be_older = |bytes: &[u8]| {
        let to = Arc::new(MemoryStorage::new());
        let salvaged = salvage(common::memory(bytes), to, &Silent).unwrap();
        salvaged.may_be_older
    };
    assert!(may_be_older(&damaged));
    // The other slot, of the two, is that of an older checkpoint, says the mark.
    let mut damaged = bytes.clone();
    damaged[PAGE - newest..PAGE - newest + 256].fill(0);
    assert!(!may_be_older(&damaged));
    assert!(!may_be_older(&bytes));
}

/// The root of the catalog is the newest page of it, also where the map cannot tell that it is used.
#[test]
fn trees_keep_their_names_without_the_newest_header_and_the_map() {
    let bytes = in_use(4096);
    let newest = Surgeon::new(bytes.clone()).newest() as usize * PAGE;
    let mut damaged = bytes.clone();
    damaged[newest..newest + 256].fill(0);
    for bitmap in pages_of(&bytes, "", "bitmap") {
        damaged[bitmap as usize * PAGE + 3000] ^= 1;
    }
    let to = MemoryStorage::new();
    let salvaged = salvage(common::memory(&damaged), Arc::new(to.clone()), &Silent).unwrap();
    assert_eq!(salvaged.losses.lost_count, 0, "{:#?}", salvaged.losses);
    let found = trees(&to.to_bytes());
    for (name, entries) in trees(&bytes) {
        let is_there = |(key, value)| found[&name].get(key) == Some(value);
        assert!(entries.iter().all(is_there), "{name}");
    }
}
