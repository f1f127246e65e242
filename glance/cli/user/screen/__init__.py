"""What `glance` prints: tables, notes, progress, questions, and the causes of errors."""
