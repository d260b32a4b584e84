//! Some fields of a document, by their paths.

use std::collections::HashMap;

use crate::value::{Object, Value};

/// What is chosen of an object. However many names there are, each of a path is looked up in a table.
pub(super) struct Picking<'f> {
    fields: HashMap<&'f str, &'f Value>,
    chosen: HashMap<&'f str, Choice<'f>>,
    /// Names of which something was found, in the order in which it was.
    order: Vec<&'f str>,
}

enum Choice<'f> {
    Whole(&'f Value),
    /// Some of it, or nothing yet.
    Within(Picking<'f>),
}

impl<'f> Picking<'f> {
    pub(super) fn of(fields: &'f Object) -> Self {
        Picking {
            fields: fields.iter().collect(),
            chosen: HashMap::new(),
            order: Vec::new(),
        }
    }

    /// Chooses what is at a path, as [`Object::get_path`] finds it. `false`: there is nothing. (Within something that is
    /// chosen as a whole nobody looks.)
    pub(super) fn choose(&mut self, path: &str) -> bool {
        if let Some((name, value)) = self.fields.get_key_value(path) {
            self.add(name, value);
            return true;
        }
        let Some((first, rest)) = path.split_once('.') else {
            return false;
        };
        let Some((name, Value::Object(inner))) = self.fields.get_key_value(first) else {
            return false;
        };
        let within = || Choice::Within(Picking::of(inner));
        match self.chosen.entry(name).or_insert_with(within) {
            Choice::Whole(_) => true,
            Choice::Within(picking) => {
                let is_first = picking.order.is_empty();
                let is_found = picking.choose(rest);
                if is_first && is_found {
                    self.order.push(name);
                }
                is_found
            }
        }
    }

    /// Chooses a value as a whole, be it one of the object's or not.
    pub(super) fn add(&mut self, name: &'f str, value: &'f Value) {
        let is_there = match self.chosen.insert(name, Choice::Whole(value)) {
            Some(Choice::Whole(_)) => true,
            Some(Choice::Within(picking)) => !picking.order.is_empty(),
            None => false,
        };
        if !is_there {
            self.order.push(name);
        }
    }

    pub(super) fn into_object(mut self) -> Object {
        let names = std::mem::take(&mut self.order).into_iter();
        let fields = names.filter_map(|name| {
            let value = match self.chosen.remove(name)? {
                Choice::Whole(value) => value.clone(),
                Choice::Within(picking) => Value::Object(picking.into_object()),
            };
            Some((name, value))
        });
        fields.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names by which a path is found.
    fn names_of<'p>(fields: &Object, path: &'p str) -> Option<Vec<&'p str>> {
        if fields.get(path).is_some() {
            return Some(vec![path]);
        }
        let (first, rest) = path.split_once('.')?;
        let mut names = names_of(fields.get(first)?.as_object()?, rest)?;
        names.insert(0, first);
        Some(names)
    }

    /// Names and paths one by one, each looked for among all.
    fn one_by_one(fields: &Object, paths: &[String]) -> Object {
        let mut picked = Object::new();
        for path in paths {
            if let Some(names) = names_of(fields, path) {
                let value = fields.get_path(path).unwrap();
                picked.set_at(&names, value.clone());
            }
        }
        picked
    }

    #[test]
    fn what_is_picked_is_what_one_by_one_gives_in_the_same_order() {
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        const NAMES: [&str; 8] = ["a", "b", "c", "a.b", "b.a", "a.b.c", "c.", ".a"];
        fn object(levels: usize, random: &mut impl FnMut(usize) -> usize) -> Object {
            let mut fields = Object::new();
            for _ in 0..random(5) {
                let name = NAMES[random(NAMES.len())];
                match levels > 0 && random(2) > 0 {
                    true => fields.insert(name, object(levels - 1, random)),
                    false => fields.insert(name, random(100) as i64),
                };
            }
            fields
        }
        let mut found = 0;
        for _ in 0..60_000 {
            let fields = object(3, &mut random);
            let path = |random: &mut dyn FnMut(usize) -> usize| {
                let parts = (0..1 + random(3)).map(|_| NAMES[random(NAMES.len())]);
                parts.collect::<Vec<_>>().join(".")
            };
            let paths: Vec<String> = (0..random(8)).map(|_| path(&mut random)).collect();
            let mut picking = Picking::of(&fields);
            for path in &paths {
                assert!(picking.choose(path) || fields.get_path(path).is_none());
            }
            let (picked, expected) = (picking.into_object(), one_by_one(&fields, &paths));
            assert_eq!(
                picked.to_string(),
                expected.to_string(),
                "{fields} {paths:?}"
            );
            found += picked.len();
        }
        assert!(found > 10_000, "{found}");
    }
}
