//! Windows: several positions of a variant decided in one step, exactly as one after another (coupled Jacobi decoding, arXiv 2510.24211).
//!
//! A next-token model computes a row of each position; what it reads is the id before. With that id guessed, the rows of the next W positions are computed at once, and
//! every one draws its id with the noise of its own position. The first draw is right; the second is right if the first is what was guessed; and so on up to the first
//! draw that differs from its guess, which is right too. The draws behind it are the next guesses. Noise belongs to a position and rows do not depend on what is
//! beside them, so the ids are those of one position a step, whatever W and whatever the guesses.

use std::str::FromStr;

use crate::costs::StepCosts;

/// Most positions of a variant in a step.
pub const MAX_WINDOW: usize = 64;
/// Windows that [`Window::Auto`] chooses among.
const CHOICES: [usize; 11] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48];
/// How fast the chance that a guess is right follows what is seen.
const FOLLOW: f32 = 0.04;

/// How many positions of a variant are decided in one step, for plans that decide one after another. The ids do not depend on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Window {
    /// As many as pay: by what steps cost on this machine and how many guesses are right.
    #[default]
    Auto,
    /// 1 to [`MAX_WINDOW`].
    Fixed(usize),
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let number = text.parse().ok().filter(|n| (1..=MAX_WINDOW).contains(n));
        number.map(Self::Fixed).ok_or_else(|| format!("use auto or a number from 1 to {MAX_WINDOW}"))
    }
}

/// How often the guesses of a request are right, and what it chose by that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Chance that a guess is right.
    rate: f32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate: 0.5 }
    }
}

impl Pace {
    /// A guess was right, or not.
    pub fn see(&mut self, right: bool) {
        self.rate += FOLLOW * (f32::from(right) - self.rate);
    }

    /// Positions that a window of `units` decides: 1 + r + r^2 + ..
    fn expected(&self, units: usize) -> f64 {
        let rate = f64::from(self.rate.clamp(0.0, 1.0));
        (0..units as i32).map(|i| rate.powi(i)).sum()
    }

    /// The window whose step takes the least time for each position that it decides: of `others` rows beside it and `rows` for each position.
    pub fn choose(&self, costs: &StepCosts, others: usize, rows: usize) -> usize {
        let time = |units: usize| costs.seconds(others + units * rows) / self.expected(units);
        // Of equals the smallest.
        CHOICES.into_iter().min_by(|a, b| time(*a).total_cmp(&time(*b))).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses() {
        assert_eq!("auto".parse(), Ok(Window::Auto));
        assert_eq!("8".parse(), Ok(Window::Fixed(8)));
        for wrong in ["0", "65", "-1", "x", ""] {
            assert_eq!(wrong.parse::<Window>(), Err("use auto or a number from 1 to 64".to_string()), "{wrong}");
        }
    }

    #[test]
    fn chooses_by_cost_and_by_luck() {
        let luck = |right: usize| {
            let mut pace = Pace::default();
            (0..200).for_each(|i| pace.see(i % 10 < right));
            pace
        };
        // What each row beyond the first costs, of what the first does.
        let costs = |each: f64| StepCosts::new(vec![(1, 1.0), (65, 1.0 + 64.0 * each)]);
        assert_eq!(luck(0).choose(&costs(0.01), 0, 1), 1);
        assert_eq!(luck(10).choose(&costs(0.0), 0, 1), 48);
        assert_eq!(luck(8).choose(&costs(1.0), 0, 1), 1);
        let moderate = luck(8).choose(&costs(0.1), 0, 1);
        assert!((3..=8).contains(&moderate), "{moderate}");
        // Guidance doubles what a position costs.
        assert!(luck(8).choose(&costs(0.1), 0, 2) < moderate);
        // Beside others a window is worth more: the step is paid for anyway.
        assert!(luck(8).choose(&costs(0.1), 20, 1) > moderate);
    }
}
