//! Measuring in turns, so that what disturbs the machine disturbs everybody.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// What several contenders took, in seconds, turn by turn.
pub(crate) struct Turns<const N: usize>(Vec<[f64; N]>);

/// Lets the contenders take turns, each time beginning with another one. They say themselves what they took, so that what is done
/// before and after does not count.
pub(crate) fn turns<const N: usize>(count: usize, mut contenders: [&mut dyn FnMut() -> Duration; N]) -> Turns<N> {
    let turn = |turn: usize| {
        let mut took = [0.0; N];
        for place in 0..N {
            let contender = (place + turn) % N;
            took[contender] = contenders[contender]().as_secs_f64();
        }
        took
    };
    Turns((0..count).map(turn).collect())
}

impl<const N: usize> Turns<N> {
    /// How many times as long as another one a contender took, within each turn.
    pub(crate) fn ratio(&self, this: usize, other: usize) -> Sample {
        self.ratio_to_sum(this, &[other])
    }

    /// How many times as long as several others together.
    pub(crate) fn ratio_to_sum(&self, this: usize, others: &[usize]) -> Sample {
        Sample::of(self.0.iter().map(|took| took[this] / others.iter().map(|other| took[*other]).sum::<f64>()))
    }

    /// What a contender took, in seconds.
    pub(crate) fn seconds(&self, this: usize) -> Sample {
        Sample::of(self.0.iter().map(|took| took[this]))
    }

    /// How much longer than another one a contender took for each of so many things, in seconds.
    pub(crate) fn difference(&self, this: usize, other: usize, count: u32) -> Sample {
        Sample::of(self.0.iter().map(|took| (took[this] - took[other]) / f64::from(count)))
    }

    /// What it took for one of as many things, against what another took for one of its own.
    pub(crate) fn ratio_each(&self, this: (usize, f64), other: (usize, f64)) -> Sample {
        Sample::of(self.0.iter().map(|took| (took[this.0] / this.1) / (took[other.0] / other.1)))
    }
}

/// A value that was measured several times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) median: f64,
    pub(crate) quartiles: [f64; 2],
    pub(crate) turns: usize,
}

impl Sample {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let turns = values.len();
        let at = |quarters: usize| values[(turns - 1) * quarters / 4];
        Self { median: values[turns / 2], quartiles: [at(1), at(3)], turns }
    }
}

pub(crate) fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// A contender whose work is done in no time: what one round takes of so many that a turn lasts some milliseconds.
pub(crate) fn repeated<R>(mut work: impl FnMut() -> R) -> impl FnMut() -> Duration {
    const TURN: Duration = Duration::from_millis(5);
    let mut rounds = None;
    move || {
        let rounds = *rounds.get_or_insert_with(|| {
            // What is done first is slow.
            black_box(work());
            let once = time(|| drop(black_box(work()))).max(Duration::from_nanos(20));
            u32::try_from((TURN.as_nanos() / once.as_nanos()).clamp(1, 100_000)).expect("it is less")
        });
        time(|| (0..rounds).for_each(|_| drop(black_box(work())))) / rounds
    }
}

/// Lets the kernel free what was removed before: whoever closes the next socket would wait for it.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_millis(25));
}
