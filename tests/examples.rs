//! The second example: all of its answers are checked, and its checks can fail.

#[path = "../examples/catalog/main.rs"]
#[expect(dead_code, reason = "its `main` is not run here")]
mod catalog;

use std::path::Path;

fn data() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data")
}

fn documents(languages: &[&str]) -> Vec<catalog::source::Emoji> {
    let mut all = catalog::source::read(&data().join("emoji")).unwrap();
    all.retain(|one| languages.contains(&one.language.as_str()));
    all
}

#[test]
fn the_catalog_answers_as_plain_iterators_do() {
    // Fewer than the example takes, because it runs unoptimized here.
    let mut documents = documents(&["hi", "ja"]);
    documents.retain(|one| one.language == "hi" || one.order.is_none_or(|order| order % 4 == 0));
    assert!(documents.len() > 2000);
    let directory = tempfile::tempdir().unwrap();
    let db = catalog::load(&directory.path().join("catalog"), &documents).unwrap();
    let checks = catalog::check(&db, &documents, &data().join("pictures")).unwrap();
    assert_eq!(checks.differences, Vec::<String>::new());
    assert!(checks.made > 100, "{}", checks.made);
}

#[test]
fn a_database_with_other_documents_is_told() {
    let documents = documents(&["ru"]).split_off(1500);
    let mut others = documents.clone();
    others[100].label.push('!');
    let directory = tempfile::tempdir().unwrap();
    let db = catalog::load(&directory.path().join("catalog"), &others).unwrap();
    let checks = catalog::check(&db, &documents, &data().join("pictures")).unwrap();
    assert!(!checks.differences.is_empty());
}
