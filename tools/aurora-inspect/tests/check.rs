//! Files that are damaged in named ways: `check` says what was done, and where.

mod common;

use aurora::anatomy;
use common::*;

#[test]
fn healthy_files_are_healthy() {
    for page_size in [4096, 16384, 65536] {
        for bytes in [
            closed(page_size, 1),
            closed(page_size, 8),
            in_use(page_size),
        ] {
            let report = check(&bytes);
            assert!(!report.is_damaged, "{}", report.text);
            assert_eq!(
                report.json["faults"].as_array().unwrap().len(),
                0,
                "{}",
                report.text
            );
        }
    }
}

#[test]
fn it_says_which_moment_it_shows() {
    let report = check(&in_use(4096));
    assert_eq!(report.json["waiting_transactions"], 5);
    assert!(report.text.contains("5 later transactions wait in the log"));
    let report = check(&closed(4096, 1));
    assert_eq!(report.json["waiting_transactions"], 0);
}

#[test]
fn a_flipped_bit_is_found_by_the_checksum_of_the_reference() {
    let mut bytes = closed(4096, 8);
    let leaf = pages_of(&bytes, "numbers", "leaf")[3];
    bytes[leaf as usize * 4096 + 2000] ^= 4;
    let fault = fault(
        &bytes,
        "the page does not match the checksum in its reference",
    );
    assert_eq!(fault["page"], leaf);
    assert_eq!(fault["offset"], u64::from(leaf) * 4096);
    assert_eq!(fault["tree"], "numbers");
    assert_ne!(fault["expected"], fault["found"]);
}

#[test]
fn the_rest_is_looked_at_beside_a_damaged_page() {
    let mut bytes = closed(4096, 8);
    let leaves = pages_of(&bytes, "numbers", "leaf");
    for leaf in [leaves[1], leaves[4]] {
        bytes[leaf as usize * 4096 + 100] ^= 1;
    }
    let found = faults(&bytes);
    let broken = found
        .iter()
        .filter(|what| what.contains("does not match the checksum"));
    assert_eq!(broken.count(), 2, "{found:?}");
}

#[test]
fn a_page_of_another_place_is_found() {
    let mut bytes = closed(4096, 8);
    let leaves = pages_of(&bytes, "numbers", "leaf");
    let (from, to) = (leaves[0] as usize * 4096, leaves[1] as usize * 4096);
    bytes.copy_within(from..from + 4096, to);
    assert_eq!(
        fault(&bytes, "does not match the checksum")["page"],
        leaves[1]
    );
}

#[test]
fn the_number_in_a_page_is_checked() {
    let bytes = closed(4096, 8);
    let leaf = pages_of(&bytes, "numbers", "leaf")[0];
    let mut surgeon = Surgeon::new(bytes);
    surgeon.operate(leaf, |page| page[4] ^= 1);
    let fault = fault(&surgeon.bytes, "the page carries another page's number");
    assert_eq!(
        (&fault["page"], &fault["expected"]),
        (&leaf.into(), &leaf.to_string().into())
    );
}

#[test]
fn the_order_of_keys_is_checked() {
    let bytes = closed(4096, 8);
    let leaf = pages_of(&bytes, "numbers", "leaf")[2];
    let mut surgeon = Surgeon::new(bytes);
    surgeon.operate(leaf, |page| {
        let (a, b) = (32 + 8 * 4, 32 + 8 * 5);
        let slot = page[a..a + 8].to_vec();
        page.copy_within(b..b + 8, a);
        page[b..b + 8].copy_from_slice(&slot);
    });
    let fault = fault(&surgeon.bytes, "the keys are not in ascending order");
    assert_eq!(
        (&fault["page"], &fault["tree"]),
        (&leaf.into(), &"numbers".into())
    );
    assert_eq!(fault["offset"], u64::from(leaf) * 4096 + 32 + 8 * 5);
}

#[test]
fn separators_are_checked_against_what_is_below() {
    let bytes = closed(4096, 8);
    let branch = pages_of(&bytes, "numbers", "branch")[0];
    let mut surgeon = Surgeon::new(bytes);
    // The last byte of the suffix of slot 2 that is in the head.
    surgeon.operate(branch, |page| {
        let at = 32 + 8 * 2;
        let length = u16::from_le_bytes([page[at + 6], page[at + 7]]);
        let byte = at + 4 - usize::from(length.min(4));
        page[byte] += 1;
    });
    let found = faults(&surgeon.bytes);
    let says = |what: &str| found.iter().any(|fault| fault == what);
    assert!(
        says("a key is below the separator of its page"),
        "{found:?}"
    );
}

