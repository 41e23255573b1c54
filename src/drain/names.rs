//! The listeners' names, each under a number that it keeps.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::name::Name;

const BLOCK: usize = 16;

/// Names in blocks that stay where they are. Listeners are few and their names stay, so none is
/// ever taken out.
pub(super) struct Names {
    first: Block,
    numbers: Mutex<HashMap<Name, usize>>,
}

struct Block {
    names: [OnceLock<Name>; BLOCK],
    more: OnceLock<Box<Block>>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { first: Block::new(), numbers: Mutex::default() }
    }

    /// The number of a name, which it gets when it is first asked for.
    pub(super) fn number(&self, name: &Name) -> usize {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = numbers.get(name) {
            return number;
        }
        let number = numbers.len();
        self.first.slot(number).get_or_init(|| name.clone());
        numbers.insert(name.clone(), number);
        number
    }

    /// The name that has got this number.
    pub(super) fn get(&self, number: usize) -> &Name {
        match self.first.slot(number).get() {
            Some(name) => name,
            None => unreachable!("number {number} was given to no name"),
        }
    }
}

impl Block {
    fn new() -> Self {
        Self { names: [const { OnceLock::new() }; BLOCK], more: OnceLock::new() }
    }

    /// Where the name with this number is, or will be.
    fn slot(&self, mut number: usize) -> &OnceLock<Name> {
        let mut block = self;
        while number >= BLOCK {
            block = block.more.get_or_init(|| Box::new(Self::new()));
            number -= BLOCK;
        }
        &block.names[number]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_however_many_come() {
        let names = Names::new();
        let name = |number: usize| format!("listener {number}").parse::<Name>().unwrap();
        for number in 0..100 {
            assert_eq!(names.number(&name(number)), number);
        }
        for number in 0..100 {
            assert_eq!(names.number(&name(number)), number);
            assert_eq!(*names.get(number), name(number));
        }
    }
}
