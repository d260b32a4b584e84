mod common;
use aurora::*;
#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mydb");
    let db = Aurora::open(&path).unwrap();
    println!(
        "empty: {}",
        std::fs::metadata(path.with_extension("db")).unwrap().len()
    );
    for i in 0..1000u32 {
        db.tree("t")
            .unwrap()
            .put(format!("k{i:05}"), vec![i as u8; 100])
            .unwrap();
    }
    db.check().unwrap();
    println!("{:#?}", db.stats().unwrap());
    db.close().unwrap();
    let db = Aurora::open(&path).unwrap();
    assert_eq!(db.tree("t").unwrap().len().unwrap(), 1000);
    db.check().unwrap();
    let mut tx = db.begin_write().unwrap();
    for i in 0..100000u32 {
        tx.tree("t")
            .unwrap()
            .put(format!("k{i:05}"), vec![i as u8; 100])
            .unwrap();
    }
    tx.commit().unwrap();
    db.check().unwrap();
    db.tree("t")
        .unwrap()
        .put("big", vec![5u8; 1_000_000])
        .unwrap();
    db.check().unwrap();
    drop(db);
    let db = Aurora::open(&path).unwrap();
    db.check().unwrap();
    assert_eq!(
        db.tree("t").unwrap().get("big").unwrap().unwrap(),
        vec![5u8; 1_000_000]
    );
}