#[test]
fn counts_levels_and_cells_are_checked() {
    let bytes = closed(4096, 8);
    let branch = pages_of(&bytes, "numbers", "branch")[0];
    let leaf = pages_of(&bytes, "numbers", "leaf")[1];
    let cell = |page: &[u8], slot: usize| {
        let at = 32 + 8 * slot + 4;
        usize::from(u16::from_le_bytes([page[at], page[at + 1]]))
    };
    let with = |page: u32, change: &dyn Fn(&mut [u8]), what: &str| {
        let mut surgeon = Surgeon::new(bytes.clone());
        surgeon.operate(page, change);
        let found = fault(&surgeon.bytes, what);
        assert_eq!(found["tree"], "numbers");
        found
    };
    let found = with(
        branch,
        &|page| {
            let at = cell(page, 1) + 8;
            page[at] += 1;
        },
        "a count is not that of the entries below",
    );
    assert_ne!(found["expected"], found["found"]);
    with(leaf, &|page| (page[16], page[17]) = (2, 1), "");
    with(
        leaf,
        &|page| page[17] = 1,
        "the level does not go with the kind of node",
    );
    with(
        leaf,
        &|page| page[26] += 1,
        "the garbage is not what the cells leave over",
    );
    with(
        leaf,
        &|page| page[18] = 0xff,
        "the cells start outside of the page",
    );
    with(
        leaf,
        &|page| {
            let first = cell(page, 0) as u16;
            page[32 + 8 + 4..32 + 8 + 6].copy_from_slice(&first.to_le_bytes());
        },
        "two cells overlap",
    );
    with(
        leaf,
        &|page| page[24..26].copy_from_slice(&2000u16.to_le_bytes()),
        "prefix",
    );
}

#[test]
fn a_tree_that_leads_to_itself_ends() {
    let bytes = closed(4096, 8);
    let branch = pages_of(&bytes, "numbers", "branch")[0];
    let mut surgeon = Surgeon::new(bytes);
    // The second child is the first one once more.
    surgeon.operate(branch, |page| {
        let cell = |slot: usize| {
            let at = 32 + 8 * slot + 4;
            usize::from(u16::from_le_bytes([page[at], page[at + 1]]))
        };
        let (first, second) = (cell(0), cell(1));
        page.copy_within(first..first + 8, second);
    });
    fault(&surgeon.bytes, "a page is used twice");
}

#[test]
fn long_values_are_read() {
    let mut bytes = closed(4096, 1);
    let run = pages_of(&bytes, "long", "run")[0];
    bytes[run as usize * 4096 + 10] ^= 1;
    let found = fault(
        &bytes,
        "a long value does not match the checksum in its reference",
    );
    assert_eq!(
        (&found["page"], &found["tree"]),
        (&run.into(), &"long".into())
    );
    assert!(found["key"].is_string());
}

#[test]
fn the_space_map_is_compared_with_what_is_reached() {
    let bytes = closed(4096, 8);
    let bitmap = pages_of(&bytes, "", "bitmap")[0];
    let index = pages_of(&bytes, "", "index")[0];
    let leaf = pages_of(&bytes, "numbers", "leaf")[0];
    let flip = |page: u32| {
        let mut surgeon = Surgeon::new(bytes.clone());
        surgeon.operate(bitmap, |bytes| {
            bytes[32 + page as usize / 8] ^= 1 << (page % 8)
        });
        surgeon
    };
    let surgeon = flip(leaf);
    let found = fault(&surgeon.bytes, "pages are in use and marked as free");
    assert_eq!(found["page"], leaf);
    fault(
        &surgeon.bytes,
        "a part of the space map has another count of used pages",
    );
    let pages = source(&bytes).pages();
    let beyond = flip(pages + 3);
    fault(
        &beyond.bytes,
        "the space map marks pages behind the end as used",
    );
    if let Some(free) = pages_of(&bytes, "", "free").first() {
        let mut surgeon = flip(*free);
        surgeon.operate(index, |bytes| bytes[40] += 1);
        let found = fault(
            &surgeon.bytes,
            "pages are marked as used and nothing leads to them",
        );
        assert_eq!(found["page"], *free);
    }
}

#[test]
fn header_slots_are_checked() {
    let bytes = closed(4096, 1);
    let newest = Surgeon::new(bytes.clone()).newest();
    let mut flipped = bytes.clone();
    flipped[newest as usize * 4096 + 70] ^= 1;
    fault(
        &flipped,
        "the header slot of the newest checkpoint is damaged",
    );
    let mut flipped = bytes.clone();
    flipped[(1 - newest) as usize * 4096 + 70] ^= 1;
    let found = fault(&flipped, "the header slot does not match its checksum");
    assert_eq!(found["area"], "header");
    // Both: nothing can be followed, and that is said.
    flipped[newest as usize * 4096 + 70] ^= 1;
    fault(&flipped, "no header slot is sound");
    let mut surgeon = Surgeon::new(bytes.clone());
    surgeon.slot(1 - newest, |slot| slot[16] += 4);
    fault(
        &surgeon.bytes,
        "the slots are not of two checkpoints that follow each other",
    );
    let mut cut = bytes.clone();
    cut.truncate(bytes.len() - 8192);
    fault(&cut, "the file is shorter than its header says");
}

