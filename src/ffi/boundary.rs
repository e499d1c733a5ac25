//! Where C ends: the one panic boundary, and pointers that are checked before they are used.
//!
//! The types here are made by `unsafe` constructors, which only keep what the caller promises, and
//! are used by safe methods, which check it.

use std::any::Any;
use std::ffi::c_char;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::KUMATP_MAX_TEXT;
use super::status::{KUMATP_E_INTERNAL, KUMATP_OK, kumatp_error, kumatp_status};

/// `KUMATP_NUL_TERMINATED` of the header, which cbindgen cannot write.
pub(super) const NUL_TERMINATED: usize = usize::MAX;

/// Runs the body of an exported function. A panic becomes `KUMATP_E_INTERNAL`, since unwinding into C
/// would end the process.
pub(super) fn guard(err: ErrorSlot, body: impl FnOnce() -> Result<(), kumatp_error>) -> kumatp_status {
    // Whatever the body had borrowed is immutable or dropped with it.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return KUMATP_OK,
        Ok(Err(failure)) => failure,
        Err(payload) => kumatp_error::new(KUMATP_E_INTERNAL, None, &format!("bug in kumatp: {}", said(&*payload))),
    };
    let status = failure.status();
    err.put(failure);
    status
}

/// Runs the body of a function that cannot fail, such as one that frees; a panic gives the default.
pub(super) fn quietly<T: Default>(body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_default()
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

/// Where an error goes; nowhere if the caller gave NULL.
pub(super) struct ErrorSlot(*mut *mut kumatp_error);

impl ErrorSlot {
    /// # Safety
    /// `slot` is NULL or valid for writing a pointer.
    pub(super) unsafe fn new(slot: *mut *mut kumatp_error) -> Self {
        Self(slot)
    }

    fn put(self, error: kumatp_error) {
        if !self.0.is_null() && self.0.is_aligned() {
            // SAFETY: not NULL, so valid by the promise of `new`.
            unsafe { self.0.write(Box::into_raw(Box::new(error))) }
        }
    }
}

/// Where a result goes.
pub(super) struct Out<T> {
    name: &'static str,
    slot: *mut T,
}

impl<T> Out<T> {
    /// # Safety
    /// `slot` is NULL or valid for writing a `T`.
    pub(super) unsafe fn new(name: &'static str, slot: *mut T) -> Self {
        Self { name, slot }
    }

    /// A slot that can be written; to be asked for before any work is done.
    pub(super) fn check(self) -> Result<Slot<T>, kumatp_error> {
        check(self.name, self.slot)?;
        Ok(Slot(self.slot))
    }

    /// The same, where NULL says that nobody wants the result.
    pub(super) fn optional(self) -> Result<Option<Slot<T>>, kumatp_error> {
        if self.slot.is_null() { Ok(None) } else { self.check().map(Some) }
    }
}

/// A checked [`Out`].
pub(super) struct Slot<T>(*mut T);

impl<T> Slot<T> {
    /// Writes the result.
    pub(super) fn put(self, value: T) {
        // SAFETY: checked by `Out::check`, and valid by the promise of `Out::new`.
        unsafe { self.0.write(value) }
    }
}

impl<T> Slot<*mut T> {
    /// Hands a handle over to the caller.
    pub(super) fn give(self, value: T) {
        self.put(Box::into_raw(Box::new(value)));
    }
}

/// A handle that the caller lends for the call.
pub(super) struct Handle<'a, T> {
    name: &'static str,
    handle: *const T,
    lent: PhantomData<&'a T>,
}

impl<'a, T> Handle<'a, T> {
    /// # Safety
    /// `handle` is NULL or was given out by [`Slot::give`], and is not freed during the call.
    pub(super) unsafe fn new(name: &'static str, handle: *const T) -> Self {
        Self { name, handle, lent: PhantomData }
    }

    /// What the handle stands for.
    pub(super) fn get(self) -> Result<&'a T, kumatp_error> {
        check(self.name, self.handle)?;
        Ok(self.optional().expect("checked not to be NULL"))
    }

    /// The same, where NULL is allowed.
    pub(super) fn optional(self) -> Option<&'a T> {
        // SAFETY: NULL or valid by the promise of `new`; nobody writes to what a handle stands for.
        unsafe { self.handle.as_ref() }
    }
}

/// Takes a handle back; NULL is fine.
///
/// # Safety
/// `handle` is NULL or was given out by [`Slot::give`], and is used no more.
pub(super) unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: by the promise of this function.
        quietly(|| drop(unsafe { Box::from_raw(handle) }));
    }
}

/// A text that the caller lends for the call.
pub(super) struct Text<'a> {
    name: &'static str,
    data: *const c_char,
    len: usize,
    lent: PhantomData<&'a str>,
}

impl<'a> Text<'a> {
    /// # Safety
    /// `data` is NULL, or valid for reading `len` bytes; if `len` is [`NUL_TERMINATED`], up to a NUL.
    /// The bytes do not change during the call.
    pub(super) unsafe fn new(name: &'static str, data: *const c_char, len: usize) -> Self {
        Self { name, data, len, lent: PhantomData }
    }

    /// The name of the parameter.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// The text, if it is UTF-8 and not too long. The length is looked at before the bytes are.
    pub(super) fn utf8(self) -> Result<&'a str, kumatp_error> {
        let data = self.data.cast::<u8>();
        if self.len == 0 {
            return Ok("");
        }
        check(self.name, data)?;
        let len = match self.len {
            // SAFETY: every byte up to the first NUL may be read, by the promise of `new`.
            NUL_TERMINATED => (0..=KUMATP_MAX_TEXT).take_while(|i| unsafe { data.add(*i).read() } != 0).count(),
            len => len,
        };
        if len > KUMATP_MAX_TEXT {
            let given = if self.len == NUL_TERMINATED { "no NUL within them".to_owned() } else { len.to_string() };
            return Err(kumatp_error::argument(
                self.name,
                &format!("expected at most {KUMATP_MAX_TEXT} bytes, and was given {given}"),
            ));
        }
        // SAFETY: not NULL, and `len` bytes may be read by the promise of `new`.
        let bytes = unsafe { std::slice::from_raw_parts(data, len) };
        std::str::from_utf8(bytes).map_err(|error| {
            let at = error.valid_up_to();
            kumatp_error::argument(
                self.name,
                &format!("expected UTF-8, and was given the byte 0x{:02x} at offset {at}", bytes[at]),
            )
        })
    }
}

fn check<T>(name: &'static str, pointer: *const T) -> Result<(), kumatp_error> {
    match (pointer.is_null(), pointer.is_aligned()) {
        (true, _) => Err(kumatp_error::argument(name, "must not be NULL")),
        (false, false) => Err(kumatp_error::argument(name, "is not aligned, so it does not point to its type")),
        (false, true) => Ok(()),
    }
}
