-- One worker at a time publishes the outbox: the one whose transaction has locked this row. Any login of the database can
-- take an advisory lock and so silence the events; this lock needs the right to update the table.
-- A worker of before takes the advisory lock. While it runs with newer ones, an event may be published twice, with one id.

CREATE TABLE relay (
    id smallint NOT NULL DEFAULT 1 CONSTRAINT relay_pkey PRIMARY KEY,
    CONSTRAINT relay_one_row CHECK (id = 1)
);

INSERT INTO relay DEFAULT VALUES;
