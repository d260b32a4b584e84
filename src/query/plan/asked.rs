//! What a way into the filter asks of each field.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::query::decision::{Question, WayIn, decide};
use crate::query::fields::ID;
use crate::query::filter::{Filter, Test};
use crate::query::ranges::{ByteRange, RangeSet, values_of};

/// The values that answer each question with yes, if ranges can say that. Worked out once: hundreds of ways ask the same.
pub(super) struct Answers<'q> {
    questions: &'q [Question],
    yes: Vec<Option<Arc<RangeSet>>>,
}

impl<'q> Answers<'q> {
    pub(super) fn new(questions: &'q [Question]) -> Self {
        let yes =
            { questions.iter() }.map(|question| values_of(&question.test, true).map(Arc::new));
        Answers {
            yes: yes.collect(),
            questions,
        }
    }

    /// How many ranges all of them have.
    pub(super) fn pieces(&self) -> usize {
        let yes = self.yes.iter().flatten();
        yes.map(|set| set.ranges.len()).sum()
    }
}

/// The values that a way leaves of a field.
pub(super) struct Left {
    /// Shared by all ways that leave what one answer does: that may be a list of thousands.
    pub set: Arc<RangeSet>,
    /// How many answers say so.
    pub answers: usize,
    /// All of them say no: nearly everything is left, perhaps in very many pieces.
    pub is_open: bool,
}

/// What a way asks of each field.
pub(super) struct Asked<'q> {
    pub sets: BTreeMap<&'q str, Left>,
    elements: Vec<(&'q str, &'q crate::value::Value)>,
    pub answers: usize,
    /// The answers that ranges cannot say.
    others: Vec<(usize, bool)>,
}

impl<'q> Asked<'q> {
    pub(super) fn new(answers: &'q Answers<'q>, way: &WayIn) -> Self {
        let mut asked = Asked {
            sets: BTreeMap::new(),
            elements: Vec::new(),
            answers: way.len(),
            others: Vec::new(),
        };
        // What does not hold is cut out of a field all at once: a filter of hundreds of values, one of which holds, has
        // ways with hundreds that do not.
        let mut without: BTreeMap<&str, Vec<&ByteRange>> = BTreeMap::new();
        for (number, answer) in way {
            let (Some(question), Some(yes)) = (
                answers.questions.get(*number),
                answers.yes.get(*number).map(Option::as_ref),
            ) else {
                continue;
            };
            let field = question.field.as_str();
            if let (Test::Contains(value), true) = (&question.test, *answer) {
                asked.elements.push((field, value));
            }
            let Some(yes) = yes else {
                asked.others.push((*number, *answer));
                continue;
            };
            let left = asked.sets.entry(field).or_insert_with(|| Left {
                set: Arc::new(RangeSet::everything()),
                answers: 0,
                is_open: true,
            });
            left.answers += 1;
            match answer {
                true if left.is_open => left.set = yes.clone(),
                true => left.set = Arc::new(left.set.intersect(yes)),
                false => without.entry(field).or_default().extend(&yes.ranges),
            }
            left.is_open &= !answer;
        }
        for (field, ranges) in without {
            if let Some(left) = asked.sets.get_mut(field)
                && left.set.may_have(&ranges)
            {
                Arc::make_mut(&mut left.set).cut_out(ranges);
            }
        }
        asked
    }

    /// Whether no value can give these answers.
    pub(super) fn is_contradiction(&self) -> bool {
        self.sets.values().any(|left| left.set.ranges.is_empty())
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

/// Which documents an index takes in. Decided once for a plan: a condition can have as many ways as a filter.
pub(super) enum Condition {
    /// All of them.
    All,
    /// Nobody can say.
    Unknown,
    /// Those of any of these ways.
    Ways(Vec<Needed>),
}

/// What a way into a condition asks.
pub(super) struct Needed {
    /// Those of few pieces first, which mostly decide.
    sets: Vec<(String, Arc<RangeSet>)>,
    /// Answers that ranges cannot say, by the numbers that the filter's questions have. `None`: the filter does not ask.
    others: Vec<Option<(usize, bool)>>,
}

impl Condition {
    /// `stores_ids`: every document has its id as a field too.
    pub(super) fn new(only: Option<&Filter>, questions: &[Question], stores_ids: bool) -> Self {
        let Some(filter) = only else {
            return Condition::All;
        };
        let Some(decision) = decide(&|fields| filter.0.holds(fields)) else {
            return Condition::Unknown;
        };
        // A condition of an index looks at a stored `id`, which a document may lack.
        if !stores_ids && { decision.questions.iter() }.any(|question| question.field == ID) {
            return Condition::Unknown;
        }
        let answers = Answers::new(&decision.questions);
        let numbers = { decision.questions.iter() }
            .map(|question| questions.iter().position(|asked| asked == question));
        let numbers: Vec<Option<usize>> = numbers.collect();
        let needed = decision.ways.iter().map(|way| {
            let asked = Asked::new(&answers, way);
            let sets = asked.sets.into_iter();
            let sets = sets.map(|(field, left)| (field.to_string(), left.set));
            let mut sets: Vec<_> = sets.collect();
            sets.sort_by_key(|(_, set)| set.ranges.len());
            let number = |other: usize| numbers.get(other).copied().flatten();
            Needed {
                sets,
                others: { asked.others.into_iter() }
                    .map(|(other, answer)| Some((number(other)?, answer)))
                    .collect(),
            }
        });
        Condition::Ways(needed.collect())
    }

    /// Whether all rows that a way finds are in the index: the way gives the same answers as one of the condition's, or
    /// narrower ones.
    pub(super) fn is_met_by(&self, asked: &Asked<'_>) -> bool {
        let ways = match self {
            Condition::All => return true,
            Condition::Unknown => return false,
            Condition::Ways(ways) => ways,
        };
        ways.iter().any(|needed| {
            let mut sets = needed.sets.iter();
            let is_narrower = sets.all(|(field, set)| {
                let own = asked.sets.get(field.as_str());
                own.is_some_and(|own| own.set.is_within(set))
            });
            let mut others = needed.others.iter();
            is_narrower
                && others.all(|other| other.is_some_and(|other| asked.others.contains(&other)))
        })
    }
}
