//! `diff A B`: which trees and keys differ.
//!
//! # Invariants
//!
//! 1. Subtrees are passed over unread only if both files have one salt, and page and checksum of
//!    the two are equal: a checksum depends on salt, page and every byte.
//! 2. Memory is two values, and so many differences as are listed.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::Serialize;

use crate::entries::{Content, Database, Entries};
use crate::table::Table;
use crate::{Failure, Report, show};

/// A tree that differs.
#[derive(Debug, Default, Serialize)]
struct TreeDiff {
    tree: String,
    /// `both`, `a` or `b`.
    within: &'static str,
    only_in_a: u64,
    only_in_b: u64,
    changed: u64,
}

/// A key that differs.
#[derive(Debug, Serialize)]
struct KeyDiff {
    tree: String,
    key: String,
    key_hex: String,
    /// `only in a`, `only in b` or `changed`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_in_a: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_in_b: Option<u64>,
}

#[derive(Debug, Default, Serialize)]
struct Diff {
    same: bool,
    trees: Vec<TreeDiff>,
    differences: u64,
    keys: Vec<KeyDiff>,
    /// Subtrees that were not read, as they are one and the same.
    equal_subtrees: u64,
}

/// Compares two files, and lists so many of the keys that differ.
pub fn diff(a: &Database, b: &Database, limit: usize) -> Result<Report, Failure> {
    let mut diff = Diff::default();
    let names: BTreeSet<&str> = a.trees().chain(b.trees()).collect();
    for name in names {
        let mut tree = TreeDiff {
            tree: name.to_string(),
            within: match (a.has(name), b.has(name)) {
                (true, false) => "a",
                (false, true) => "b",
                _ => "both",
            },
            ..TreeDiff::default()
        };
        let pair = Pair {
            a: a.entries(name),
            b: b.entries(name),
            may_skip: a.shares_pages(b),
        };
        pair.compare(&mut diff, &mut tree, limit)?;
        let differences = tree.only_in_a + tree.only_in_b + tree.changed;
        diff.differences += differences;
        if differences > 0 || tree.within != "both" {
            diff.trees.push(tree);
        }
    }
    diff.same = diff.trees.is_empty();
    let text = text(&diff);
    let differs = !diff.same;
    Report::new(text, &diff, differs)
}

struct Pair<'d> {
    a: Entries<'d>,
    b: Entries<'d>,
    may_skip: bool,
}

impl<'d> Pair<'d> {
    fn compare(
        mut self,
        diff: &mut Diff,
        tree: &mut TreeDiff,
        limit: usize,
    ) -> Result<(), Failure> {
        let (mut left, mut right) = (None, None);
        loop {
            if self.may_skip && left.is_none() && right.is_none() {
                diff.equal_subtrees += self.skip()?;
            }
            if left.is_none() {
                left = self.a.next_entry()?;
            }
            if right.is_none() {
                right = self.b.next_entry()?;
            }
            let order = match (&left, &right) {
                (None, None) => return Ok(()),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let from_a = if order.is_le() { left.take() } else { None };
            let from_b = if order.is_ge() { right.take() } else { None };
            note(diff, tree, from_a, from_b, limit)?;
        }
    }

    /// Passes over subtrees that both have, as long as both stand before one.
    fn skip(&mut self) -> Result<u64, Failure> {
        let (Entries::Pages(a), Entries::Pages(b)) = (&mut self.a, &mut self.b) else {
            return Ok(0);
        };
        let mut skipped = 0;
        loop {
            if a.is_in_leaf() || b.is_in_leaf() {
                return Ok(skipped);
            }
            let (Some(of_a), Some(of_b)) = (a.below(), b.below()) else {
                return Ok(skipped);
            };
            if of_a == of_b {
                a.skip();
                b.skip();
                skipped += 1;
                continue;
            }
            // The higher one first, so that both come to one level.
            if of_a.1 >= of_b.1 {
                a.enter()?;
            }
            if of_b.1 >= of_a.1 {
                b.enter()?;
            }
        }
    }
}

type Side<'d> = Option<(Vec<u8>, Content<'d>)>;

fn note(
    diff: &mut Diff,
    tree: &mut TreeDiff,
    a: Side<'_>,
    b: Side<'_>,
    limit: usize,
) -> Result<(), Failure> {
    let bytes_in_a = a.as_ref().map(|(_, value)| value.length());
    let bytes_in_b = b.as_ref().map(|(_, value)| value.length());
    let (kind, key) = match (a, b) {
        (Some((key, a)), Some((_, b))) => {
            if bytes_in_a == bytes_in_b && a.read()? == b.read()? {
                return Ok(());
            }
            tree.changed += 1;
            ("changed", key)
        }
        (Some((key, _)), None) => {
            tree.only_in_a += 1;
            ("only in a", key)
        }
        (None, Some((key, _))) => {
            tree.only_in_b += 1;
            ("only in b", key)
        }
        (None, None) => return Ok(()),
    };
    if diff.keys.len() < limit {
        diff.keys.push(KeyDiff {
            tree: tree.tree.clone(),
            key: show::key(&tree.tree, &key, 64),
            key_hex: show::hex(&key),
            kind,
            bytes_in_a,
            bytes_in_b,
        });
    }
    Ok(())
}

fn text(diff: &Diff) -> String {
    if diff.same {
        return String::from("the same\n");
    }
    let mut table = Table::new(&["tree", "is in", "only in a", "only in b", "changed"]);
    for tree in &diff.trees {
        let number = |number: u64| number.to_string();
        let counts = [tree.only_in_a, tree.only_in_b, tree.changed].map(number);
        let mut row = vec![tree.tree.clone(), tree.within.to_string()];
        row.extend(counts);
        table.row(row);
    }
    let mut text = table.text();
    let mut table = Table::new(&["key", "tree", "difference", "bytes in a", "bytes in b"]);
    for key in &diff.keys {
        let number = |number: Option<u64>| number.map_or(String::new(), |n| n.to_string());
        table.row(vec![
            key.key.clone(),
            key.tree.clone(),
            key.kind.to_string(),
            number(key.bytes_in_a),
            number(key.bytes_in_b),
        ]);
    }
    text += &format!("\n{}", table.text());
    let rest = diff.differences - diff.keys.len() as u64;
    if rest > 0 {
        text += &format!("... and {rest} more keys\n");
    }
    text
}
