//! Room on the stack for documents that are nested deeply.
//!
//! The parsers call themselves for each level, up to 128 of them. A thread of an embedding program may have a stack of a
//! few pages only, so such documents are read in a thread that has enough.

/// Levels that fit on the smallest stack.
const FEW: usize = 16;

/// Enough for all that the parsers take, many times over.
const STACK: usize = 4 << 20;

/// Runs `read`, which reads `text`, where there is room for it.
pub(crate) fn with_room<T: Send>(text: &str, read: impl Fn() -> T + Sync) -> T {
    if levels(text) <= FEW {
        return read();
    }
    // Where no thread can be made, there is still the stack of this one.
    on_thread(STACK, &read).unwrap_or_else(|_| read())
}

/// Does something on a thread with such a stack, and waits for it. A panic there goes on here.
///
/// # Errors
/// If no thread can be made.
pub(crate) fn on_thread<T: Send>(stack: usize, work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    let (mut work, mut done) = (Some(work), None);
    run(stack, &mut || done = work.take().map(|work| work()))?;
    Ok(done.expect("the thread has ended, and without a panic"))
}

/// Apart, so that it is there once and not for each type.
fn run(stack: usize, work: &mut (dyn FnMut() + Send)) -> std::io::Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(())
    })
}

/// More levels than the text has, by a glance: every bracket may open one, and in YAML every column of indentation two, a
/// mapping and a list in it.
fn levels(text: &str) -> usize {
    let brackets = text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    let indented = |line: &str| line.bytes().take_while(|byte| matches!(byte, b' ' | b'-' | b'?' | b':')).count();
    brackets + 2 * text.lines().map(indented).max().unwrap_or_default() + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Format};
    use crate::simulate::Packets;

    #[test]
    fn configurations_as_people_write_them_need_no_thread() {
        assert!(levels("redirect:\n  inbound:\n    excludePorts:\n    - 22\n    port: 15006\n") <= FEW);
        assert!(levels(r#"{"redirect": {"inbound": {"excludePorts": [22]}}}"#) <= FEW);
        assert!(levels("- - - - a:\n") > 5 && levels(&"[".repeat(30)) > 30);
    }

    #[test]
    fn no_document_is_too_deep_for_a_small_stack() {
        let mut texts = Vec::new();
        for depth in [FEW, 60, 120, 127, 128, 5_000] {
            texts.push((format!("{}1{}", r#"{"wait":"#.repeat(depth), "}".repeat(depth)), Format::Json));
            #[cfg(feature = "yaml")]
            for (open, close) in [("{wait: ", "}"), ("[", "]"), ("- ", ""), ("? ", "")] {
                texts.push((format!("wait: 1\nx:\n  {}1{}", open.repeat(depth), close.repeat(depth)), Format::Yaml));
            }
            #[cfg(feature = "yaml")]
            texts.push(((0..depth).map(|level| format!("{}wait:\n", " ".repeat(level))).collect(), Format::Yaml));
        }
        let small = std::thread::Builder::new().stack_size(64 << 10);
        let read = move || {
            let refused = texts.iter().filter(|(text, format)| Config::parse(text, *format).is_err()).count();
            assert!(texts.iter().all(|(text, _)| text.parse::<Packets>().is_err()));
            refused
        };
        assert!(small.spawn(read).unwrap().join().unwrap() > 0, "all that are deeper than 128 are refused");
    }
}
