//! From the tree of a pattern to its program.
//!
//! Invariants: preferment is the standard's: the left alternative, a greedy quantifier's further round and a reluctant
//! one's end come first. A program has at most [`MAX_INSTRUCTIONS`] instructions. A round of a loop that takes no row
//! ends the loop, so every program comes to an end between two rows.

use sqlparser::ast::Ident;

use crate::plan::Instruction;

use super::tree::Tree;

/// How long a program may be.
const MAX_INSTRUCTIONS: usize = 2_000;
/// How many loops a program may have.
const MAX_LOOPS: usize = 64;

impl Tree {
    /// The program, its number of loops, or why it is too large.
    pub(super) fn compile(
        &self,
        variable: &dyn Fn(&Ident) -> usize,
    ) -> Result<(Vec<Instruction>, usize), &'static str> {
        let mut compiler = Compiler {
            program: Vec::new(),
            loops: 0,
            excluded: false,
            variable,
        };
        compiler.tree(self)?;
        compiler.program.push(Instruction::Accept);
        Ok((compiler.program, compiler.loops))
    }
}

struct Compiler<'v> {
    program: Vec<Instruction>,
    loops: usize,
    /// Whether what is compiled is not given where all rows are.
    excluded: bool,
    variable: &'v dyn Fn(&Ident) -> usize,
}

impl Compiler<'_> {
    fn push(&mut self, instruction: Instruction) -> Result<usize, &'static str> {
        if self.program.len() >= MAX_INSTRUCTIONS {
            return Err("the pattern is too large: permute or repeat less");
        }
        self.program.push(instruction);
        Ok(self.program.len() - 1)
    }

    fn tree(&mut self, tree: &Tree) -> Result<(), &'static str> {
        match tree {
            Tree::Variable(name) => {
                let variable = (self.variable)(name);
                self.push(Instruction::Row {
                    variable,
                    shown: !self.excluded,
                })?;
                Ok(())
            }
            Tree::Start => self.push(Instruction::Start).map(|_| ()),
            Tree::Absent { variable, .. } => {
                let variable = (self.variable)(variable);
                self.push(Instruction::Absent(variable)).map(|_| ())
            }
            Tree::Excluded(inner) => {
                let outer = std::mem::replace(&mut self.excluded, true);
                let compiled = self.tree(inner);
                self.excluded = outer;
                compiled
            }
            Tree::Sequence(items) => items.iter().try_for_each(|item| self.tree(item)),
            Tree::Alternation(items) => {
                self.alternatives(items.len(), &mut |this, at| this.tree(&items[at]))
            }
            Tree::Permutation(items) => {
                let orders = permutations(items.len())
                    .ok_or("PERMUTE takes at most 6 parts: more have too many orders")?;
                self.alternatives(orders.len(), &mut |this, at| {
                    orders[at].iter().try_for_each(|i| this.tree(&items[*i]))
                })
            }
            Tree::Repeat {
                inner,
                min,
                max,
                greedy,
                ..
            } => self.repeat(inner, *min, *max, *greedy),
        }
    }

    /// One of several, the first preferred.
    fn alternatives(
        &mut self,
        count: usize,
        emit: &mut dyn FnMut(&mut Self, usize) -> Result<(), &'static str>,
    ) -> Result<(), &'static str> {
        let mut ends = Vec::new();
        for at in 0..count {
            if at + 1 == count {
                emit(self, at)?;
                break;
            }
            let fork = self.push(Instruction::Else(0))?;
            emit(self, at)?;
            ends.push(self.push(Instruction::Jump(0))?);
            self.program[fork] = Instruction::Else(self.program.len());
        }
        for end in ends {
            self.program[end] = Instruction::Jump(self.program.len());
        }
        Ok(())
    }

    fn repeat(
        &mut self,
        inner: &Tree,
        min: u32,
        max: Option<u32>,
        greedy: bool,
    ) -> Result<(), &'static str> {
        if (min, max) == (1, Some(1)) {
            return self.tree(inner);
        }
        let counter = self.loops;
        self.loops += 1;
        if self.loops > MAX_LOOPS {
            return Err("the pattern has more than 64 quantifiers: use fewer");
        }
        self.push(Instruction::Enter(counter))?;
        let head = self.push(Instruction::Jump(0))?;
        self.tree(inner)?;
        self.push(Instruction::Jump(head))?;
        self.program[head] = Instruction::Repeat {
            counter,
            min,
            max,
            greedy,
            exit: self.program.len(),
        };
        Ok(())
    }
}

/// The orders of so many things, as the standard prefers them; `None` if there are too many.
fn permutations(count: usize) -> Option<Vec<Vec<usize>>> {
    if count > 6 {
        return None;
    }
    let mut orders: Vec<Vec<usize>> = vec![Vec::new()];
    for _ in 0..count {
        orders = orders
            .iter()
            .flat_map(|order| {
                let rest = (0..count).filter(|i| !order.contains(i));
                rest.map(|i| order.iter().copied().chain([i]).collect())
            })
            .collect();
    }
    Some(orders)
}
