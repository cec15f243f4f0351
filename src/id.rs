//! Ids for transfers and runs that name none.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};

/// A new 128-bit id: 48 bits of milliseconds since 1970, then 80 random bits. Later ids are larger, which the index of
/// ids likes.
///
/// # Errors
/// If the system has no random bytes.
pub fn fresh() -> std::io::Result<u128> {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Ok((millis & ((1 << 48) - 1)) << 80 | random()? >> 48)
}

/// 128 random bits.
///
/// # Errors
/// If the system has no random bytes.
pub fn random() -> std::io::Result<u128> {
    let mut bytes = [0; 16];
    // The system gives so few bytes at once or not at all.
    let count = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if count < bytes.len() {
        return Err(std::io::Error::other("the system gave too few random bytes"));
    }
    Ok(u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_begin_with_the_time() {
        let (first, second) = (fresh().unwrap(), fresh().unwrap());
        assert_ne!(first, second);
        assert!(second >> 80 >= first >> 80);
        assert!(first >> 80 > 1_600_000_000_000, "{first:x}");
    }
}
