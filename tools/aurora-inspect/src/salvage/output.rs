//! The new file: trees under the names that they can be vouched for, everything else under
//! `lost+found/`.
//!
//! # Invariants
//!
//! 1. Nothing uncertain is written into a tree that is not under `lost+found/`, and no certain
//!    tree is written over by what is under it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aurora::anatomy::{Rebuild, Run};

use super::gather::{Sink, Value};
use super::losses::{Loss, Losses};
use crate::{Failure, show};

/// What names of trees with uncertain entries begin with.
pub const LOST_AND_FOUND: &str = "lost+found/";
const LONGEST_NAME: usize = 255;
/// So many values of one key are kept that nobody can choose between.
const VALUES: usize = 8;

/// A tree of the new file.
#[derive(Debug, Clone)]
pub(crate) struct OutTree {
    pub name: String,
    pub is_dropped: bool,
    /// Why nobody can vouch for what is in it.
    pub doubt: Option<&'static str>,
    /// How many keys it was the first to put.
    pub put: u64,
}

/// A value that is gone with its run.
#[derive(Debug, Clone)]
struct LostValue {
    run: Run,
    why: String,
}

/// The new file.
pub(crate) struct Output {
    pub rebuild: Rebuild,
    pub trees: Vec<OutTree>,
    /// The trees by their numbers in the log.
    pub numbers: HashMap<u32, usize>,
    pub losses: Losses,
    /// Names that uncertain trees may not have.
    taken: BTreeSet<String>,
    lost_values: BTreeMap<(usize, Vec<u8>), LostValue>,
    page_size: u32,
    /// Where there is such a key already, beside it.
    pub beside: bool,
}

pub(crate) fn failed(error: aurora::Error) -> Failure {
    Failure(format!("the new file cannot be written: {error}"))
}

impl Output {
    pub fn new(rebuild: Rebuild, page_size: u32) -> Self {
        Output {
            rebuild,
            trees: Vec::new(),
            numbers: HashMap::new(),
            losses: Losses::default(),
            taken: BTreeSet::new(),
            lost_values: BTreeMap::new(),
            page_size,
            beside: false,
        }
    }

    /// A tree that can be vouched for.
    pub fn add_tree(&mut self, name: &str, number: Option<u32>) -> Result<usize, Failure> {
        self.rebuild.create_tree(name).map_err(failed)?;
        self.taken.insert(name.to_string());
        Ok(self.push(name, number))
    }

    /// A tree that cannot.
    pub fn add_lost_tree(&mut self, name: &str, number: Option<u32>) -> usize {
        let name = self.lost_name(name);
        self.push(&name, number)
    }

    fn push(&mut self, name: &str, number: Option<u32>) -> usize {
        if let Some(number) = number {
            self.numbers.insert(number, self.trees.len());
        }
        self.trees.push(OutTree {
            name: name.to_string(),
            is_dropped: false,
            doubt: None,
            put: 0,
        });
        self.trees.len() - 1
    }

    pub fn name(&self, tree: usize) -> String {
        self.trees
            .get(tree)
            .map_or(String::new(), |tree| tree.name.clone())
    }

    /// Whether nobody can vouch for what is in a tree.
    pub fn is_doubtful(&self, tree: usize) -> bool {
        self.trees
            .get(tree)
            .is_some_and(|tree| tree.doubt.is_some())
    }

    /// A name is no longer one of a certain tree, or is one now.
    pub fn retake(&mut self, old: Option<&str>, new: Option<&str>) {
        if let Some(old) = old {
            self.taken.remove(old);
        }
        if let Some(new) = new {
            self.taken.insert(new.to_string());
        }
    }

    /// The name under `lost+found/` for what may belong to a tree of this name.
    pub fn lost_name(&self, name: &str) -> String {
        let mut full = match name.starts_with(LOST_AND_FOUND) {
            true => name.to_string(),
            false => format!("{LOST_AND_FOUND}{name}"),
        };
        loop {
            while full.len() > LONGEST_NAME {
                full.pop();
            }
            if !self.taken.contains(&full) {
                return full;
            }
            // A user's own tree has that name.
            while full.len() >= LONGEST_NAME {
                full.pop();
            }
            full.push('~');
            if full.len() >= LONGEST_NAME {
                full = format!("{LOST_AND_FOUND}~{}", self.taken.len());
            }
        }
    }

