//! Paging by key: a page begins behind the last row of the one before, however many there were.

use std::fmt;
use std::str::FromStr;

use super::execute::Execution;
use super::running::Decoder;
use crate::value::Document;
use crate::{Error, Result};

/// A page of rows. See [`Query::page`](crate::Query::page).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Page {
    /// The rows.
    pub documents: Vec<Document>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Cursor>,
}

/// The rows of a page, while they come.
#[derive(Default)]
pub(super) struct Gathered {
    documents: Vec<Document>,
    /// The last of them, as it is stored.
    last: Option<(Vec<u8>, Vec<u8>)>,
}

impl Gathered {
    pub fn take(&mut self, decoder: &Decoder<'_>, id: &[u8], bytes: &[u8]) -> Result<()> {
        self.documents.push(decoder.document(id, bytes)?);
        self.last = Some((id.to_vec(), bytes.to_vec()));
        Ok(())
    }

    /// A page of so many rows, or of fewer if there were no more.
    pub fn finish(self, rows: u64, execution: &Execution<'_>) -> Result<Page> {
        let is_full = self.documents.len() as u64 == rows;
        let next = match self.last.filter(|_| is_full) {
            Some((id, bytes)) => Some(execution.cursor_behind(&id, &bytes)?),
            None => None,
        };
        Ok(Page {
            documents: self.documents,
            next,
        })
    }
}

/// A place between two rows of an ordered query, to go on from with
/// [`Query::after`](crate::Query::after). As text it can be handed out and taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The order that it belongs to, as text.
    order: String,
    /// The encoded values of the order's fields, one after the other.
    pub(super) values: Vec<u8>,
    pub(super) id: Vec<u8>,
    key: Vec<u8>,
}

/// Names may have commas in them: those are told from the ones between the fields.
fn order_text(order: &[(String, bool)]) -> String {
    let mut text = String::new();
    for (i, (field, up)) in order.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push(if *up { '+' } else { '-' });
        for letter in field.chars() {
            if matches!(letter, ',' | '\\') {
                text.push('\\');
            }
            text.push(letter);
        }
    }
    text
}

impl Cursor {
    pub(super) fn new(
        order: &[(String, bool)],
        values: Vec<u8>,
        id: Vec<u8>,
        key: Vec<u8>,
    ) -> Self {
        Cursor {
            order: order_text(order),
            values,
            id,
            key,
        }
    }

    /// A cursor goes with the order of the query that made it.
    pub(super) fn check(&self, order: &[(String, bool)]) -> Result<()> {
        if self.order == order_text(order) {
            return Ok(());
        }
        Err(Error::BadQuery {
            reason: format!(
                "the cursor is of a query ordered by {:?}, not by {:?}",
                self.order,
                order_text(order)
            ),
        })
    }

    pub(super) fn row_key(&self) -> &Vec<u8> {
        &self.key
    }
}

/// Hexadecimal numbers with dots between.
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [self.order.as_bytes(), &self.values, &self.id, &self.key];
        for (i, part) in parts.into_iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            part.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::BadQuery {
            reason: "the text of the cursor is damaged".to_string(),
        };
        let mut parts = text.split('.').map(|part| unhex(part).ok_or_else(bad));
        let mut next = || parts.next().ok_or_else(bad)?;
        let cursor = Cursor {
            order: String::from_utf8(next()?).map_err(|_| bad())?,
            values: next()?,
            id: next()?,
            key: next()?,
        };
        match parts.next() {
            None => Ok(cursor),
            Some(_) => Err(bad()),
        }
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            let [high, low] = pair else { return None };
            u8::try_from(digit(high)? << 4 | digit(low)?).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_text_and_back() {
        let order = [("year".to_string(), false)];
        let cursor = Cursor::new(&order, vec![0, 255], vec![7], vec![]);
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        assert!(cursor.check(&order).is_ok());
        assert!(cursor.check(&[("year".to_string(), true)]).is_err());
        for bad in ["", "zz", "0", "+0.00.00.00", "00.00.00", "00.00.00.00.00"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
