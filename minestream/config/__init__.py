"""Options and rules as data: every choice, default, help text and check is a row of a table here."""
