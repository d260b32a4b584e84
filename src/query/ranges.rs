//! Sets of values as ranges of their encodings.
//!
//! # Invariants
//!
//! 1. The ranges of a set are sorted, do not touch and are not empty.
//! 2. An exact set holds the values that pass its test and no others; one that is not exact may hold
//!    more, never fewer. Only an exact set has a complement.

use super::filter::Test;
use crate::txn::view::after_prefix;
use crate::value::{Comparand, Raw, Value, encode, encode_missing, key_class, string_prefix};

/// The encodings from `low` on, below `high`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteRange {
    pub low: Vec<u8>,
    pub high: Vec<u8>,
}

impl ByteRange {
    /// Everything that begins with these bytes.
    pub(crate) fn prefix(bytes: Vec<u8>) -> Self {
        ByteRange {
            high: after_prefix(&bytes).unwrap_or_else(|| vec![u8::MAX]),
            low: bytes,
        }
    }

    /// All values of all types: no encoding begins with 255.
    fn everything() -> Self {
        ByteRange {
            low: Vec::new(),
            high: vec![u8::MAX],
        }
    }

    fn is_empty(&self) -> bool {
        self.low >= self.high
    }
}

/// A set of values of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeSet {
    pub ranges: Vec<ByteRange>,
    /// The one value of the set, if it is known to be one.
    pub point: Option<Vec<u8>>,
}

impl RangeSet {
    pub(crate) fn everything() -> Self {
        RangeSet {
            ranges: vec![ByteRange::everything()],
            point: None,
        }
    }

    fn point(value: &Value) -> Self {
        let bytes = encoded(value);
        RangeSet {
            ranges: vec![ByteRange::prefix(bytes.clone())],
            point: Some(bytes),
        }
    }

    fn of(ranges: Vec<ByteRange>) -> Self {
        let mut set = RangeSet {
            ranges,
            point: None,
        };
        set.normalize();
        set
    }

    /// Invariant 1.
    fn normalize(&mut self) {
        self.ranges.retain(|range| !range.is_empty());
        self.ranges.sort();
        let mut merged: Vec<ByteRange> = Vec::with_capacity(self.ranges.len());
        for range in self.ranges.drain(..) {
            match merged.last_mut() {
                Some(last) if last.high >= range.low => {
                    if range.high > last.high {
                        last.high = range.high;
                    }
                }
                _ => merged.push(range),
            }
        }
        self.ranges = merged;
    }

    pub(crate) fn intersect(&self, other: &RangeSet) -> RangeSet {
        let mut ranges = Vec::new();
        let (mut left, mut right) = (self.ranges.iter(), other.ranges.iter());
        let (mut a, mut b) = (left.next(), right.next());
        while let (Some(of_a), Some(of_b)) = (a, b) {
            let low = (&of_a.low).max(&of_b.low);
            let high = (&of_a.high).min(&of_b.high);
            if low < high {
                ranges.push(ByteRange {
                    low: low.clone(),
                    high: high.clone(),
                });
            }
            // The one that ends first meets nothing more.
            if of_a.high <= of_b.high {
                a = left.next();
            } else {
                b = right.next();
            }
        }
        let mut both = RangeSet::of(ranges);
        if !both.ranges.is_empty() {
            both.point = self.point.clone().or_else(|| other.point.clone());
        }
        both
    }

    /// Whether something may be left out by [`cut_out`](Self::cut_out): some of it is near.
    pub(crate) fn may_have(&self, gone: &[&ByteRange]) -> bool {
        match (self.ranges.first(), self.ranges.last()) {
            (Some(first), Some(last)) => {
                { gone.iter() }.any(|gone| gone.high > first.low && gone.low < last.high)
            }
            _ => false,
        }
    }

    /// Takes values out, of which the ranges may be in any order and overlap.
    pub(crate) fn cut_out(&mut self, mut gone: Vec<&ByteRange>) {
        let (Some(first), Some(last)) = (self.ranges.first(), self.ranges.last()) else {
            return;
        };
        // Mostly one value is left, and hundreds of others are nowhere near.
        gone.retain(|gone| gone.high > first.low && gone.low < last.high);
        gone.sort_unstable();
        let mut gone = gone.into_iter().peekable();
        let mut left = Vec::new();
        for ByteRange { mut low, high } in std::mem::take(&mut self.ranges) {
            while let Some(next) = gone.peek().filter(|gone| gone.low < high) {
                if next.low > low {
                    let low = std::mem::take(&mut low);
                    let high = next.low.clone();
                    left.push(ByteRange { low, high });
                }
                if next.high > low {
                    low.clone_from(&next.high);
                }
                if next.high > high {
                    break; // it goes on into the range behind this one
                }
                gone.next();
            }
            if low < high {
                left.push(ByteRange { low, high });
            }
        }
        if left.is_empty() {
            self.point = None;
        }
        self.ranges = left;
    }