    /// Puts an uncertain entry.
    pub fn put_lost(
        &mut self,
        name: &str,
        key: &[u8],
        value: &[u8],
        why: &str,
    ) -> Result<(), Failure> {
        let name = self.lost_name(name);
        // What is there already is newer, or of another time: neither is thrown away.
        let has = self.rebuild.get(&name, key).map_err(failed)?;
        if has.is_none() {
            self.rebuild.put(&name, key, value).map_err(failed)?;
            self.losses.doubt(&name, 1, why);
        }
        Ok(())
    }

    /// Puts an uncertain entry where there is another value of its key: one of them may be of another tree.
    fn put_beside(
        &mut self,
        tree: usize,
        name: &str,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Failure> {
        let doubt = self.trees.get(tree).and_then(|tree| tree.doubt);
        for number in 2..=VALUES {
            let name = self.lost_name(&format!("{name}~{number}"));
            match self.rebuild.get(&name, key).map_err(failed)? {
                Some(there) if there == value => return Ok(()),
                Some(_) => {}
                None => {
                    self.rebuild.put(&name, key, value).map_err(failed)?;
                    self.losses.doubt(&name, 1, doubt.unwrap_or_default());
                    return Ok(());
                }
            }
        }
        self.losses.lose(Loss {
            kind: "entry",
            tree: Some(name.to_string()),
            key: Some(show::key(name, key, 256)),
            entries: Some(1),
            what: format!("there are {VALUES} other values of this key that it may have"),
            ..Loss::default()
        });
        Ok(())
    }

    /// A key got another value, or none.
    pub fn overwritten(&mut self, tree: usize, key: &[u8]) {
        self.lost_values.remove(&(tree, key.to_vec()));
    }

    /// The same for a range.
    pub fn overwritten_range(&mut self, tree: usize, is_within: impl Fn(&[u8]) -> bool) {
        self.lost_values
            .retain(|(of, key), _| *of != tree || !is_within(key));
    }

    /// A value is gone.
    pub fn lose_value(&mut self, tree: usize, key: &[u8], run: Run, why: String) {
        self.lost_values
            .insert((tree, key.to_vec()), LostValue { run, why });
    }

    /// Tells what is under `lost+found/`: what was put, as some of it can be there twice.
    pub fn tell_doubts(&mut self) {
        for tree in &self.trees {
            if let Some(why) = tree.doubt.filter(|_| tree.put > 0) {
                self.losses.doubt(&tree.name, tree.put, why);
            }
        }
    }

    /// Tells what was lost of values, now that it is known which of them count.
    pub fn tell_values(&mut self) {
        for ((tree, key), lost) in std::mem::take(&mut self.lost_values) {
            let Some(tree) = self.trees.get(tree).filter(|tree| !tree.is_dropped) else {
                continue;
            };
            self.losses.lose(Loss {
                kind: "value",
                tree: Some(tree.name.clone()),
                page: Some(lost.run.first),
                pages: Some(lost.run.pages(self.page_size)),
                key: Some(show::key(&tree.name, &key, 256)),
                entries: Some(1),
                what: lost.why,
                ..Loss::default()
            });
        }
    }
}

impl Sink for Output {
    fn entry(&mut self, tree: usize, key: &[u8], value: Value<'_>) -> Result<(), Failure> {
        let name = self.name(tree);
        match value {
            Value::Whole(value) => {
                if self.beside
                    && let Some(there) = self.rebuild.get(&name, key).map_err(failed)?
                {
                    return match there == value {
                        true => Ok(()),
                        false => self.put_beside(tree, &name, key, value),
                    };
                }
                match self.rebuild.put(&name, key, value) {
                    Ok(was_there) => {
                        if let Some(tree) = self.trees.get_mut(tree) {
                            tree.put = tree.put.saturating_add(u64::from(!was_there));
                        }
                        Ok(())
                    }
                    // Forged: the engine writes no such keys.
                    Err(error) if error.is_misuse() => {
                        self.losses.lose(Loss {
                            kind: "entry",
                            tree: Some(name.clone()),
                            key: Some(show::brief(key, 64)),
                            entries: Some(1),
                            what: error.to_string(),
                            ..Loss::default()
                        });
                        Ok(())
                    }
                    Err(error) => Err(failed(error)),
                }
            }
            Value::Lost(run, why) => {
                self.lose_value(tree, key, run, why);
                Ok(())
            }
            Value::OutOfPlace(value) => {
                self.put_lost(&name, key, value, "a key out of its place in the tree")
            }
        }
    }
}
