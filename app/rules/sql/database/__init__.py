"""What all tables share: the engine, transactions, statements of many rows, pages, notifications."""