#[test]
fn a_damaged_record_that_was_acknowledged_is_damage() {
    let mut bytes = in_use(4096);
    let report = aurora_inspect::wal::Wal::read(&source(&bytes), false).unwrap();
    let second = &report.records[1];
    bytes[second.offset as usize + 60] ^= 1;
    let found = fault(&bytes, "acknowledged commits in the log are damaged");
    assert_eq!(found["offset"], second.offset);
}

#[test]
fn the_catalog_is_checked() {
    let bytes = closed(4096, 1);
    let leaf = pages_of(&bytes, "aurora/(catalog)", "leaf")[0];
    let mut surgeon = Surgeon::new(bytes);
    // The number of the first tree becomes that of the second one.
    surgeon.operate(leaf, |page| {
        let node = anatomy::Node::read(page, leaf).unwrap();
        let values = [0, 1].map(|slot| match node.value(slot) {
            anatomy::Cell::Inline(value) => value.as_ptr() as usize - page.as_ptr() as usize,
            anatomy::Cell::Run(_) => panic!("entries of the catalog are short"),
        });
        page.copy_within(values[1]..values[1] + 4, values[0]);
    });
    fault(&surgeon.bytes, "two trees have one number");
}

/// Four bytes at `at` that give the page this checksum. A CRC is linear in its bits, so 32
/// equations say which of them to set.
fn force_checksum(page: &mut [u8], at: usize, wanted: u32, checksum: impl Fn(&[u8]) -> u32) {
    page[at..at + 4].fill(0);
    let base = checksum(page);
    let mut rows: Vec<(u32, u32)> = (0..32)
        .map(|bit| {
            page[at..at + 4].copy_from_slice(&(1u32 << bit).to_le_bytes());
            (checksum(page) ^ base, 1 << bit)
        })
        .collect();
    let (mut left, mut bits) = (wanted ^ base, 0);
    for column in (0..32).rev() {
        let pivot = rows.iter().position(|(row, _)| row >> column == 1).unwrap();
        let (row, source) = rows.swap_remove(pivot);
        for other in &mut rows {
            if other.0 >> column & 1 == 1 {
                *other = (other.0 ^ row, other.1 ^ source);
            }
        }
        if left >> column & 1 == 1 {
            (left, bits) = (left ^ row, bits ^ source);
        }
    }
    page[at..at + 4].copy_from_slice(&bits.to_le_bytes());
    assert_eq!(checksum(page), wanted);
}

/// redb #1332: a branch that points to itself overflowed the stack. Here its checksum in itself is
/// forged too, so that nothing but the loop is wrong.
#[test]
fn a_branch_that_points_to_itself_is_damage_and_not_an_endless_descent() {
    let bytes = closed(4096, 8);
    let branch = pages_of(&bytes, "numbers", "branch")[0];
    let salt = source(&bytes).salt();
    let mut surgeon = Surgeon::new(bytes);
    let wanted = 0x1234_5678_u32;
    surgeon.operate(branch, |page| {
        let number = |at: usize| usize::from(u16::from_le_bytes([page[at], page[at + 1]]));
        let (count, cell) = (number(18), number(32 + 4));
        page[cell..cell + 4].copy_from_slice(&branch.to_le_bytes());
        page[cell + 4..cell + 8].copy_from_slice(&wanted.to_le_bytes());
        let free = 32 + 8 * count;
        let checksum = |bytes: &[u8]| anatomy::checksum(bytes, branch, salt);
        force_checksum(page, free, wanted, checksum);
    });
    assert!(check(&surgeon.bytes).is_damaged);
    let db = aurora::Aurora::builder()
        .open_storage(memory(&surgeon.bytes))
        .unwrap();
    let error = db.check().unwrap_err();
    assert!(error.is_corruption(), "{error}");
    let snapshot = db.begin_read().unwrap();
    let tree = snapshot.tree("numbers").unwrap();
    for error in [
        tree.first().unwrap_err(),
        tree.get([0]).map(drop).unwrap_err(),
        tree.iter().find_map(Result::err).unwrap(),
        tree.rank([1]).unwrap_err(),
    ] {
        assert!(error.is_corruption(), "{error}");
    }
}
