//! Paths inside the locker as people type them.

use crate::Error;

/// Splits a path into the displayed names of its parts; the root has none.
///
/// Slashes at both ends and doubled ones do not matter; `.` is left out.
///
/// # Errors
/// [`Error::Argument`] for `..`: a locker has no working folder from which to go up.
pub(crate) fn split(path: &str) -> Result<Vec<&str>, Error> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(Error::Argument(format!("{path:?} goes up with `..`; name the folder itself")));
    }
    Ok(parts)
}

/// Joins a folder's path and a name.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { [folder, "/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_paths() {
        assert_eq!(split("").unwrap(), Vec::<&str>::new());
        assert_eq!(split("/").unwrap(), Vec::<&str>::new());
        assert_eq!(split("/a//b c/./d/").unwrap(), ["a", "b c", "d"]);
        assert!(matches!(split("a/../b"), Err(Error::Argument(_))));
        assert_eq!(join("", "a"), "a");
        assert_eq!(join("a", "b"), "a/b");
    }
}
