//! From the path that a caller gives to that of a file.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The path with the extension added, unless it ends in it. A path without a name is refused: the extension alone
/// would be the name, of a hidden file in that directory.
pub(crate) fn with_extension(path: &Path, extension: &str) -> Result<PathBuf> {
    let bad = |reason| {
        let path = path.to_path_buf();
        Err(Error::BadPath { path, reason })
    };
    let text = path.as_os_str().to_string_lossy();
    if text.is_empty() {
        return bad("it is empty; give the file a name");
    }
    if text.ends_with(std::path::is_separator) {
        return bad("it ends like that of a directory; add the name of the file");
    }
    // `file_name` passes over a `.` at the end.
    let last = text.rsplit(std::path::is_separator).next();
    let Some(name) = path.file_name().filter(|_| last != Some(".")) else {
        return bad("it is a directory; add the name of the file");
    };
    if name.to_string_lossy().strip_prefix('.') == Some(extension) {
        return bad("it has an extension and no name before it; give the file a name");
    }
    if path.extension().is_some_and(|known| known == extension) {
        return Ok(path.to_path_buf());
    }
    let mut path = path.as_os_str().to_os_string();
    path.push(".");
    path.push(extension);
    Ok(PathBuf::from(path))
}

/// The longest name of a file, in bytes, on nearly all file systems.
const LONGEST_NAME: usize = 255;

/// The path with this added to its name, of which the end is left out where both together would be too long.
pub fn with_ending(target: &Path, ending: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default();
    let mut longer = name.to_os_string();
    if name.len() + ending.len() > LONGEST_NAME {
        let text = name.to_string_lossy();
        let mut most = LONGEST_NAME.saturating_sub(ending.len());
        while !text.is_char_boundary(most) {
            most -= 1;
        }
        longer = text.get(..most).unwrap_or_default().into();
    }
    longer.push(ending);
    target.with_file_name(longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_added_once() {
        let with = |path: &str| with_extension(Path::new(path), "json").unwrap();
        assert_eq!(with("a"), Path::new("a.json"));
        assert_eq!(with("a.json"), Path::new("a.json"));
        assert_eq!(with("dir.json/a.v2"), Path::new("dir.json/a.v2.json"));
        assert_eq!(with("../.hidden"), Path::new("../.hidden.json"));
        assert_eq!(with("./a"), Path::new("./a.json"));
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        for path in [
            "",
            ".",
            "..",
            "/",
            "dir/",
            "dir//",
            "dir/.",
            "dir/..",
            ".json",
            "dir/.json",
        ] {
            let error = with_extension(Path::new(path), "json").unwrap_err();
            assert!(
                error.is_misuse() && matches!(error, Error::BadPath { .. }),
                "{path}"
            );
        }
    }
}