    /// Whether all values of this set are in the other.
    pub(crate) fn is_within(&self, other: &RangeSet) -> bool {
        self.ranges.iter().all(|own| {
            // Ranges do not touch, so one is within a single one or not at all.
            let behind = other.ranges.partition_point(|range| range.low <= own.low);
            let around = behind.checked_sub(1).and_then(|at| other.ranges.get(at));
            around.is_some_and(|range| own.high <= range.high)
        })
    }

    fn complement(&self) -> RangeSet {
        let all = ByteRange::everything();
        let mut low = all.low;
        let mut ranges = Vec::new();
        for range in &self.ranges {
            ranges.push(ByteRange {
                low: std::mem::replace(&mut low, range.high.clone()),
                high: range.low.clone(),
            });
        }
        ranges.push(ByteRange {
            low,
            high: all.high,
        });
        RangeSet::of(ranges)
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    bytes
}

fn missing() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_missing(&mut bytes);
    bytes
}

/// The values that are at least `low` and of its type.
fn from(low: &Value) -> ByteRange {
    ByteRange {
        low: encoded(low),
        high: vec![key_class(low) + 1],
    }
}

/// The values that are below `high` and of its type.
fn below(high: &Value) -> ByteRange {
    ByteRange {
        low: vec![key_class(high)],
        high: encoded(high),
    }
}

/// The same with the value itself.
fn up_to(high: &Value) -> ByteRange {
    ByteRange {
        low: vec![key_class(high)],
        high: ByteRange::prefix(encoded(high)).high,
    }
}

/// The values that answer the test so, exactly; `None` if ranges cannot say that.
pub(crate) fn values_of(test: &Test, answer: bool) -> Option<RangeSet> {
    let one = |range: ByteRange| RangeSet::of(vec![range]);
    let yes = match test {
        Test::Eq(Value::Null) | Test::IsNull => RangeSet::of(vec![
            ByteRange::prefix(missing()),
            ByteRange::prefix(encoded(&Value::Null)),
        ]),
        Test::Eq(value) => RangeSet::point(value),
        Test::Gt(value) => one(ByteRange {
            low: ByteRange::prefix(encoded(value)).high,
            high: vec![key_class(value) + 1],
        }),
        Test::Gte(value) => one(from(value)),
        Test::Lt(value) => one(below(value)),
        Test::Lte(value) => one(up_to(value)),
        Test::Between(low, high) => one(from(low)).intersect(&one(up_to(high))),
        Test::In(values) => {
            let sets = { values.iter() }.filter_map(|v| values_of(&Test::Eq(v.clone()), true));
            RangeSet::of(sets.flat_map(|set| set.ranges).collect())
        }
        Test::StartsWith(text) => {
            let mut prefix = Vec::new();
            string_prefix(text, &mut prefix);
            one(ByteRange::prefix(prefix))
        }
        Test::Exists => RangeSet::of(vec![ByteRange::prefix(missing())]).complement(),
        Test::Contains(_) | Test::EndsWith(_) | Test::Matches(_) | Test::Length(_) => return None,
    };
    Some(if answer { yes } else { yes.complement() })
}

/// A string contains every string that is a part of it, so a search for a string by the elements of
/// arrays misses the strings themselves: they are these.
pub(crate) fn all_strings() -> ByteRange {
    let class = Raw::String("").class();
    ByteRange::prefix(vec![class])
}

/// The encoding of an element that is searched for; `None` for null, which is not told from what
/// is missing.
pub(crate) fn element(value: &Value) -> Option<Vec<u8>> {
    (!value.is_null()).then(|| encoded(value))
}

