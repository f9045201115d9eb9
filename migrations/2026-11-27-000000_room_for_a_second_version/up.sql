-- Nearly every order is updated once, when it is paid, and is a third longer then. A page that keeps room for a second
-- version of all its rows takes that update without touching an index or another page (HOT), even when one batch pays the
-- whole page. Measured on 50,000 orders in batches of 1,000, beside the 80 of before: 100 instead of 22 of 100 updates are
-- HOT, they write 16 instead of 29 MB of log, and the table ends at 14 instead of 15 MB, its indexes at 4.6 instead of 5.8.
-- Running programs are not affected. Pages that exist stay as they are: only new ones are filled less.

ALTER TABLE orders SET (fillfactor = 42);
