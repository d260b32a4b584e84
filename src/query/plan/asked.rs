//! What a way into the filter asks of each field.

use std::collections::BTreeMap;

use crate::query::decision::{Question, WayIn, decide};
use crate::query::fields::ID;
use crate::query::filter::{Filter, Test};
use crate::query::ranges::{RangeSet, values_of};

/// What a way asks of each field.
pub(super) struct Asked<'q> {
    /// The values that are left of a field, and how many answers say so.
    pub sets: BTreeMap<&'q str, (RangeSet, usize)>,
    elements: Vec<(&'q str, &'q crate::value::Value)>,
    pub answers: usize,
}

impl<'q> Asked<'q> {
    pub(super) fn new(questions: &'q [Question], way: &WayIn) -> Self {
        let mut asked = Asked {
            sets: BTreeMap::new(),
            elements: Vec::new(),
            answers: way.len(),
        };
        // Those that hold first: they leave little, and the others have less to cut. (A filter of hundreds of values, one
        // of which holds, has ways with hundreds that do not.)
        let holding = answered(questions, way).filter(|(_, answer)| *answer);
        let others = answered(questions, way).filter(|(_, answer)| !*answer);
        for (question, answer) in holding.chain(others) {
            if let Some(set) = values_of(&question.test, answer) {
                let known = asked.sets.entry(&question.field);
                let (all, answers) = known.or_insert_with(|| (RangeSet::everything(), 0));
                *all = all.intersect(&set);
                *answers += 1;
            }
            if let (Test::Contains(value), true) = (&question.test, answer) {
                asked.elements.push((&question.field, value));
            }
        }
        asked
    }

    /// Whether no value can give these answers.
    pub(super) fn is_contradiction(&self) -> bool {
        self.sets.values().any(|(set, _)| set.ranges.is_empty())
    }

    pub(super) fn elements_of<'a>(
        &'a self,
        path: &'a str,
    ) -> impl Iterator<Item = &'q crate::value::Value> + 'a {
        let elements = self.elements.iter();
        elements
            .filter(move |(field, _)| *field == path)
            .map(|(_, value)| *value)
    }
}

pub(super) fn answered<'q>(
    questions: &'q [Question],
    way: &WayIn,
) -> impl Iterator<Item = (&'q Question, bool)> {
    way.iter()
        .filter_map(|(number, answer)| Some((questions.get(*number)?, *answer)))
}

/// Whether all rows that a way finds are in an index with this condition: the way gives the same
/// answers, or narrower ones.
pub(super) fn implies(questions: &[Question], way: &WayIn, only: Option<&Filter>) -> bool {
    let Some(filter) = only else { return true };
    let Some(condition) = decide(&|fields| filter.0.holds(fields)) else {
        return false;
    };
    // A condition of an index looks at a stored `id`, which a document may lack.
    if condition
        .questions
        .iter()
        .any(|question| question.field == ID)
    {
        return false;
    }
    let asked = Asked::new(questions, way);
    condition.ways.iter().any(|needed| {
        answered(&condition.questions, needed).all(|(question, answer)| {
            let is_given = answered(questions, way)
                .any(|(given, given_answer)| given == question && given_answer == answer);
            is_given || is_narrower(&asked, question, answer)
        })
    })
}

fn is_narrower(asked: &Asked<'_>, question: &Question, answer: bool) -> bool {
    let (Some((set, _)), Some(needed)) = (
        asked.sets.get(question.field.as_str()),
        values_of(&question.test, answer),
    ) else {
        return false;
    };
    set.intersect(&needed).ranges == set.ranges
}
