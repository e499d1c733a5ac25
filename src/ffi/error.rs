//! Reading statuses and error objects.

use std::ffi::{CStr, c_char};

use super::boundary::{ErrorSlot, Handle, Out, free, guard, quietly};
use super::status::{KUMATP_OK, kumatp_error, kumatp_status, name};
use super::text::kumatp_text;

/// Returns the name of a status, such as "KUMATP_E_CONFIG", and "unknown status" for a number that is none.
///
/// The text is static: never free it. Never fails. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn kumatp_status_name(status: kumatp_status) -> *const c_char {
    name(status).as_ptr()
}

/// Returns the status that the failed call returned; KUMATP_OK for NULL.
///
/// Never fails. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_error_status(error: *const kumatp_error) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let error = unsafe { Handle::new("error", error) };
    error.optional().map_or(KUMATP_OK, kumatp_error::status)
}

/// Returns what went wrong, as text: the field, the offending value and what would be right. A document with
/// several problems has one line for each.
///
/// The text is NUL-terminated UTF-8, belongs to the error and is valid until kumatp_error_free(); "" for NULL. Never
/// fails. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_error_message(error: *const kumatp_error) -> *const c_char {
    // SAFETY: as the preamble asks.
    let error = unsafe { Handle::new("error", error) };
    error.optional().map_or(c"", |error| &error.message).as_ptr()
}

/// Returns what the error is about: a key such as "redirect.inbound.port", a fact, or a parameter.
///
/// The text is NUL-terminated UTF-8, belongs to the error and is valid until kumatp_error_free(). NULL if the error
/// is about nothing of that kind, and for NULL. Never fails. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_error_field(error: *const kumatp_error) -> *const c_char {
    // SAFETY: as the preamble asks.
    let error = unsafe { Handle::new("error", error) };
    let field = error.optional().and_then(|error| error.field.as_deref());
    field.map_or(std::ptr::null(), CStr::as_ptr)
}

/// Returns the number that the operating system gave (errno); 0 if it was not involved, and for NULL.
///
/// Never fails. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_error_errno(error: *const kumatp_error) -> i32 {
    // SAFETY: as the preamble asks.
    let error = unsafe { Handle::new("error", error) };
    error.optional().map_or(0, |error| error.errno)
}

/// Writes an error as a JSON document, for programs and logs.
///
/// Its members: "status" (number), "name" ("KUMATP_E_CONFIG"), "message", "field" (text or null), "errno" (number),
/// and "problems", all that is wrong with a document: a list of objects with "path", "value" and "expected".
///
/// @param error  lent
/// @param[out] out  the document; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL; must not be where `error` is kept
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_error_to_json(
    error: *const kumatp_error,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (error, out, err) = unsafe { (Handle::new("error", error), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        out.give(kumatp_text::new(error.get()?.to_json()));
        Ok(())
    })
}

/// Frees an error. NULL is fine.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_error_free(error: *mut kumatp_error) {
    // SAFETY: as the preamble asks.
    quietly(|| unsafe { free(error) });
}
