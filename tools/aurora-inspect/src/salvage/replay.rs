//! Commits of the log, applied to the new file.
//!
//! # Invariants
//!
//! 1. Only commits of the unbroken chain behind the state change trees that can be vouched for.
//! 2. An operation that no engine writes changes nothing, and is told.

use std::ops::Bound;

use aurora::anatomy::{COMMIT, Operation, operations};

use super::gather::Gather;
use super::losses::Loss;
use super::output::{Output, failed};
use super::records::Found;
use super::state::{Commits, State};
use crate::{Failure, show};

/// What was applied.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Replayed {
    /// Commits of the log.
    pub commits: u64,
    /// Their changes.
    pub operations: u64,
    /// The version of the last one.
    pub version: u64,
}

struct Replay<'r, 's> {
    gather: &'r mut Gather<'s>,
    output: &'r mut Output,
    /// Trees may be unknown.
    may_miss: bool,
    done: Replayed,
}

/// Applies the chain, and keeps what is behind a hole of it in `lost+found`.
pub(crate) fn replay(
    state: &State,
    commits: &Commits,
    gather: &mut Gather<'_>,
    output: &mut Output,
    may_miss: bool,
) -> Result<Replayed, Failure> {
    let source = gather.source;
    let mut replay = Replay {
        gather,
        output,
        may_miss,
        done: Replayed {
            version: state.version,
            ..Replayed::default()
        },
    };
    for found in commits.chain.iter().filter(|f| f.record.kind == COMMIT) {
        let payload = state.log.payload(source, found).unwrap_or_default();
        replay.commit(found, &payload)?;
    }
    if let Some(lost) = &commits.lost {
        replay.output.losses.lose(Loss {
            kind: "commits",
            entries: None,
            what: format!("{lost}; {} later ones are intact", commits.later.len()),
            ..Loss::default()
        });
        for found in &commits.later {
            let payload = state.log.payload(source, found).unwrap_or_default();
            replay.set_aside(found, &payload)?;
        }
    }
    Ok(replay.done)
}

impl Replay<'_, '_> {
    fn commit(&mut self, found: &Found, payload: &[u8]) -> Result<(), Failure> {
        self.done.commits += 1;
        self.done.version = found.record.version;
        for operation in operations(payload) {
            let Some(operation) = operation else {
                self.refuse(found, "the changes of a commit do not parse");
                break;
            };
            self.done.operations += 1;
            self.apply(found, operation)?;
        }
        Ok(())
    }

    fn refuse(&mut self, found: &Found, what: &str) {
        let record = &found.record;
        let (lsn, version) = (record.lsn, record.version);
        self.output.losses.lose(Loss {
            kind: "record",
            what: format!("{what} (log position {lsn}, version {version})"),
            ..Loss::default()
        });
    }

    fn apply(&mut self, found: &Found, operation: Operation<'_>) -> Result<(), Failure> {
        match operation {
            Operation::Put { tree, key, value } => self.put(found, tree, key, value),
            Operation::PutRun { tree, key, run } => match self.gather.run(&run) {
                Ok(value) => self.put(found, tree, key, &value),
                Err(why) => {
                    let Some((tree, name)) = self.tree(found, tree) else {
                        return Ok(());
                    };
                    // The value before it was replaced.
                    self.output.rebuild.delete(&name, key).map_err(failed)?;
                    self.output.lose_value(tree, key, run, why);
                    Ok(())
                }
            },
            Operation::Delete { tree, key } => {
                let Some((tree, name)) = self.tree(found, tree) else {
                    return Ok(());
                };
                self.output.overwritten(tree, key);
                self.output.rebuild.delete(&name, key).map_err(failed)?;
                Ok(())
            }
            Operation::DeleteRange { tree, lower, upper } => {
                let Some((tree, name)) = self.tree(found, tree) else {
                    return Ok(());
                };
                self.output
                    .overwritten_range(tree, |key| within(key, lower, upper));
                let deleted = self.output.rebuild.delete_range(&name, lower, upper);
                deleted.map(|_| ()).map_err(failed)
            }
            Operation::CreateTree { tree, name } => self.create(found, tree, name),
            Operation::DropTree { tree } => self.drop_tree(found, tree),
            Operation::RenameTree { tree, name } => self.rename(found, tree, name),
        }
    }

    /// The tree of that number. Trees that nobody knows are told once for each change.
    fn tree(&mut self, found: &Found, number: u32) -> Option<(usize, String)> {
        let tree = self.output.numbers.get(&number).copied();
        if tree.is_none() && !self.may_miss {
            self.refuse(
                found,
                &format!("a change of a tree that is not there, number {number}"),
            );
        }
        let tree = tree?;
        Some((tree, self.output.name(tree)))
    }

