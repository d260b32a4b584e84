//! Conditions as values: what can be stored with an index, and what the planner reads.

use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::sync::OnceLock;

use regex::Regex;

use crate::value::{MAX_DEPTH, Object, Value};

/// What is asked of one field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Test {
    Eq(Value),
    Gt(Value),
    Gte(Value),
    Lt(Value),
    Lte(Value),
    Between(Value, Value),
    /// In order, each once: made by [`Test::one_of`].
    In(Vec<Value>),
    Contains(Value),
    StartsWith(String),
    EndsWith(String),
    Matches(Pattern),
    Exists,
    IsNull,
    Length(RangeInclusive<u64>),
}

/// What can be stored as a number of elements; no array has more.
const MOST_ELEMENTS: u64 = i64::MAX as u64;

/// The least and the greatest number of elements in a range; `None` if there is none in it.
pub(super) fn elements_in(range: impl RangeBounds<u64>) -> Option<RangeInclusive<u64>> {
    let low = match range.start_bound() {
        Bound::Included(low) => *low,
        Bound::Excluded(low) => low.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let high = match range.end_bound() {
        Bound::Included(high) => *high,
        Bound::Excluded(high) => high.checked_sub(1)?,
        Bound::Unbounded => MOST_ELEMENTS,
    };
    (low <= high).then_some(low.min(MOST_ELEMENTS)..=high.min(MOST_ELEMENTS))
}

/// A regular expression that compares by its text.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    pub text: String,
    /// Made when it is first needed: with the conditions of all its indexes a collection would take seconds to be looked up.
    regex: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        Pattern {
            text: text.to_string(),
            regex: OnceLock::new(),
        }
    }

    pub(crate) fn regex(&self) -> &Result<Regex, String> {
        let make = || Regex::new(&self.text).map_err(|error| error.to_string());
        self.regex.get_or_init(make)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// A condition on documents, as a value.
///
/// Plans are the same as for the closure form ([`Query::filter`](crate::Query::filter)); this one
/// can be built at run time, and stored as the condition of a partial index.
///
/// ```
/// use aurora::Filter;
///
/// let recent = Filter::gt("year", 2020).and(Filter::contains("tags", "science"));
/// let either = recent.or(Filter::starts_with("author", "Le Guin").not());
/// # let _ = either;
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use = "it finds nothing until a query has it"]
pub struct Filter(pub(crate) Node);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Test(String, Test),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
}

macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident => $test:ident;)*) => {
        $($(#[$doc])*
        pub fn $name(field: impl Into<String>, value: impl Into<Value>) -> Self {
            Self::test(field, Test::$test(value.into()))
        })*
    };
}

impl Filter {
    fn test(field: impl Into<String>, test: Test) -> Self {
        Filter(Node::Test(field.into(), test))
    }

    comparisons! {
        /// The field has this value. Null stands for missing fields as well.
        eq => Eq;
        /// The field is of the value's type (numbers are one type) and above it.
        gt => Gt;
        /// The field is of the value's type and not below it.
        gte => Gte;
        /// The field is of the value's type and below it.
        lt => Lt;
        /// The field is of the value's type and not above it.
        lte => Lte;
        /// The field is an array with this element, or a string with this part.
        contains => Contains;
    }

    /// The field does not have this value.
    pub fn ne(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::eq(field, value).not()
    }

    /// The field is of the values' type, and from the first to the second, both included.
    pub fn between(
        field: impl Into<String>,
        low: impl Into<Value>,
        high: impl Into<Value>,
    ) -> Self {
        Self::test(field, Test::Between(low.into(), high.into()))
    }

    /// The field has one of these values.
    pub fn is_in<V: Into<Value>>(
        field: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        Self::test(field, Test::one_of(values))
    }

    /// The field is a string that begins so.
    pub fn starts_with(field: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self::test(field, Test::StartsWith(prefix.into()))
    }

    /// The field is a string that ends so.
    pub fn ends_with(field: impl Into<String>, suffix: impl Into<String>) -> Self {
        Self::test(field, Test::EndsWith(suffix.into()))
    }

    /// The field is a string in which the regular expression is found.
    pub fn matches(field: impl Into<String>, pattern: &str) -> Self {
        Self::test(field, Test::Matches(Pattern::new(pattern)))
    }

    /// The document has the field, null perhaps.
    pub fn exists(field: impl Into<String>) -> Self {
        Self::test(field, Test::Exists)
    }

    /// The field is null or missing.
    pub fn is_null(field: impl Into<String>) -> Self {
        Self::test(field, Test::IsNull)
    }

