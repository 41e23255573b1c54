//! The listeners' names, each under a number that it keeps.

use std::sync::OnceLock;

use crate::name::Name;

const BLOCK: usize = 16;

/// Names in blocks that stay where they are. Listeners are few and their names stay, so none is
/// ever taken out.
pub(super) struct Names {
    names: [OnceLock<Name>; BLOCK],
    more: OnceLock<Box<Names>>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { names: [const { OnceLock::new() }; BLOCK], more: OnceLock::new() }
    }

    /// The number of a name, which it gets when it is first asked for.
    pub(super) fn number(&self, name: &Name) -> usize {
        let is_it = |slot: &OnceLock<Name>| slot.get_or_init(|| name.clone()) == name;
        match self.names.iter().position(is_it) {
            Some(number) => number,
            None => BLOCK + self.more.get_or_init(|| Box::new(Self::new())).number(name),
        }
    }

    /// The name that has got this number.
    pub(super) fn get(&self, number: usize) -> &Name {
        match (self.names.get(number).and_then(OnceLock::get), self.more.get()) {
            (Some(name), _) => name,
            (None, Some(more)) if number >= BLOCK => more.get(number - BLOCK),
            _ => unreachable!("number {number} was given to no name"),
        }
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
