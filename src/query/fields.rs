//! What a filter's closure asks of a document; and of nothing yet, while it is being planned.

use std::cell::{Cell, OnceCell, RefCell};
use std::ops::{RangeBounds, RangeInclusive};
use std::sync::Arc;

use regex::Regex;

use super::decision::Recorder;
use super::filter::{Node, Pattern, Test, elements_in};
use crate::value::{Comparand, Fault, FieldNames, MAX_DEPTH, Operand, Path, Raw, Value, decode_id};

/// The fields of a document, as a filter's closure sees them.
///
/// Every method asks one question about one field, by its name or by a path of names with dots
/// between, and gives the answer. Combine answers with `&&`, `||`, `!` and everything else of the
/// language: the closure is run against answers of the planner's own to find out which indexes help
/// (see [`Query::filter`](crate::Query::filter)). It has to give the same answer each time.
///
/// The field `id` of every document is its id, whether it was stored with one or was given one, and is
/// found without an index.
#[derive(Debug)]
pub struct Fields<'r> {
    mode: Mode<'r>,
}

#[derive(Debug)]
enum Mode<'r> {
    Row {
        /// Where the field `id` is that of the document. A condition of an index sees what is stored.
        id: Option<Id<'r>>,
        document: &'r [u8],
        reader: &'r RowReader,
        fault: &'r Cell<Option<Fault>>,
    },
    Plan(&'r Recorder),
}

/// The field that every document has: its id.
pub(crate) const ID: &str = "id";

/// The id that the key of a document stands for.
fn id_of(key: &[u8]) -> Result<Value, Fault> {
    decode_id(key).ok_or(Fault("the key of a document is not an id"))
}

/// The id of the document that is looked at, decoded when it is first asked for.
#[derive(Debug)]
struct Id<'r> {
    key: &'r [u8],
    value: OnceCell<Result<Value, Fault>>,
}

impl<'r> Id<'r> {
    fn new(key: &'r [u8]) -> Self {
        Id {
            key,
            value: OnceCell::new(),
        }
    }

    fn get(&self) -> Result<&Value, Fault> {
        let value = self.value.get_or_init(|| id_of(self.key));
        value.as_ref().map_err(|fault| *fault)
    }
}

/// Met only by filters that were not planned: the planner looks at patterns itself.
pub(crate) const BAD_PATTERN: Fault = Fault("the pattern of a filter is not a regular expression");

/// What is worth keeping from one document to the next: where fields are, compiled patterns.
#[derive(Debug)]
pub(crate) struct RowReader {
    names: Arc<FieldNames>,
    paths: RefCell<Vec<(Box<str>, Path)>>,
    patterns: RefCell<Vec<(Box<str>, Option<Regex>)>>,
}

impl RowReader {
    pub(crate) fn new(names: Arc<FieldNames>) -> Self {
        RowReader {
            names,
            paths: RefCell::default(),
            patterns: RefCell::default(),
        }
    }