    /// The field is an array with so many elements.
    pub fn length(field: impl Into<String>, elements: impl RangeBounds<u64>) -> Self {
        const NONE: RangeInclusive<u64> = RangeInclusive::new(1, 0);
        let elements = elements_in(elements).unwrap_or(NONE);
        Self::test(field, Test::Length(elements))
    }

    /// Both hold.
    pub fn and(self, other: Filter) -> Self {
        Filter(match self.0 {
            Node::And(mut nodes) => {
                nodes.push(other.0);
                Node::And(nodes)
            }
            first => Node::And(vec![first, other.0]),
        })
    }

    /// At least one holds.
    pub fn or(self, other: Filter) -> Self {
        Filter(match self.0 {
            Node::Or(mut nodes) => {
                nodes.push(other.0);
                Node::Or(nodes)
            }
            first => Node::Or(vec![first, other.0]),
        })
    }

    /// It does not hold.
    #[allow(clippy::should_implement_trait)] // reads like `and` and `or`
    pub fn not(self) -> Self {
        Filter(Node::Not(Box::new(self.0)))
    }

    /// All of these hold; true for none.
    pub fn all(filters: impl IntoIterator<Item = Filter>) -> Self {
        Filter(Node::And(filters.into_iter().map(|f| f.0).collect()))
    }

    /// One of these holds; false for none.
    pub fn any(filters: impl IntoIterator<Item = Filter>) -> Self {
        Filter(Node::Or(filters.into_iter().map(|f| f.0).collect()))
    }

    /// What is wrong with it, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.0.depth() > MAX_DEPTH {
            return Some(format!("it is nested deeper than {MAX_DEPTH} levels"));
        }
        self.0.fault()
    }

    /// The fields that it asks for.
    pub(crate) fn fields(&self) -> Vec<&str> {
        let mut fields = Vec::new();
        self.0.add_fields(&mut fields);
        fields
    }

    /// The filter as a document's value, which is how the catalog stores it.
    pub(crate) fn to_value(&self) -> Value {
        self.0.to_value()
    }

    pub(crate) fn from_value(value: &Value) -> Option<Self> {
        Node::from_value(value).map(Filter)
    }
}

impl Node {
    fn depth(&self) -> usize {
        match self {
            Node::Test(..) => 0,
            Node::Not(node) => 1 + node.depth(),
            Node::And(nodes) | Node::Or(nodes) => {
                1 + nodes.iter().map(Node::depth).max().unwrap_or(0)
            }
        }
    }

    fn add_fields<'n>(&'n self, fields: &mut Vec<&'n str>) {
        match self {
            Node::Test(field, _) => fields.push(field),
            Node::Not(node) => node.add_fields(fields),
            Node::And(nodes) | Node::Or(nodes) => {
                nodes.iter().for_each(|node| node.add_fields(fields));
            }
        }
    }

    fn fault(&self) -> Option<String> {
        match self {
            Node::Test(_, Test::Matches(pattern)) => pattern.regex().as_ref().err().cloned(),
            Node::Test(..) => None,
            Node::Not(node) => node.fault(),
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().find_map(Node::fault),
        }
    }

    fn to_value(&self) -> Value {
        let list = |nodes: &[Node]| Value::Array(nodes.iter().map(Node::to_value).collect());
        let object = match self {
            Node::Test(field, test) => {
                let (name, operand) = test.to_value();
                Object::from([
                    ("field", Value::from(field)),
                    ("test", Value::from(name)),
                    ("value", operand),
                ])
            }
            Node::Not(node) => Object::from([("not", node.to_value())]),
            Node::And(nodes) => Object::from([("and", list(nodes))]),
            Node::Or(nodes) => Object::from([("or", list(nodes))]),
        };
        Value::Object(object)
    }

    fn from_value(value: &Value) -> Option<Self> {
        let object = value.as_object()?;
        let list = |value: &Value| -> Option<Vec<Node>> {
            value.as_array()?.iter().map(Node::from_value).collect()
        };
        if let Some(node) = object.get("not") {
            return Some(Node::Not(Box::new(Node::from_value(node)?)));
        }
        if let Some(nodes) = object.get("and") {
            return Some(Node::And(list(nodes)?));
        }
        if let Some(nodes) = object.get("or") {
            return Some(Node::Or(list(nodes)?));
        }
        let field = object.get("field")?.as_str()?.to_string();
        let test = Test::from_value(object.get("test")?.as_str()?, object.get("value")?)?;
        Some(Node::Test(field, test))
    }
}

impl Test {
    /// The field has one of these values, which are put in order so that one is found among many.
    pub(super) fn one_of(mut values: Vec<Value>) -> Self {
        values.sort();
        values.dedup();
        Test::In(values)
    }

