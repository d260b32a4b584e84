//! What each engine is asked to do.

use crate::documents::{Row, Rows};

pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// A question, with its parameters.
#[derive(Debug, Clone)]
pub enum Question {
    /// Documents of a city.
    City(String),
    /// Documents made between two moments, both included.
    Created(i64, i64),
    /// How many were made between two moments.
    CountCreated(i64, i64),
    /// How many people are of an age between these.
    CountAges(i64, i64),
    /// The latest documents.
    Latest(u64),
    /// The earliest documents of people at least so old.
    EarliestOfAge(i64, u64),
    /// The latest documents of a city.
    LatestOfCity(String, u64),
    /// How many documents have a score above, and a word in the note. No index helps.
    CountScore(f64, &'static str),
    /// The same, the documents.
    Score(f64, &'static str),
    /// Documents by their ids, one call for each.
    Ids(Vec<i64>),
}

/// A look at all documents, which no index helps. Other engines would need a program of their own for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survey {
    /// The documents with the highest scores, so many.
    Best(u64),
    /// All names, in the order of the scores.
    ByScore,
    /// For each city, in order: how many documents there are, and the latest moment.
    Cities,
    /// The same for each age.
    Ages,
}

/// What becomes of the documents that were made between two moments, both included, in one durable transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They are of people a year older, which an index has to know.
    Older,
    /// They have half a point more. No index has it.
    Better,
    Gone,
}

/// A name, of a document or of a group, and two numbers: the id and nothing, or the count and the moment.
pub type Finding = (String, i64, i64);

/// What came back. Documents as they are when the caller can use them.
pub enum Answer {
    Count(u64),
    Documents(Box<dyn Documents>),
}

/// Documents that came back, to be compared: their ids, and their content in one form for all.
pub trait Documents {
    fn contents(&self) -> Vec<(i64, serde_json::Value)>;
}

pub trait Engine {
    fn name(&self) -> &'static str;
    /// Whether a wrong answer is noted, instead of ending everything.
    fn is_other(&self) -> bool {
        false
    }
    /// Stores documents in one transaction, durably.
    fn insert(&mut self, rows: &mut Rows) -> Outcome<()>;
    /// Stores one, durably.
    fn insert_one(&mut self, row: Row) -> Outcome<()>;
    /// Brings everything from the log to its place.
    fn settle(&mut self) -> Outcome<()>;
    /// What has to be done once after a load.
    fn analyze(&mut self) -> Outcome<()>;
    fn reopen(&mut self) -> Outcome<()>;
    fn ask(&mut self, question: &Question) -> Outcome<Answer>;
    /// Looks at all documents. Gives what was found, in order; `None` where that takes a program of its own.
    fn survey(&mut self, _survey: Survey) -> Outcome<Option<Vec<Finding>>> {
        Ok(None)
    }
    /// Makes an index of the scores; `None` where indexes are made with the file alone.
    fn make_index(&mut self) -> Outcome<Option<()>> {
        Ok(None)
    }
    fn drop_index(&mut self) -> Outcome<()> {
        Ok(())
    }
    /// Changes all documents between two moments, and says how many; `None` where that takes a program of its own.
    fn change(&mut self, _change: Change, _low_ms: i64, _high_ms: i64) -> Outcome<Option<u64>> {
        Ok(None)
    }
    /// How the question is answered.
    fn plan(&mut self, question: &Question) -> Outcome<String>;
    fn bytes(&self) -> Outcome<u64>;
}
