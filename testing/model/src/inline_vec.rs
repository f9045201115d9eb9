//! A short list that can be copied and hashed without touching the heap: states are made by the million.

/// At most `N` values, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InlineVec<T, const N: usize>([Option<T>; N]);

impl<T: Copy + PartialEq, const N: usize> InlineVec<T, N> {
    /// The empty list.
    pub const EMPTY: Self = Self([None; N]);

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is room for no more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == N
    }

    /// Appends `value`.
    ///
    /// # Panics
    /// When the list is full: the scenario is too big for the model.
    pub fn push(&mut self, value: T) {
        let length = self.len();
        assert!(length < N, "the model has room for {N} of these");
        self.0[length] = Some(value);
    }

    /// The values, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> {
        self.0.iter().copied().flatten()
    }

    /// The value at this place.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<T> {
        self.0[at]
    }

    /// The value at this place, to be changed.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.0[at].as_mut()
    }

    /// The values, to be changed in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten()
    }

    /// Whether `value` is among them.
    #[must_use]
    pub fn contains(&self, value: T) -> bool {
        self.iter().any(|other| other == value)
    }
}

impl<T: Copy + PartialEq, const N: usize> FromIterator<T> for InlineVec<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut few = Self::EMPTY;
        values.into_iter().for_each(|value| few.push(value));
        few
    }
}

impl<T, const N: usize> IntoIterator for InlineVec<T, N> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<T>, N>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}