    fn to_value(&self) -> (&'static str, Value) {
        let pair = |a: &Value, b: &Value| Value::Array(vec![a.clone(), b.clone()]);
        match self {
            Test::Eq(value) => ("eq", value.clone()),
            Test::Gt(value) => ("gt", value.clone()),
            Test::Gte(value) => ("gte", value.clone()),
            Test::Lt(value) => ("lt", value.clone()),
            Test::Lte(value) => ("lte", value.clone()),
            Test::Between(low, high) => ("between", pair(low, high)),
            Test::In(values) => ("in", Value::Array(values.clone())),
            Test::Contains(value) => ("contains", value.clone()),
            Test::StartsWith(text) => ("starts_with", text.into()),
            Test::EndsWith(text) => ("ends_with", text.into()),
            Test::Matches(pattern) => ("matches", (&pattern.text).into()),
            Test::Exists => ("exists", Value::Null),
            Test::IsNull => ("is_null", Value::Null),
            Test::Length(range) => {
                let bound = |n: u64| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
                ("length", pair(&bound(*range.start()), &bound(*range.end())))
            }
        }
    }

    fn from_value(name: &str, value: &Value) -> Option<Self> {
        let text = || value.as_str().map(str::to_string);
        let pair = || match value.as_array()? {
            [a, b] => Some((a.clone(), b.clone())),
            _ => None,
        };
        Some(match name {
            "eq" => Test::Eq(value.clone()),
            "gt" => Test::Gt(value.clone()),
            "gte" => Test::Gte(value.clone()),
            "lt" => Test::Lt(value.clone()),
            "lte" => Test::Lte(value.clone()),
            "between" => {
                let (low, high) = pair()?;
                Test::Between(low, high)
            }
            "in" => Test::one_of(value.as_array()?.to_vec()),
            "contains" => Test::Contains(value.clone()),
            "starts_with" => Test::StartsWith(text()?),
            "ends_with" => Test::EndsWith(text()?),
            "matches" => Test::Matches(Pattern::new(value.as_str()?)),
            "exists" => Test::Exists,
            "is_null" => Test::IsNull,
            "length" => {
                let (low, high) = pair()?;
                let bound = |value: Value| u64::try_from(value.as_int()?).ok();
                Test::Length(bound(low)?..=bound(high)?)
            }
            _ => return None,
        })
    }
}

impl std::fmt::Display for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Test::Eq(value) => write!(f, "= {}", value.brief()),
            Test::Gt(value) => write!(f, "> {}", value.brief()),
            Test::Gte(value) => write!(f, ">= {}", value.brief()),
            Test::Lt(value) => write!(f, "< {}", value.brief()),
            Test::Lte(value) => write!(f, "<= {}", value.brief()),
            Test::Between(low, high) => write!(f, "from {} to {}", low.brief(), high.brief()),
            Test::In(values) => write!(f, "in ({})", Value::Array(values.clone()).brief()),
            Test::Contains(value) => write!(f, "contains {}", value.brief()),
            Test::StartsWith(text) => write!(f, "starts with {text:?}"),
            Test::EndsWith(text) => write!(f, "ends with {text:?}"),
            Test::Matches(pattern) => write!(f, "matches /{}/", pattern.text),
            Test::Exists => f.write_str("exists"),
            Test::IsNull => f.write_str("is null"),
            Test::Length(range) => write!(f, "has {} to {} elements", range.start(), range.end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_stored_and_read_back() {
        let filter = Filter::eq("a.b", 1)
            .and(Filter::between("c", 2.5, 3).not())
            .or(Filter::is_in("d", ["x", "y"]).and(Filter::matches("e", "^z")))
            .or(Filter::length("f", 1..=2).and(Filter::exists("g")))
            .or(Filter::is_null("h").and(Filter::contains("i", "j")))
            .or(Filter::starts_with("k", "l").and(Filter::ends_with("m", "n")));
        assert_eq!(Filter::from_value(&filter.to_value()), Some(filter));
        assert_eq!(Filter::from_value(&Value::Null), None);
    }

    #[test]
    fn what_is_read_back_is_not_compiled_before_it_is_needed() {
        let stored = Filter::matches("a", r"\w{100}").to_value();
        let Some(Filter(Node::Test(_, Test::Matches(pattern)))) = Filter::from_value(&stored)
        else {
            panic!("another filter")
        };
        assert!(pattern.regex.get().is_none());
        assert!(pattern.regex().is_ok() && pattern.regex.get().is_some());
    }

    #[test]
    fn bad_patterns_and_deep_nesting_are_told() {
        assert!(Filter::matches("a", "(").fault().is_some());
        let mut deep = Filter::exists("a");
        for _ in 0..=MAX_DEPTH {
            deep = deep.not();
        }
        assert!(deep.fault().is_some());
        assert_eq!(Filter::exists("a").not().fault(), None);
    }
}
