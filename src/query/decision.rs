//! From a filter to its decision tree.
//!
//! A closure over booleans cannot be looked into, but it can be run: against a recorder that
//! answers each question as it is told. Flipping one answer at a time visits every path through the
//! closure, whatever operators it is written with: the exact boolean function.
//!
//! # Invariants
//!
//! 1. On one path a question is answered the same way each time it is asked.
//! 2. The paths exclude one another: of any two, one answers some question with yes and the other
//!    with no.
//! 3. A path is shorter than the number of runs that are tried: each answer on it has another path behind its opposite.

use std::cell::{Cell, RefCell};

use super::fields::Fields;
use super::filter::Test;

/// So many runs of the closure are tried; a filter with more paths is not planned.
const MAX_RUNS: usize = 512;

/// A question about a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Question {
    pub field: String,
    pub test: Test,
}

/// The answers on a way through the filter to "it matches", as (number of question, answer).
pub(crate) type WayIn = Vec<(usize, bool)>;

/// Everything that makes a filter true.
#[derive(Debug)]
pub(crate) struct Decision {
    pub questions: Vec<Question>,
    pub ways: Vec<WayIn>,
}

/// Answers from a script, and notes what was asked.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    inner: RefCell<Inner>,
    /// The closure looked at a value, or asks too much: it is not planned.
    gave_up: Cell<bool>,
}

#[derive(Debug, Default)]
struct Inner {
    questions: Vec<Question>,
    /// What was asked next, after each question when it was last answered with no, and with yes. Mostly it is asked next
    /// again, and need not be searched for.
    next: Vec<[Option<usize>; 2]>,
    script: Vec<bool>,
    path: WayIn,
    /// The answers on this path, by the numbers of the questions.
    answers: Vec<Option<bool>>,
}

impl Recorder {
    pub(super) fn ask(&self, field: &str, test: Test) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        if self.gave_up.get() {
            return false;
        }
        let number = inner.number(field, test);
        if let Some(answer) = inner.answers.get(number).copied().flatten() {
            return answer; // invariant 1
        }
        if inner.path.len() + 1 >= MAX_RUNS {
            self.gave_up.set(true); // invariant 3
            return false;
        }
        let answer = { inner.script.get(inner.path.len()).copied() }.unwrap_or(false);
        inner.path.push((number, answer));
        if let Some(known) = inner.answers.get_mut(number) {
            *known = Some(answer);
        }
        answer
    }

    /// The closure looked at a value: it cannot be known what it does with it.
    pub(super) fn gave_value(&self) {
        self.gave_up.set(true);
    }

    /// Begins another path.
    fn begin(&self, script: Vec<bool>) {
        let inner = &mut *self.inner.borrow_mut();
        inner.script = script;
        inner.path.clear();
        inner.answers.fill(None);
    }
}

impl Inner {
    fn number(&mut self, field: &str, test: Test) -> usize {
        let is_it = |known: &Question| known.field == *field && known.test == test;
        let last = self.path.last().copied();
        let next = last.and_then(|(last, answer)| {
            let [no, yes] = self.next.get(last)?;
            if answer { *yes } else { *no }
        });
        if let Some(next) = next
            && self.questions.get(next).is_some_and(is_it)
        {
            return next;
        }
        let known = self.questions.iter().position(is_it);
        let number = known.unwrap_or_else(|| {
            self.questions.push(Question {
                field: field.to_string(),
                test,
            });
            self.next.push([None; 2]);
            self.answers.push(None);
            self.questions.len() - 1
        });
        if let Some((last, answer)) = last
            && let Some(next) = self.next.get_mut(last)
            && let Some(next) = next.get_mut(usize::from(answer))
        {
            *next = Some(number);
        }
        number
    }
}

