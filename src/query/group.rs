//! Counts, sums, averages, least and greatest values, by group.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fields::ID;
use super::{Decoder, Explanation, Query, Work};
use crate::Result;
use crate::collection::documents;
use crate::txn::write::WriteTransaction;
use crate::value::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Count,
    Sum,
    Average,
    Least,
    Greatest,
}

/// A grouped query: says what is worked out for each group. A field that no document has counts as null; if it should be
/// there, [`explain`](Self::explain) tells how it is spelled.
///
/// ```
/// # use aurora::{Aurora, Schema, Value};
/// # let db = Aurora::in_memory()?;
/// # db.new_collection("books", Schema::schemaless())?;
/// # for (author, price) in [("A", 3), ("B", 4), ("A", 5)] {
/// #     db.insert_into("books", [("author", Value::from(author)), ("price", Value::from(price))])?;
/// # }
/// let by_author = db.query("books")
///     .group_by("author")
///     .count()
///     .sum("price")
///     .collect()
///     .wait()?;
/// assert_eq!(by_author[0].key, Value::from("A"));
/// assert_eq!(by_author[0].results, [Value::from(2), Value::from(8)]);
/// # Ok::<(), aurora::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing happens until the groups are collected"]
pub struct Grouped<'q> {
    query: Query<'q>,
    field: Option<String>,
    measures: Vec<(Measure, String)>,
}

/// A group: the value that its rows have in common, and what was asked for, in that order.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Group {
    /// The value of the field by which rows are grouped; null also for rows without it.
    pub key: Value,
    /// The results.
    pub results: Vec<Value>,
}

impl<'q> Grouped<'q> {
    pub(super) fn new(query: Query<'q>, field: Option<String>) -> Self {
        Grouped {
            query,
            field,
            measures: Vec::new(),
        }
    }

    fn measure(mut self, measure: Measure, field: impl Into<String>) -> Self {
        self.measures.push((measure, field.into()));
        self
    }

    /// How many rows there are.
    pub fn count(self) -> Self {
        self.measure(Measure::Count, "")
    }

    /// The sum of the numbers in a field: whole if all of them are and it fits into 64 bits.
    pub fn sum(self, field: impl Into<String>) -> Self {
        self.measure(Measure::Sum, field)
    }

    /// The average of the numbers in a field; null if there are none.
    pub fn avg(self, field: impl Into<String>) -> Self {
        self.measure(Measure::Average, field)
    }

    /// The least value of a field that is not null; null if there is none.
    pub fn min(self, field: impl Into<String>) -> Self {
        self.measure(Measure::Least, field)
    }

    /// The greatest value of a field that is not null; null if there is none.
    pub fn max(self, field: impl Into<String>) -> Self {
        self.measure(Measure::Greatest, field)
    }

    /// How the rows are found, and which of the fields that are grouped by, or that something is worked out of, no document
    /// can have: [`Query::explain`].
    pub fn explain(self) -> Work<'q, Explanation> {
        let Grouped {
            mut query,
            field,
            measures,
        } = self;
        let measured = measures.into_iter();
        let measured = measured.filter(|(measure, _)| *measure != Measure::Count);
        let fields = field.into_iter().chain(measured.map(|(_, field)| field));
        query.select.get_or_insert_default().extend(fields);
        query.explain()
    }

    /// The groups, in the order of their keys. Holds one entry for each group in memory.
    pub fn collect(self) -> Work<'q, Vec<Group>> {
        let (query, wanted) = self.parts();
        let wanted = Arc::new(wanted);
        let of_rows = wanted.clone();
        query.run(
            move |groups, decoder, id, document| of_rows.take(groups, decoder, id, document),
            move |groups, _| Ok(wanted.finish(groups)),
        )
    }

    /// The groups as a transaction sees them, its own changes included.
    pub fn collect_in(self, tx: &WriteTransaction) -> Result<Vec<Group>> {
        let (query, wanted) = self.parts();
        let mut groups = Groups::default();
        query.run_decoded_in(tx, |decoder, id, document| {
            wanted.take(&mut groups, decoder, id, document)
        })?;
        Ok(wanted.finish(groups))
    }

    fn parts(self) -> (Query<'q>, Wanted) {
        let (field, measures) = (self.field, self.measures);
        (self.query, Wanted { field, measures })
    }
}

