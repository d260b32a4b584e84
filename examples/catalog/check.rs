//! Answers and what they should be.

use std::error::Error;
use std::fmt::Debug;
use std::time::Instant;

use aurora::{Document, Query};

use super::source::Emoji;

#[derive(Debug, Default)]
pub struct Checks {
    pub made: usize,
    pub differences: Vec<String>,
}

/// A value as text that is not too long.
fn brief(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

pub fn ids(documents: &[Document]) -> Vec<String> {
    documents.iter().map(|one| one.id.to_string()).collect()
}

/// The ids of those that pass, in the order of ids: the order of a query without `order_by`.
pub fn expected(documents: &[Emoji], passes: impl Fn(&Emoji) -> bool) -> Vec<String> {
    let passing = documents.iter().filter(|one| passes(one));
    let mut ids: Vec<String> = passing.map(|one| one.id.clone()).collect();
    ids.sort();
    ids
}

impl Checks {
    /// Notes a difference, if there is one.
    pub fn same<T: PartialEq + Debug>(&mut self, what: &str, found: T, expected: T) {
        self.made += 1;
        if found != expected {
            let (found, expected) = (brief(&found), brief(&expected));
            self.differences
                .push(format!("{what}: found {found}, expected {expected}"));
        }
    }

    /// Runs a query, prints how it was answered, and compares its rows.
    pub fn query<'q>(
        &mut self,
        what: &str,
        query: impl Fn() -> Query<'q>,
        expected: Vec<String>,
    ) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let found = query().collect().wait()?;
        let took = start.elapsed();
        let plan = query().explain().wait()?.to_string();
        println!("\n{what}: {} rows in {took:?}", found.len());
        plan.lines().for_each(|line| println!("    {line}"));
        if let Some(first) = found.first() {
            let text = |field: &str| {
                first
                    .get(field)
                    .map(ToString::to_string)
                    .unwrap_or_default()
            };
            println!("    first: {} {}", text("emoji"), text("label"));
        }
        let count = query().count().wait()?;
        self.same(&format!("{what}, counted"), count, expected.len() as u64);
        self.same(what, ids(&found), expected);
        Ok(())
    }
}