    /// Whether a document passes a filter, in which `id` is what the `key` stands for.
    pub(crate) fn matches(
        &self,
        key: Option<&[u8]>,
        document: &[u8],
        filter: impl FnOnce(&Fields<'_>) -> bool,
    ) -> Result<bool, Fault> {
        let fault = Cell::new(None);
        let holds = filter(&Fields {
            mode: Mode::Row {
                id: key.map(Id::new),
                document,
                reader: self,
                fault: &fault,
            },
        });
        fault.get().map_or(Ok(holds), Err)
    }

    /// The value of a field.
    pub(crate) fn find<'b>(&self, document: &'b [u8], field: &str) -> Result<Raw<'b>, Fault> {
        // Filters have few fields: looking through them costs less than hashing.
        let known = self.paths.borrow();
        if let Some((_, path)) = known.iter().find(|(name, _)| **name == *field) {
            return path.find(document);
        }
        drop(known);
        let path = Path::new(field, &self.names);
        let found = path.find(document);
        self.paths.borrow_mut().push((field.into(), path));
        found
    }

    /// The names by which a field is found.
    pub(crate) fn names(&self, document: &[u8], field: &str) -> Result<Vec<Arc<str>>, Fault> {
        Path::new(field, &self.names).names(document)
    }

    fn is_match(&self, pattern: &str, text: &str) -> Result<bool, Fault> {
        // Used where it is kept: a copy of it would begin without what it has learnt.
        let answer = |regex: &Option<Regex>| regex.as_ref().map(|regex| regex.is_match(text));
        let known = self.patterns.borrow();
        if let Some((_, regex)) = known.iter().find(|(known, _)| **known == *pattern) {
            return answer(regex).ok_or(BAD_PATTERN);
        }
        drop(known);
        let regex = Regex::new(pattern).ok();
        let holds = answer(&regex);
        self.patterns.borrow_mut().push((pattern.into(), regex));
        holds.ok_or(BAD_PATTERN)
    }
}

impl<'r> Fields<'r> {
    pub(crate) fn planned(recorder: &'r Recorder) -> Self {
        Fields {
            mode: Mode::Plan(recorder),
        }
    }