/// What is to be worked out.
struct Wanted {
    field: Option<String>,
    measures: Vec<(Measure, String)>,
}

impl Wanted {
    /// Adds a row to its group.
    fn take(
        &self,
        groups: &mut Groups,
        decoder: &Decoder<'_>,
        id: &[u8],
        document: &[u8],
    ) -> Result<()> {
        let key = match &self.field {
            Some(field) => value_of(decoder, id, document, field)?,
            None => Value::Null,
        };
        let tallies = groups.tallies.entry(key).or_insert_with(|| self.no_rows());
        for ((measure, field), tally) in self.measures.iter().zip(tallies) {
            tally.rows += 1;
            if *measure != Measure::Count {
                tally.add(value_of(decoder, id, document, field)?);
            }
        }
        Ok(())
    }

    fn no_rows(&self) -> Vec<Tally> {
        self.measures.iter().map(|_| Tally::default()).collect()
    }

    fn finish(&self, mut groups: Groups) -> Vec<Group> {
        if self.field.is_none() && groups.tallies.is_empty() {
            groups.tallies.insert(Value::Null, self.no_rows());
        }
        let groups = groups.tallies.into_iter().map(|(key, tallies)| Group {
            key,
            results: { self.measures.iter().zip(&tallies) }
                .map(|((measure, _), tally)| tally.result(*measure))
                .collect(),
        });
        groups.collect()
    }
}

/// What is gathered on the way.
#[derive(Default)]
struct Groups {
    tallies: BTreeMap<Value, Vec<Tally>>,
}

/// The value of a field; null if there is none.
fn value_of(decoder: &Decoder<'_>, id: &[u8], document: &[u8], field: &str) -> Result<Value> {
    if field == ID {
        return documents::id_of(decoder.meta, id).map(|id| id.value().clone());
    }
    Ok(decoder.value(document, field)?.unwrap_or_default())
}

/// What is kept of the values of a field.
#[derive(Debug, Default)]
struct Tally {
    rows: i64,
    numbers: i64,
    whole: i128,
    /// The part of the sum that is not whole, or the flag that there is one.
    fraction: Option<f64>,
    least: Option<Value>,
    greatest: Option<Value>,
}

impl Tally {
    fn add(&mut self, value: Value) {
        match value {
            Value::Null => return,
            Value::Int(number) => {
                self.numbers += 1;
                // 2^63 rows of 2^63 fit.
                self.whole += i128::from(number);
            }
            Value::Float(number) => {
                self.numbers += 1;
                *self.fraction.get_or_insert(0.0) += number;
            }
            _ => {}
        }
        if self.least.as_ref().is_none_or(|least| value < *least) {
            self.least = Some(value.clone());
        }
        if self
            .greatest
            .as_ref()
            .is_none_or(|greatest| value > *greatest)
        {
            self.greatest = Some(value);
        }
    }

    fn sum(&self) -> f64 {
        self.whole as f64 + self.fraction.unwrap_or(0.0)
    }

    fn result(&self, measure: Measure) -> Value {
        match measure {
            Measure::Count => Value::Int(self.rows),
            Measure::Sum => match (self.fraction, i64::try_from(self.whole)) {
                (None, Ok(whole)) => Value::Int(whole),
                _ => Value::Float(self.sum()),
            },
            Measure::Average if self.numbers == 0 => Value::Null,
            Measure::Average => Value::Float(self.sum() / self.numbers as f64),
            Measure::Least => self.least.clone().unwrap_or_default(),
            Measure::Greatest => self.greatest.clone().unwrap_or_default(),
        }
    }
}
