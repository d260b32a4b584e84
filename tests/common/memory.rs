//! How much memory a test takes, in a process of its own, where no other test takes any.
#![cfg(target_os = "linux")]

/// The memory of this process that is no file's.
pub fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

/// Runs the test of that name again in a process of its own. True in that one: there the test goes on.
pub fn is_alone(name: &str) -> bool {
    const IN_CHILD: &str = "AURORA_TEST_MEMORY";
    if std::env::var_os(IN_CHILD).is_some() {
        return true;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let run = child.args(["--exact", name]).env(IN_CHILD, "1").output();
    let run = run.unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
    false
}
