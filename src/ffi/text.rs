//! Text for the caller.

use std::ffi::c_char;

use super::boundary::{Handle, free, quietly};

/// A text or document that a call has made: UTF-8. Free it with kumatp_text_free().
#[derive(Debug)]
pub struct kumatp_text {
    /// With a NUL after it, which the length does not count.
    bytes: Box<[u8]>,
}

impl kumatp_text {
    pub(super) fn new(text: impl Into<String>) -> Self {
        let mut bytes = text.into().into_bytes();
        bytes.reserve_exact(1);
        bytes.push(0);
        Self { bytes: bytes.into_boxed_slice() }
    }

    /// A JSON document, indented, with a line feed at the end.
    pub(super) fn json(value: &impl serde::Serialize) -> Self {
        let mut text = serde_json::to_string_pretty(value).expect("our documents have string keys only");
        text.push('\n');
        Self::new(text)
    }
}

/// Returns the bytes of a text.
///
/// A NUL follows the last byte. They belong to the text and are valid until kumatp_text_free(); "" for NULL. Never
/// fails. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_text_data(text: *const kumatp_text) -> *const c_char {
    // SAFETY: as the preamble asks.
    let text = unsafe { Handle::new("text", text) };
    text.optional().map_or(c"".as_ptr(), |text| text.bytes.as_ptr().cast())
}

/// Returns how many bytes a text has, without the NUL after it; 0 for NULL.
///
/// Never fails. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_text_len(text: *const kumatp_text) -> usize {
    // SAFETY: as the preamble asks.
    let text = unsafe { Handle::new("text", text) };
    text.optional().map_or(0, |text| text.bytes.len() - 1)
}

/// Frees a text. NULL is fine.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_text_free(text: *mut kumatp_text) {
    // SAFETY: as the preamble asks.
    quietly(|| unsafe { free(text) });
}
