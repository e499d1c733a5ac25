//! firewalld's `direct.xml`.

use std::ffi::c_char;
use std::path::Path;

use super::arguments::text_path;
use super::boundary::{ErrorSlot, Handle, Out, Text, guard};
use super::plan::kumatp_plan;
use super::status::{kumatp_error, kumatp_status};
use super::text::kumatp_text;

#[cfg(feature = "firewalld")]
pub(super) use crate::firewalld as documents;
/// Stands in for `firewalld` in a build without it: every function says so.
#[cfg(not(feature = "firewalld"))]
pub(super) mod documents {
    use crate::error::Error;
    use crate::model::Plan;

    fn absent<T>() -> Result<T, Error> {
        Err(crate::ffi::arguments::not_built_in("firewalld's direct.xml", "firewalld"))
    }

    pub(crate) fn merge(_: &str, _: &Plan) -> Result<String, Error> {
        absent()
    }

    pub(crate) fn remove(_: &str) -> Result<Option<String>, Error> {
        absent()
    }

    pub(crate) fn translate(_: &str) -> Result<String, Error> {
        absent()
    }
}

#[cfg(all(feature = "firewalld", feature = "host", target_os = "linux"))]
use crate::firewalld as files;
/// Stands in for the same where there is no host either.
#[cfg(not(all(feature = "firewalld", feature = "host", target_os = "linux")))]
mod files {
    use std::path::Path;

    use crate::error::Error;
    use crate::model::Plan;

    fn absent<T>() -> Result<T, Error> {
        Err(crate::ffi::arguments::not_built_in("firewalld's file", "firewalld' and 'host"))
    }

    pub(super) fn store(_: &Path, _: &Plan) -> Result<bool, Error> {
        absent()
    }

    pub(super) fn unstore(_: &Path) -> Result<bool, Error> {
        absent()
    }
}

/// Where firewalld keeps its direct configuration.
const DIRECT_XML: &str = "/etc/firewalld/direct.xml";

/// Writes firewalld's direct.xml with the rules of a plan in it, in place of older ones of kumatp. All else stays as it is,
/// byte for byte.
///
/// @param plan  lent
/// @param existing  the document as it is, lent; empty makes a new one; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the document; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the document is not XML, or not firewalld's;
///         KUMATP_E_UNSUPPORTED if this build of the library knows no firewalld
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_firewalld_merge(
    plan: *const kumatp_plan,
    existing: *const c_char,
    len: usize,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, existing) = unsafe { (Handle::new("plan", plan), Text::new("existing", existing, len)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, plan, existing) = (out.check()?, plan.get()?, existing.utf8()?);
        out.give(kumatp_text::new(documents::merge(existing, &plan.plan)?));
        Ok(())
    })
}

/// Writes firewalld's direct.xml without our entries. One that has none stays as it is.
///
/// @param existing  the document as it is, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the document; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return as kumatp_firewalld_merge()
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_firewalld_remove(
    existing: *const c_char,
    len: usize,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (existing, out, err) =
        unsafe { (Text::new("existing", existing, len), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, existing) = (out.check()?, existing.utf8()?);
        out.give(kumatp_text::new(documents::remove(existing)?.unwrap_or_else(|| existing.to_owned())));
        Ok(())
    })
}

/// Writes the rules of a plan to firewalld's file, as kumatp_firewalld_merge() does. The file is replaced in one step, and
/// firewalld reads it when it starts or reloads.
///
/// @param plan  lent
/// @param path  the file, lent; empty for "/etc/firewalld/direct.xml"
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] changed  1 if the file has changed, 0 if it had these rules
/// @param[out] err  may be NULL
/// @return as kumatp_firewalld_merge(), and KUMATP_E_OS if the file cannot be read or written; it is unchanged then
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_firewalld_store(
    plan: *const kumatp_plan,
    path: *const c_char,
    len: usize,
    changed: *mut i32,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, path) = unsafe { (Handle::new("plan", plan), Text::new("path", path, len)) };
    // SAFETY: as the preamble asks.
    let (changed, err) = unsafe { (Out::new("changed", changed), ErrorSlot::new(err)) };
    guard(err, || {
        let (changed, plan, path) = (changed.check()?, plan.get()?, text_path(path, DIRECT_XML)?);
        changed.put(files::store(Path::new(path), &plan.plan)?.into());
        Ok(())
    })
}

/// Takes our entries out of firewalld's file, as kumatp_firewalld_remove() does. No file is as good as one without them.
///
/// @param path  the file, lent; empty for "/etc/firewalld/direct.xml"
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] changed  1 if there were any, 0 if not
/// @param[out] err  may be NULL
/// @return as kumatp_firewalld_store()
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_firewalld_unstore(
    path: *const c_char,
    len: usize,
    changed: *mut i32,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (path, changed, err) =
        unsafe { (Text::new("path", path, len), Out::new("changed", changed), ErrorSlot::new(err)) };
    guard(err, || {
        let (changed, path) = (changed.check()?, text_path(path, DIRECT_XML)?);
        changed.put(files::unstore(Path::new(path))?.into());
        Ok(())
    })
}