    fn put(&mut self, found: &Found, number: u32, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let Some((tree, name)) = self.tree(found, number) else {
            if self.may_miss {
                let name = format!("log/tree-{number}");
                let why = "from the log, of a tree whose name is lost";
                self.output.rebuild_put_lost(&name, key, value, why)?;
            }
            return Ok(());
        };
        self.output.overwritten(tree, key);
        match self.output.rebuild.put(&name, key, value) {
            Ok(_) => Ok(()),
            Err(error) if error.is_misuse() => {
                self.refuse(found, &error.to_string());
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn create(&mut self, found: &Found, number: u32, name: &[u8]) -> Result<(), Failure> {
        let text = std::str::from_utf8(name)
            .ok()
            .filter(|n| (1..=255).contains(&n.len()));
        let is_taken = self.output.numbers.contains_key(&number);
        let Some(text) = text.filter(|_| !is_taken) else {
            self.refuse(
                found,
                "a tree cannot be made: its name or its number is taken",
            );
            return Ok(());
        };
        if self.output.rebuild.has(text).map_err(failed)? {
            // The tree that had the name was dropped in a commit that is lost, or this is forged.
            self.output.add_lost_tree(text, Some(number));
            self.refuse(
                found,
                &format!("a tree cannot be made: the name {text:?} is taken"),
            );
            return Ok(());
        }
        self.output.add_tree(text, Some(number)).map(|_| ())
    }

    fn drop_tree(&mut self, found: &Found, number: u32) -> Result<(), Failure> {
        let Some((tree, name)) = self.tree(found, number) else {
            return Ok(());
        };
        self.output.rebuild.drop_tree(&name).map_err(failed)?;
        self.output.numbers.remove(&number);
        self.output.retake(Some(&name), None);
        self.output.overwritten_range(tree, |_| true);
        if let Some(tree) = self.output.trees.get_mut(tree) {
            tree.is_dropped = true;
        }
        Ok(())
    }

    fn rename(&mut self, found: &Found, number: u32, name: &[u8]) -> Result<(), Failure> {
        let Some((tree, old)) = self.tree(found, number) else {
            return Ok(());
        };
        let Ok(name) = std::str::from_utf8(name) else {
            self.refuse(found, "the name of a tree is no text");
            return Ok(());
        };
        match self.output.rebuild.rename_tree(&old, name) {
            Ok(()) => {
                self.output.retake(Some(&old), Some(name));
                if let Some(tree) = self.output.trees.get_mut(tree) {
                    tree.name = name.to_string();
                }
                Ok(())
            }
            Err(error) if error.is_misuse() => {
                self.refuse(found, &error.to_string());
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Keeps the values of a commit behind a hole in the log, away from the trees.
    fn set_aside(&mut self, found: &Found, payload: &[u8]) -> Result<(), Failure> {
        let version = found.record.version;
        let why = "from commits behind a hole in the log";
        for operation in operations(payload) {
            let (tree, key, value) = match operation {
                Some(Operation::Put { tree, key, value }) => (tree, key, value.to_vec()),
                Some(Operation::PutRun { tree, key, run }) => match self.gather.run(&run) {
                    Ok(value) => (tree, key, value),
                    Err(_) => continue,
                },
                Some(_) => continue,
                None => break,
            };
            let known = self
                .output
                .numbers
                .get(&tree)
                .map(|tree| self.output.name(*tree));
            let name = known.unwrap_or_else(|| format!("tree-{tree}"));
            let name = format!("log/{version}/{name}");
            self.output.rebuild_put_lost(&name, key, &value, why)?;
        }
        Ok(())
    }
}

impl Output {
    /// The newest of uncertain values under a name.
    fn rebuild_put_lost(
        &mut self,
        name: &str,
        key: &[u8],
        value: &[u8],
        why: &str,
    ) -> Result<(), Failure> {
        let name = self.lost_name(name);
        match self.rebuild.put(&name, key, value) {
            Ok(was_there) => self.losses.doubt(&name, u64::from(!was_there), why),
            Err(error) if error.is_misuse() => {
                let key = show::brief(key, 64);
                self.losses
                    .repair(format!("a key in the log is no key: {key}: {error}"));
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(())
    }
}

fn within(key: &[u8], lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> bool {
    let above = match lower {
        Bound::Included(low) => key >= low,
        Bound::Excluded(low) => key > low,
        Bound::Unbounded => true,
    };
    above
        && match upper {
            Bound::Included(high) => key <= high,
            Bound::Excluded(high) => key < high,
            Bound::Unbounded => true,
        }
}
