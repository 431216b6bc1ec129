//! Iterators over what is received: the same for all kinds of receivers.

/// Makes an iterator that waits for each next one and ends at the first error, and `into_iter` of what it iterates over.
macro_rules! iterator {
    ($(#[$doc:meta])* $name:ident<$($life:lifetime,)? $message:ident> of $receiver:ty => $item:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<$($life,)? $message> {
            receiver: $receiver,
        }

        impl<$($life,)? $message: DeserializeOwned> Iterator for $name<$($life,)? $message> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                self.receiver.recv().ok()
            }
        }

        impl<$($life,)? $message: DeserializeOwned> IntoIterator for $receiver {
            type Item = $item;
            type IntoIter = $name<$($life,)? $message>;

            fn into_iter(self) -> Self::IntoIter {
                $name { receiver: self }
            }
        }
    };
}

pub(crate) use iterator;
