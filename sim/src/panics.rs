//! Panics of roles as findings: with message and place, and without the noise on standard error.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    static TOLD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What `work` yields; if it panics, what it said and where. Panics elsewhere are told as before.
///
/// # Errors
/// The panic.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| if INSIDE.get() { TOLD.set(Some(describe(info))) } else { before(info) }));
    });
    INSIDE.set(true);
    // What was half done is not used again: the world only says what had happened so far.
    let result = catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(false);
    result.map_err(|_| TOLD.take().unwrap_or_else(|| "a panic without a message".to_owned()))
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let text = info.payload_as_str().unwrap_or("a panic without a message");
    info.location().map_or_else(|| text.to_owned(), |place| format!("{text} ({}:{})", place.file(), place.line()))
}

#[cfg(test)]
mod tests {
    use super::catch;

    #[test]
    fn a_panic_is_caught_with_its_message_and_place() {
        let said = catch(|| assert_eq!(1 + 1, 3, "arithmetic")).expect_err("it panics");
        assert!(said.contains("arithmetic") && said.contains("panics.rs:"), "{said}");
        assert_eq!(catch(|| 5), Ok(5));
    }
}