    /// Answers from the document, or from the planner's script.
    fn ask(
        &self,
        field: &str,
        test: impl FnOnce() -> Test,
        answer: impl FnOnce(&RowReader, Raw<'_>) -> Result<bool, Fault>,
    ) -> bool {
        match &self.mode {
            Mode::Plan(recorder) => recorder.ask(field, test()),
            Mode::Row {
                id,
                document,
                reader,
                fault,
            } => {
                let answer = match id.as_ref().filter(|_| field == ID) {
                    Some(id) => id.get().and_then(|id| {
                        let raw = id.operand().raw();
                        answer(reader, raw.unwrap_or(Raw::Missing))
                    }),
                    None => { reader.find(document, field) }.and_then(|raw| answer(reader, raw)),
                };
                answer.unwrap_or_else(|found| {
                    fault.set(Some(found));
                    false
                })
            }
        }
    }

    fn ordered(
        &self,
        field: &str,
        value: impl Comparand,
        test: fn(Value) -> Test,
        holds: fn(std::cmp::Ordering) -> bool,
    ) -> bool {
        let operand = value.operand();
        self.ask(
            field,
            || test(operand.to_value()),
            |_, raw| compares(&raw, operand, holds),
        )
    }

    /// The field has this value. Null stands for missing fields as well.
    pub fn eq(&self, field: &str, value: impl Comparand) -> bool {
        let operand = value.operand();
        self.ask(
            field,
            || Test::Eq(operand.to_value()),
            |_, raw| equals(&raw, operand),
        )
    }

    /// The field does not have this value.
    pub fn ne(&self, field: &str, value: impl Comparand) -> bool {
        !self.eq(field, value)
    }

    /// The field is of the value's type (numbers are one type) and above it.
    pub fn gt(&self, field: &str, value: impl Comparand) -> bool {
        self.ordered(field, value, Test::Gt, |order| order.is_gt())
    }

    /// The field is of the value's type and not below it.
    pub fn gte(&self, field: &str, value: impl Comparand) -> bool {
        self.ordered(field, value, Test::Gte, |order| order.is_ge())
    }

    /// The field is of the value's type and below it.
    pub fn lt(&self, field: &str, value: impl Comparand) -> bool {
        self.ordered(field, value, Test::Lt, |order| order.is_lt())
    }

    /// The field is of the value's type and not above it.
    pub fn lte(&self, field: &str, value: impl Comparand) -> bool {
        self.ordered(field, value, Test::Lte, |order| order.is_le())
    }

    /// The field is of the values' type, and from the first to the second, both included.
    pub fn between(&self, field: &str, low: impl Comparand, high: impl Comparand) -> bool {
        let (low, high) = (low.operand(), high.operand());
        self.ask(
            field,
            || Test::Between(low.to_value(), high.to_value()),
            |_, raw| is_between(&raw, low, high),
        )
    }

    /// The field has one of these values.
    pub fn is_in<C: Comparand>(&self, field: &str, values: impl AsRef<[C]>) -> bool {
        let values = values.as_ref();
        let all = || values.iter().map(|value| value.operand());
        self.ask(
            field,
            || Test::one_of(all().map(Operand::to_value).collect()),
            |_, raw| any_equals(&raw, all()),
        )
    }

    /// The field is an array with this element, or a string with this part.
    pub fn contains(&self, field: &str, value: impl Comparand) -> bool {
        let operand = value.operand();
        self.ask(
            field,
            || Test::Contains(operand.to_value()),
            |_, raw| contains(&raw, operand),
        )
    }

    /// The field is a string that begins so.
    pub fn starts_with(&self, field: &str, prefix: &str) -> bool {
        self.ask(
            field,
            || Test::StartsWith(prefix.to_string()),
            |_, raw| Ok(text(&raw).is_some_and(|text| text.starts_with(prefix))),
        )
    }

    /// The field is a string that ends so.
    pub fn ends_with(&self, field: &str, suffix: &str) -> bool {
        self.ask(
            field,
            || Test::EndsWith(suffix.to_string()),
            |_, raw| Ok(text(&raw).is_some_and(|text| text.ends_with(suffix))),
        )
    }

    /// The field is a string in which the regular expression is found. One that is not well-formed
    /// makes the query fail with [`Error::BadQuery`](crate::Error::BadQuery).
    pub fn matches(&self, field: &str, pattern: &str) -> bool {
        self.ask(
            field,
            || Test::Matches(Pattern::new(pattern)),
            |reader, raw| text(&raw).map_or(Ok(false), |text| reader.is_match(pattern, text)),
        )
    }

    /// The document has the field, null perhaps.
    pub fn exists(&self, field: &str) -> bool {
        let test = || Test::Exists;
        self.ask(field, test, |_, raw| Ok(!matches!(raw, Raw::Missing)))
    }

    /// The field is null or missing.
    pub fn is_null(&self, field: &str) -> bool {
        let test = || Test::IsNull;
        self.ask(field, test, |_, raw| {
            Ok(matches!(raw, Raw::Missing | Raw::Null))
        })
    }

    /// The field is an array with so many elements.
    pub fn length(&self, field: &str, elements: impl RangeBounds<u64>) -> bool {
        let Some((low, high)) = elements_in(elements).map(RangeInclusive::into_inner) else {
            return false;
        };
        self.ask(
            field,
            || Test::Length(low..=high),
            |_, raw| has_length(&raw, low, high),
        )
    }

    /// The value of a field itself, null if it is missing, for conditions that the other methods
    /// cannot express. A filter that uses it looks at every document.
    pub fn value(&self, field: &str) -> Value {
        match &self.mode {
            Mode::Plan(recorder) => {
                recorder.gave_value();
                Value::Null
            }
            Mode::Row {
                id,
                document,
                reader,
                fault,
            } => {
                let value = match id.as_ref().filter(|_| field == ID) {
                    Some(id) => id.get().cloned(),
                    None => {
                        { reader.find(document, field) }.and_then(|raw| raw.to_value(MAX_DEPTH))
                    }
                };
                value.unwrap_or_else(|found| {
                    fault.set(Some(found));
                    Value::Null
                })
            }
        }
    }

    fn test(&self, field: &str, test: &Test) -> bool {
        self.ask(field, || test.clone(), |_, raw| test.holds(&raw))
    }
}

impl Node {
    /// Whether a document matches, asking as little as a closure would.
    pub(crate) fn holds(&self, fields: &Fields<'_>) -> bool {
        match self {
            Node::Test(field, test) => fields.test(field, test),
            Node::Not(node) => !node.holds(fields),
            Node::And(nodes) => nodes.iter().all(|node| node.holds(fields)),
            Node::Or(nodes) => nodes.iter().any(|node| node.holds(fields)),
        }
    }
}

impl Test {
    fn holds(&self, raw: &Raw<'_>) -> Result<bool, Fault> {
        match self {
            Test::Eq(value) => equals(raw, value.operand()),
            Test::Gt(value) => compares(raw, value.operand(), |order| order.is_gt()),
            Test::Gte(value) => compares(raw, value.operand(), |order| order.is_ge()),
            Test::Lt(value) => compares(raw, value.operand(), |order| order.is_lt()),
            Test::Lte(value) => compares(raw, value.operand(), |order| order.is_le()),
            Test::Between(low, high) => is_between(raw, low.operand(), high.operand()),
            Test::In(values) => is_among(raw, values),
            Test::Contains(value) => contains(raw, value.operand()),
            Test::StartsWith(prefix) => Ok(text(raw).is_some_and(|t| t.starts_with(prefix))),
            Test::EndsWith(suffix) => Ok(text(raw).is_some_and(|t| t.ends_with(suffix))),
            Test::Matches(pattern) => {
                let regex = pattern.regex().as_ref().ok();
                Ok(text(raw).is_some_and(|t| regex.is_some_and(|regex| regex.is_match(t))))
            }
            Test::Exists => Ok(!matches!(raw, Raw::Missing)),
            Test::IsNull => Ok(matches!(raw, Raw::Missing | Raw::Null)),
            Test::Length(range) => has_length(raw, *range.start(), *range.end()),
        }
    }
}

fn text<'b>(raw: &Raw<'b>) -> Option<&'b str> {
    match raw {
        Raw::String(text) => Some(text),
        _ => None,
    }
}

