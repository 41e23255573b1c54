//! The listeners' names, each under a number that it keeps.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::name::Name;

/// How many names the first block holds. Each block holds twice as many as the one before.
const FIRST: usize = 16;

/// More blocks than there can be listeners for.
const BLOCKS: usize = 24;

/// Names in blocks that stay where they are. Listeners are few and their names stay, so none is
/// ever taken out.
pub(super) struct Names {
    blocks: [OnceLock<Box<[OnceLock<Name>]>>; BLOCKS],
    numbers: Mutex<HashMap<Name, usize>>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { blocks: [const { OnceLock::new() }; BLOCKS], numbers: Mutex::default() }
    }

    /// The number of a name, which it gets when it is first asked for.
    pub(super) fn number(&self, name: &Name) -> usize {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = numbers.get(name) {
            return number;
        }
        let number = numbers.len();
        self.slot(number).get_or_init(|| name.clone());
        numbers.insert(name.clone(), number);
        number
    }

    /// The name that has got this number.
    pub(super) fn get(&self, number: usize) -> &Name {
        match self.slot(number).get() {
            Some(name) => name,
            None => unreachable!("number {number} was given to no name"),
        }
    }

    /// Where the name with this number is, or will be.
    fn slot(&self, number: usize) -> &OnceLock<Name> {
        let block = (number / FIRST + 1).ilog2();
        let before = ((1 << block) - 1) * FIRST;
        let made = || (0..FIRST << block).map(|_| OnceLock::new()).collect();
        &self.blocks[block as usize].get_or_init(made)[number - before]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_however_many_come() {
        let names = Names::new();
        let name = |number: usize| format!("listener {number}").parse::<Name>().unwrap();
        for number in 0..1_000 {
            assert_eq!(names.number(&name(number)), number);
        }
        for number in 0..1_000 {
            assert_eq!(names.number(&name(number)), number);
            assert_eq!(*names.get(number), name(number));
        }
    }
}
