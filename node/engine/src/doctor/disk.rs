//! Whether the disk of the home has room and keeps what it is given.

use std::time::Duration;

use locker_store::DiskTrial;

use crate::Error;
use crate::locker::Inner;
use crate::report::Check;
use crate::status::human;

const NAME: &str = "disk";
/// Below so much free space somebody should know.
const FREE_LITTLE: u64 = 1 << 30;
/// A small write that takes longer until it is on the disk slows everything.
const SLOW: Duration = Duration::from_millis(500);

/// Looks at the disk.
pub(super) fn look(inner: &Inner) -> Check {
    let start = inner.env().elapsed();
    let tried = inner.store().and_then(|store| Ok(store.try_disk()?));
    judge(tried, inner.env().elapsed().saturating_sub(start))
}

fn judge(tried: Result<DiskTrial, Error>, took: Duration) -> Check {
    let free_some =
        "Free some space: `locker gc` gives back what nothing needs, other folders may hold more.";
    match tried {
        Err(Error::Full) => Check::failed(
            NAME,
            "Nothing can be written.",
            "The disk is full, or a quota of this user.",
            free_some,
        ),
        Err(Error::ReadOnly(_)) => Check::failed(
            NAME,
            "The locker can be read and not written.",
            "The disk or folder is mounted read-only, which systems also do with a disk that fails.",
            "Look at the system's log; if the disk is sound, mount it writable.",
        ),
        Err(why) => Check::failed(
            NAME,
            "What was written could not be read back.",
            format!("The disk or its file system fails: {why}."),
            "Copy the home to another disk now, and have this one checked.",
        ),
        Ok(DiskTrial { free, low_water }) if free < low_water => Check::failed(
            NAME,
            format!("{} are free, and below {} nothing new is taken in.", human(free), human(low_water)),
            "The disk is nearly full.",
            free_some,
        ),
        Ok(DiskTrial { free, .. }) if free < FREE_LITTLE => {
            let found = format!("{} are free.", human(free));
            Check::warning(NAME, found, "The disk is nearly full.", free_some)
        }
        Ok(_) if took > SLOW => Check::warning(
            NAME,
            format!("A small file took {:.1} s until it was on the disk.", took.as_secs_f64()),
            "The disk is busy or slow, as network drives and memory cards are.",
            "Keep the locker on a disk inside this machine, or wait until other work is done.",
        ),
        Ok(DiskTrial { free, .. }) => {
            let ms = took.as_secs_f64() * 1_000.0;
            Check::ok(
                NAME,
                format!("{} are free; a small file is on the disk after {ms:.1} ms.", human(free)),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::CheckState;

    #[test]
    fn room_errors_and_slowness_are_told_apart() {
        let trial = |free| Ok(DiskTrial { free, low_water: 1 << 26 });
        let quick = Duration::from_millis(5);
        for (tried, took, expected) in [
            (trial(1 << 40), quick, CheckState::Ok),
            (trial(1 << 40), SLOW * 2, CheckState::Warning),
            (trial(FREE_LITTLE - 1), quick, CheckState::Warning),
            (trial(1 << 26), quick, CheckState::Warning),
            (trial((1 << 26) - 1), quick, CheckState::Failed),
            (Err(Error::Full), quick, CheckState::Failed),
            (Err(Error::ReadOnly("x".into())), quick, CheckState::Failed),
            (Err(Error::Displaced), quick, CheckState::Failed),
        ] {
            let told = judge(tried, took);
            assert_eq!(told.state, expected, "{told:?}");
            assert_eq!(told.cause.is_some() && told.cure.is_some(), expected != CheckState::Ok);
        }
    }
}