/// Whether a search for this element may be answered by strings as well.
pub(crate) fn may_be_part_of_string(value: &Value) -> bool {
    matches!(value.operand(), crate::value::Operand::String(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(set: &RangeSet, value: &Value) -> bool {
        let bytes = encoded(value);
        { set.ranges.iter() }.any(|range| (&range.low..&range.high).contains(&&bytes))
    }

    #[test]
    fn ranges_hold_what_passes_the_test() {
        let values: Vec<Value> = vec![
            Value::Null,
            true.into(),
            1.into(),
            1.5.into(),
            2.into(),
            3.into(),
            f64::NAN.into(),
            "a".into(),
            "ab".into(),
            "b".into(),
        ];
        let tests = [
            Test::Eq(2.into()),
            Test::Eq(Value::Null),
            Test::Gt(1.into()),
            Test::Gte(2.into()),
            Test::Lt(2.into()),
            Test::Lte(1.5.into()),
            Test::Between(1.5.into(), 3.into()),
            Test::Between(3.into(), 1.into()),
            Test::Between(1.into(), "b".into()),
            Test::one_of(vec![1.into(), "b".into(), Value::Null]),
            Test::StartsWith("a".into()),
            Test::Exists,
            Test::IsNull,
        ];
        let names = std::sync::Arc::new(crate::value::FieldNames::default());
        let reader = crate::query::RowReader::new(names.clone());
        for test in tests {
            let set = values_of(&test, true).unwrap();
            let others = values_of(&test, false).unwrap();
            for value in &values {
                let fields = [("x", value.clone())].into();
                let document = crate::value::encode_fields(&fields, &names);
                let node = super::super::filter::Node::Test("x".into(), test.clone());
                let passes = reader.matches(None, &document, |f| node.holds(f)).unwrap();
                assert_eq!(has(&set, value), passes, "{test:?} {value:?}");
                assert_eq!(has(&others, value), !passes, "not {test:?} {value:?}");
            }
        }
    }

    #[test]
    fn sets_are_within_others_and_lose_what_is_cut_out() {
        let of = |test: Test| values_of(&test, true).unwrap();
        let in_list = |values: [i64; 3]| of(Test::one_of(values.map(Value::Int).to_vec()));
        let above = of(Test::Gt(1.into()));
        assert!(in_list([2, 3, 5]).is_within(&above));
        assert!(!in_list([1, 3, 5]).is_within(&above));
        assert!(!above.is_within(&in_list([2, 3, 5])));
        assert!(in_list([2, 2, 5]).is_within(&in_list([5, 3, 2])));
        assert!(above.is_within(&above) && above.is_within(&RangeSet::everything()));
        let none = of(Test::Between(3.into(), 1.into()));
        assert!(none.is_within(&above) && !above.is_within(&none));
        let mut left = in_list([1, 2, 3]);
        let out = [in_list([9, 3, 0]), in_list([3, 1, 7])];
        left.cut_out(out.iter().flat_map(|set| &set.ranges).collect());
        assert_eq!(left.ranges, of(Test::Eq(2.into())).ranges);
        assert_eq!(left.point, None);
        let mut whole = above.clone();
        whole.cut_out(Vec::new());
        assert_eq!(whole, above);
    }

    #[test]
    fn what_is_cut_out_is_what_the_complement_does_not_have() {
        let range = |low: u8, length: u8| ByteRange {
            low: vec![low],
            high: vec![low + length],
        };
        // All sets of two ranges in few values, against others that overlap, meet and contain one another.
        let few: Vec<ByteRange> = { (1..9).flat_map(|low| (1..4).map(move |n| (low, n))) }
            .map(|(low, length)| range(low, length))
            .collect();
        for (a, b) in few.iter().flat_map(|a| few.iter().map(move |b| (a, b))) {
            let set = RangeSet::of(vec![a.clone(), b.clone()]);
            for gone in few.windows(5) {
                let mut left = set.clone();
                left.cut_out(gone.iter().rev().collect());
                let without = RangeSet::of(gone.to_vec()).complement();
                assert_eq!(left, set.intersect(&without), "{set:?} without {gone:?}");
            }
        }
    }

    #[test]
    fn sets_intersect_and_keep_their_point() {
        let above = values_of(&Test::Gt(1.into()), true).unwrap();
        let two = values_of(&Test::Eq(2.into()), true).unwrap();
        assert_eq!(above.intersect(&two).point, two.point);
        let one = values_of(&Test::Eq(1.into()), true).unwrap();
        assert!(above.intersect(&one).ranges.is_empty());
    }
}
