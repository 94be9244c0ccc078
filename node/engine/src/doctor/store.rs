//! Whether the locker's own data is whole, as far as is known without reading all of it.

use locker_crypto::Refusal;

use crate::Error;
use crate::locker::Inner;
use crate::report::{Check, Problem, StateHash, Status};

const NAME: &str = "store";
/// What helps against most of it.
pub(super) const CURE: &str = "Run `locker verify --repair` while another device is on.";

/// Looks at the store.
pub(super) fn look(inner: &Inner) -> Check {
    let is_poisoned = inner.store().map(|store| store.is_poisoned());
    match (is_poisoned, crate::status::status(inner, StateHash::IfQuick)) {
        (Ok(false), Ok(status)) => judge(&status),
        (Ok(true), _) => Check::failed(
            NAME,
            "The store takes nothing more until it is opened again.",
            "A write or a sync failed.",
            "See the check of the disk, then start the program again.",
        ),
        (Err(why), _) | (_, Err(why)) => unreadable(&why),
    }
}

fn unreadable(why: &Error) -> Check {
    Check::failed(NAME, "The store cannot be read.", format!("{why}."), CURE)
}

fn judge(status: &Status) -> Check {
    let is_damage =
        |problem: &&Problem| [Refusal::Hash.code(), Refusal::Tag.code()].contains(&&*problem.code);
    let checked = match status.scrub.oldest_verified {
        None => "no content is stored yet".into(),
        Some(at) => {
            let at = i64::try_from(at).unwrap_or(i64::MAX);
            let day = jiff::Timestamp::from_millisecond(at)
                .map_or_else(|_| "-".into(), |at| at.strftime("%F").to_string());
            format!("every stored byte was checked since {day}")
        }
    };
    if let Some(damage) = status.problems.iter().find(is_damage) {
        return Check::failed(
            NAME,
            sentence(&damage.message),
            "A disk that fails, or something other than this program wrote there.",
            CURE,
        );
    }
    match status.problems.first() {
        None => Check::ok(NAME, format!("The store is open, and {checked}.")),
        Some(problem) => Check::warning(
            NAME,
            sentence(&problem.message),
            format!("It is of the kind {} ({} such remarks in all).", problem.code, status.problems.len()),
            "`locker status` shows all of them; most pass when the devices meet with `locker up`.",
        ),
    }
}

/// Makes a remark a sentence.
fn sentence(remark: &str) -> String {
    let mut letters = remark.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
