//! The tree of small facts.

use super::{Check, META};

/// Every fact has the length that it has to have.
pub(super) fn check(check: &mut Check<'_>) {
    let mut wrong = Vec::new();
    check.trees.for_each(META, |entry| {
        let wanted = match entry.key {
            b"clock" | b"blob" => 8,
            b"collection" => 4,
            _ => return,
        };
        let Some(value) = check.trees.value(entry) else {
            return;
        };
        if value.len() != wanted {
            wrong.push((entry.key.to_vec(), wanted, value.len()));
        }
    });
    for (key, wanted, found) in wrong {
        let what = "a fact about the database is not a number";
        let bytes = |length: usize| format!("{length} bytes");
        check.add("key", what, bytes(wanted), bytes(found), META, &key);
    }
}
