//! Which of some names is meant by one that is none of them.

/// The known name that differs least from another, if it is by little.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // More than a third of it is another name. Of long ones nobody is told.
    let most = (name.chars().count() / 3).max(1);
    if name.len() > LONGEST {
        return None;
    }
    let known = known.filter(|known| known.len() <= LONGEST);
    let lower = name.to_lowercase();
    let apart = known.map(|known| (strsim::osa_distance(&lower, &known.to_lowercase()), known));
    let (least, known) = apart.min_by_key(|(apart, _)| *apart)?;
    (least <= most).then_some(known)
}

const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

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
