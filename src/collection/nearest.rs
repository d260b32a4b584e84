//! Which of some names is meant by one that is none of them.

/// The known name that differs least from another, if it is by little.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // More than a third of it is another name. Of long ones nobody is told.
    let most = (name.chars().count() / 3).max(1);
    if name.len() > LONGEST {
        return None;
    }
    let known = known.filter(|known| known.len() <= LONGEST);
    let apart = known.map(|known| (distance(&name.to_lowercase(), &known.to_lowercase()), known));
    let (least, known) = apart.min_by_key(|(apart, _)| *apart)?;
    (least <= most).then_some(known)
}

const LONGEST: usize = 64;

/// How many letters have to be put in, left out, changed, or exchanged with the next.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // For the beginnings of `a` up to the one before the last, up to the last, and each beginning of `b`.
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (i, letter) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        let mut earlier = None;
        for (j, other) in b.iter().enumerate() {
            let at =
                |row: &[usize], place: usize| row.get(place).copied().unwrap_or(usize::MAX - 1);
            let changed = at(&row, j) + usize::from(letter != *other);
            let mut least = changed.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            if last == Some(*other) && earlier == Some(letter) {
                least = least.min(at(&before, j - 1) + 1);
            }
            next.push(least);
            earlier = Some(*other);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(letter);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_differ_are_counted() {
        for (a, b, apart) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("name", "name", 0),
            ("naem", "name", 1),
            ("nme", "name", 1),
            ("names", "name", 1),
            ("mane", "name", 2),
            ("größe", "grösse", 2),
        ] {
            assert_eq!(distance(a, b), apart, "{a} {b}");
            assert_eq!(distance(b, a), apart, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_is_told_if_it_is_near() {
        let known = ["title", "year", "address.city", "id"];
        for (name, near) in [
            ("Title", Some("title")),
            ("titel", Some("title")),
            ("yaer", Some("year")),
            ("adress.city", Some("address.city")),
            ("city", None),
            ("price", None),
        ] {
            assert_eq!(nearest(name, known.into_iter()), near, "{name}");
        }
        assert_eq!(nearest("title", std::iter::empty()), None);
        assert_eq!(nearest(&"x".repeat(100_000), known.into_iter()), None);
    }
}