fn equals(raw: &Raw<'_>, operand: Operand<'_>) -> Result<bool, Fault> {
    match (raw, operand) {
        (Raw::Missing, Operand::Null) => Ok(true),
        _ => raw.compare(operand).map(|order| order.is_eq()),
    }
}

fn any_equals<'v>(
    raw: &Raw<'_>,
    operands: impl Iterator<Item = Operand<'v>>,
) -> Result<bool, Fault> {
    for operand in operands {
        if equals(raw, operand)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether it is one of values that are in order.
fn is_among(raw: &Raw<'_>, values: &[Value]) -> Result<bool, Fault> {
    // What is missing counts as null, which is before all others.
    let raw = match raw {
        Raw::Missing => &Raw::Null,
        raw => raw,
    };
    let mut fault = None;
    let found = values.binary_search_by(|value| match raw.compare(value.operand()) {
        Ok(order) => order.reverse(),
        Err(found) => {
            fault = Some(found);
            std::cmp::Ordering::Equal
        }
    });
    fault.map_or(Ok(found.is_ok()), Err)
}

fn compares(
    raw: &Raw<'_>,
    operand: Operand<'_>,
    holds: fn(std::cmp::Ordering) -> bool,
) -> Result<bool, Fault> {
    Ok(operand.is_of_type(raw) && holds(raw.compare(operand)?))
}

fn is_between(raw: &Raw<'_>, low: Operand<'_>, high: Operand<'_>) -> Result<bool, Fault> {
    Ok(compares(raw, low, |order| order.is_ge())? && compares(raw, high, |order| order.is_le())?)
}

fn contains(raw: &Raw<'_>, operand: Operand<'_>) -> Result<bool, Fault> {
    if let (Raw::String(text), Operand::String(part)) = (raw, operand) {
        return Ok(text.contains(part));
    }
    let mut elements = raw.elements()?;
    while let Some(element) = elements.next()? {
        if equals(&element, operand)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_length(raw: &Raw<'_>, low: u64, high: u64) -> Result<bool, Fault> {
    let is_array = matches!(raw, Raw::Array(_));
    Ok(is_array && (low..=high).contains(&raw.elements()?.left()))
}