/// The decision tree of a filter; `None` if it is too large, or if the filter looks at values.
pub(crate) fn decide(filter: &dyn Fn(&Fields<'_>) -> bool) -> Option<Decision> {
    let recorder = Recorder::default();
    let mut ways = Vec::new();
    for _ in 0..MAX_RUNS {
        let holds = filter(&Fields::planned(&recorder));
        if recorder.gave_up.get() {
            return None;
        }
        let path = recorder.inner.borrow().path.clone();
        let mut script: Vec<bool> = path.iter().map(|(_, answer)| *answer).collect();
        if holds {
            ways.push(path);
        }
        // The next path: the last "no" becomes a "yes".
        while script.last() == Some(&true) {
            script.pop();
        }
        match script.last_mut() {
            Some(last) => *last = true,
            None => {
                let questions = recorder.inner.into_inner().questions;
                return Some(Decision { questions, ways });
            }
        }
        recorder.begin(script);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Filter;

    fn ways(filter: &dyn Fn(&Fields<'_>) -> bool) -> Vec<Vec<(String, bool)>> {
        let decision = decide(filter).unwrap();
        let name =
            |(number, answer): &(usize, bool)| (decision.questions[*number].field.clone(), *answer);
        let ways = decision.ways.iter();
        ways.map(|way| way.iter().map(name).collect()).collect()
    }

    fn way(answers: &[(&str, bool)]) -> Vec<(String, bool)> {
        { answers.iter() }
            .map(|(name, answer)| (name.to_string(), *answer))
            .collect()
    }

    #[test]
    fn operators_become_paths() {
        let and = ways(&|f| f.eq("a", 1) && f.eq("b", 1));
        assert_eq!(and, [way(&[("a", true), ("b", true)])]);
        let or = ways(&|f| f.eq("a", 1) || f.eq("b", 1));
        assert_eq!(or, [way(&[("a", false), ("b", true)]), way(&[("a", true)])]);
        let not = ways(&|f| !(f.eq("a", 1) || f.eq("b", 1)));
        assert_eq!(not, [way(&[("a", false), ("b", false)])]);
        assert_eq!(ways(&|_| true), [way(&[])]);
        assert!(ways(&|_| false).is_empty());
    }

    #[test]
    fn any_control_flow_is_seen_through() {
        let branch = ways(&|f| {
            if f.eq("a", 1) {
                f.eq("b", 1)
            } else {
                f.ne("c", 1)
            }
        });
        assert_eq!(
            branch,
            [
                way(&[("a", false), ("c", false)]),
                way(&[("a", true), ("b", true)])
            ]
        );
        let xor = ways(&|f| f.eq("a", 1) ^ f.eq("b", 1));
        assert_eq!(xor.len(), 2);
        let again = ways(&|f| f.eq("a", 1) && !f.eq("a", 1));
        assert!(again.is_empty());
    }

    #[test]
    fn values_give_the_same_tree_as_closures() {
        let closure = decide(&|f| f.gt("a", 1) && (f.eq("b", "x") || !f.exists("c"))).unwrap();
        let filter = Filter::gt("a", 1).and(Filter::eq("b", "x").or(Filter::exists("c").not()));
        let value = decide(&|f| filter.0.holds(f)).unwrap();
        assert_eq!(closure.questions, value.questions);
        assert_eq!(closure.ways, value.ways);
    }

    #[test]
    fn what_cannot_be_known_is_not_planned() {
        assert!(decide(&|f| f.value("a").is_null()).is_none());
        let many = |f: &Fields<'_>| {
            let yes = (0..12).filter(|i| f.eq("a", *i)).count();
            yes % 2 == 0
        };
        assert!(decide(&many).is_none());
        // As long as a path can be, and longer.
        let any = |f: &Fields<'_>, values: usize| (0..values as i64).any(|i| f.eq("a", i));
        let ways = decide(&|f| any(f, MAX_RUNS - 1)).unwrap().ways;
        assert_eq!(ways.len(), MAX_RUNS - 1);
        assert!(decide(&|f| any(f, MAX_RUNS)).is_none());
        // Whatever a closure does when it is not told the truth, it is told the same for the same.
        assert!(decide(&|f| any(f, 100_000)).is_none());
    }
}
